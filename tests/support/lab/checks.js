"use strict";
// What the checks of all pages share; `check`, of the script that follows, uses the page and gives what it found.
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));

function inside(chart) {
  const box = chart.querySelector("svg").getBoundingClientRect();
  return { clientX: box.left + box.width * 0.6, clientY: box.top + box.height * 0.4, bubbles: true, cancelable: true };
}

function hovered(chart) {
  const at = inside(chart), under = document.elementFromPoint(at.clientX, at.clientY) || chart.querySelector("svg");
  for (const kind of ["pointerover", "pointermove"]) under.dispatchEvent(new PointerEvent(kind, at));
  const tooltip = document.getElementById("vg-tooltip-element");
  return tooltip && tooltip.classList.contains("visible") ? tooltip.textContent : "";
}

async function opened() {
  await ready;
  for (const details of document.querySelectorAll("details")) details.open = true;
  await new Promise((done) => setTimeout(done, 200));
  fitTables();
}

async function violations(place) {
  const axes = await axe.run(place, { runOnly: ["wcag2a", "wcag2aa"] });
  return axes.violations.map((rule) => `${rule.id}: ${rule.nodes.length} ${rule.nodes[0].html.slice(0, 160)}`);
}

addEventListener("load", () => check().catch((error) => ({ failed: String(error) })).then((found) => parent.postMessage(
  { name: `width${location.hash.slice(1)}`, found: JSON.stringify({ ...found, errors }) }, "*")));
