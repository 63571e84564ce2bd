// What changes while runs go on: texts of cells, charts with their data, lines of trouble.
let live = JSON.parse(document.getElementById("live-data").textContent);
const every = live.refresh;
const shown = new Map();  // chart -> { spec, view }
let unit = 0;

function put(element, text) {
  // A text that stays is left alone: somebody may be copying it.
  if (element.textContent !== text) element.textContent = text;
}

function fill() {
  const rows = [...document.getElementById("runs").tBodies[0].rows];
  live.cells.forEach((row, i) => {
    row.forEach((text, j) => put(rows[i].cells[j + 1].querySelector(".value"), text));
    if (live.shares[i] !== null) rows[i].querySelector("progress").value = live.shares[i];
  });
  const list = document.getElementById("trouble"), lines = [...list.children].map((line) => line.textContent);
  if (lines.join("\n") === live.trouble.join("\n")) return;
  list.replaceChildren(...live.trouble.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

async function draw(place) {
  const name = place.dataset.chart, chart = live.charts[name];
  place.parentElement.hidden = chart === null;
  if (chart === null) return;
  const spec = chart.specs[unit], text = JSON.stringify(spec), drawn = shown.get(name);
  if (drawn?.spec === text) {
    // The view stays, and with it the zoom and the point under the pointer.
    await drawn.view.data("rows", structuredClone(chart.data)).runAsync();
    return;
  }
  drawn?.view.finalize();
  shown.set(name, { spec: text, view: await embed(place, spec, chart.data) });
}

const places = [...document.querySelectorAll(".chart")];
const drawAll = () => Promise.all(places.map(draw));
let ready = drawAll();

for (const input of document.querySelectorAll("input[name=unit]")) {
  input.addEventListener("change", () => {
    unit = Number(input.value);
    ready = ready.then(drawAll);
  });
}

async function refresh() {
  const status = document.getElementById("status"), began = performance.now();
  try {
    const answer = await fetch("data.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    live = await answer.json();
    fill();
    ready = ready.then(drawAll);
    await ready;
    const time = new Date().toLocaleTimeString();
    put(status, live.going_on ? `Live: last looked at ${time}.` : `Complete: last looked at ${time}.`);
  } catch {
    put(status, "The server does not answer: the page shows what was there when it last did.");
  }
  return performance.now() - began;
}

async function follow() {
  const took = document.hidden ? 0 : await refresh();
  setTimeout(follow, Math.max(1000 * every, 20 * took));
}

if (every !== null) setTimeout(follow, 1000 * every);
