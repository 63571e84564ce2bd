"use strict";
// Uses a page of runs as a reader does, and gives it newer rows as a server would.
const domain = (name) => shown.get(name).view.scale("x").domain();

async function check() {
  await opened();
  const charts = places.filter((place) => !place.parentElement.hidden), first = charts[0];
  first.scrollIntoView();
  const whole = domain("outer_loss"), at = inside(first);
  const wheel = (options) => (document.elementFromPoint(at.clientX, at.clientY) ?? first.querySelector("svg"))
    .dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: -300, ...options }));
  wheel({});
  await shown.get("outer_loss").view.runAsync();
  const scrolled = domain("outer_loss");
  wheel({ shiftKey: true });
  await shown.get("outer_loss").view.runAsync();
  const zoomed = domain("outer_loss");
  const found = {
    drawn: charts.filter((chart) => chart.querySelector("svg")).map((chart) => chart.dataset.chart),
    tooltip: hovered(first), whole, scrolled, zoomed,
  };
  const next = document.getElementById("next-data");
  if (next) {
    globalThis.fetch = async () => ({ ok: true, json: async () => JSON.parse(next.textContent) });
    const before = shown.get("outer_loss").view;
    await refresh();
    found.kept = domain("outer_loss");
    found.sameView = shown.get("outer_loss").view === before;
    found.rows = before.data("rows").length;
    found.hover = before.data("hover_store").length;
    found.cells = [...document.querySelectorAll("#runs .value")].map((cell) => cell.textContent);
    globalThis.fetch = async () => { throw new Error("gone"); };
    await refresh();
    found.status = document.getElementById("status").textContent;
  }
  document.querySelectorAll("input[name=unit]")[2].click();
  await ready;
  found.overSeconds = first.textContent.includes("seconds of outer steps");
  found.overflow = document.documentElement.scrollWidth - innerWidth;
  found.cut = [...document.querySelectorAll(".table, figure:not([hidden]), .chart")]
    .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.outerHTML.slice(0, 80));
  found.outside = charts.filter((chart) => chart.querySelector("svg").getBoundingClientRect().width > chart.clientWidth + 1).length;
  found.fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.violations = await violations({ include: [["main"]] });
  return found;
}
