"use strict";
// Uses a report as a reader does, and tells the frame around it what was found.
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));

function hovered(chart) {
  const box = chart.querySelector("svg").getBoundingClientRect();
  const at = { clientX: box.left + box.width * 0.6, clientY: box.top + box.height * 0.4, bubbles: true };
  const under = document.elementFromPoint(at.clientX, at.clientY) || chart.querySelector("svg");
  for (const kind of ["pointerover", "pointermove"]) under.dispatchEvent(new PointerEvent(kind, at));
  const tooltip = document.getElementById("vg-tooltip-element");
  return tooltip && tooltip.classList.contains("visible") ? tooltip.textContent : "";
}

async function check() {
  await ready;
  for (const details of document.querySelectorAll("details")) details.open = true;
  await new Promise((done) => setTimeout(done, 200));
  fitTables();
  const heading = document.querySelector("table[id$=rows] th:nth-child(4) button");
  heading.click();
  const rows = [...document.querySelectorAll("table[id$=rows]")[0].tBodies[0].rows];
  const charts = [...document.querySelectorAll(".chart")];
  const last = charts[charts.length - 1];
  last.scrollIntoView();
  const found = {
    sorted: rows.map((row) => row.cells[3].querySelector("span")?.textContent ?? "–"),
    titles: document.querySelectorAll("[data-path][title]").length,
    paths: document.querySelectorAll("[data-path]").length,
    charts: charts.length,
    drawn: charts.filter((chart) => chart.querySelector("svg")).length,
    tooltip: hovered(last),
    overflow: document.documentElement.scrollWidth - innerWidth,
    cut: [...document.querySelectorAll(".table, figure, .chart")]
      .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.outerHTML.slice(0, 80)),
    cards: document.querySelectorAll(".cards").length,
    csv: Object.fromEntries([...document.querySelectorAll("button.csv")]
      .map((button) => [button.dataset.table, csvOf(button.dataset.rows)])),
    scripts: document.scripts.length,
    fetched: performance.getEntriesByType("resource").map((entry) => entry.name),
  };
  const inputs = document.querySelectorAll("input[name=unit]");
  if (inputs.length) {
    inputs[1].click();
    await ready;
    found.overSeconds = document.querySelector(".chart[data-other] svg").textContent.includes("seconds of training");
  }
  // Rows of a table are all alike.
  const place = { include: [["main"]], exclude: [["tbody tr:nth-child(n+4)"]] };
  const axes = await axe.run(place, { runOnly: ["wcag2a", "wcag2aa"] });
  found.violations = axes.violations.map((rule) => `${rule.id}: ${rule.nodes.length} ${rule.nodes[0].html.slice(0, 160)}`);
  return found;
}

check().catch((error) => ({ failed: String(error) })).then((found) => parent.postMessage(
  { name: `width${location.hash.slice(1)}`, found: JSON.stringify({ ...found, errors }) }, "*"));
