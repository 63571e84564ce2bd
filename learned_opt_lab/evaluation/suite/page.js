"use strict";
// The numbers of this page are those of the JSON inside it: a click on one says where it stands there.
const report = JSON.parse(document.getElementById("report-data").textContent);

function lookup(path) {
  return path.split(".").reduce((value, key) => value === null ? null : value[key], report);
}

for (const cell of document.querySelectorAll("[data-path]")) {
  cell.title = `${cell.dataset.path} = ${JSON.stringify(lookup(cell.dataset.path))}`;
}

function sortKey(cell) {
  const source = cell.dataset.path ? cell : cell.querySelector("[data-path]");
  // What is unknown comes last.
  if (!source) return cell.textContent === "–" ? Infinity : cell.textContent.trim();
  const value = lookup(source.dataset.path);
  return value === null ? Infinity : value;
}

function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0];
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const order = (a, b) => {
    const x = sortKey(a.cells[header.cellIndex]), y = sortKey(b.cells[header.cellIndex]);
    if (x === y) return 0;
    const less = typeof x === "string" || typeof y === "string" ? String(x).localeCompare(String(y)) < 0 : x < y;
    return less === descending ? 1 : -1;
  };
  body.append(...[...body.rows].sort(order));
}

for (const header of document.querySelectorAll("table.sortable th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}

const dialog = document.getElementById("zoom"), stage = dialog.querySelector(".stage");
let scale = 1;

function setScale(next) {
  scale = Math.min(8, Math.max(1, next));
  stage.firstElementChild.style.width = `${100 * scale}%`;
}

function enlarge(button) {
  stage.replaceChildren(button.querySelector("svg").cloneNode(true));
  dialog.querySelector("span").textContent = button.parentElement.querySelector("figcaption").textContent;
  dialog.showModal();
  setScale(1);
}

for (const button of document.querySelectorAll("figure button")) button.addEventListener("click", () => enlarge(button));
dialog.querySelector("[data-zoom=in]").addEventListener("click", () => setScale(scale * 1.5));
dialog.querySelector("[data-zoom=out]").addEventListener("click", () => setScale(scale / 1.5));
dialog.querySelector("[data-zoom=close]").addEventListener("click", () => dialog.close());
stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  setScale(scale * (event.deltaY < 0 ? 1.15 : 1 / 1.15));
}, { passive: false });
