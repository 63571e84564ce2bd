"use strict";
// What all pages share: tables that become cards where they would be cut, and charts.

function fit(frame) {
  frame.classList.remove("cards");
  if (frame.scrollWidth > frame.clientWidth) frame.classList.add("cards");
}

function fitTables() {
  for (const frame of document.querySelectorAll(".table")) fit(frame);
}

for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", fitTables);
addEventListener("resize", fitTables);
fitTables();

function withNames(vega) {
  // The cells around points hold their point as `datum.datum`; Vega-Lite 6.4 forgets it for words.
  for (const mark of vega.marks ?? []) {
    withNames(mark);
    const tooltip = mark.encode?.update?.tooltip;
    if (!(mark.transform ?? []).some((step) => step.type === "voronoi") || !tooltip?.signal) continue;
    tooltip.signal = tooltip.signal.replace(/(?<!\.)\bdatum\[/g, "datum.datum[");
  }
  return vega;
}

async function embed(place, spec, rows) {
  // The view that is drawn at `place`; its data go by the name "rows".
  const options = { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false,
    tooltip: { disableDefaultStyle: true }, patch: withNames };
  try {
    const data = { name: "rows", values: structuredClone(rows) };
    return (await vegaEmbed(place, { ...spec, data }, options)).view;
  } catch (error) {
    place.classList.add("failed");
    throw error;
  }
}
