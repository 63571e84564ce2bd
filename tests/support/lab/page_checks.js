"use strict";
// Uses a report as a reader does.
async function check() {
  await opened();
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
    found.overSeconds = [...document.querySelectorAll(".chart[data-other] svg")].every((svg) => svg.textContent.includes("seconds"));
  }
  // Rows of a table are all alike.
  const place = { include: [["main"]], exclude: [["tbody tr:nth-child(n+4)"]] };
  found.violations = await violations(place);
  return found;
}
