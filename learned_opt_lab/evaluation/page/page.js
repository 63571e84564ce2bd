// The numbers of this page are those of the JSON inside it: resting on one says where it stands there.
const report = JSON.parse(document.getElementById("report-data").textContent);
const drawn = JSON.parse(document.getElementById("charts-data").textContent);

function lookup(path) {
  return path.split(".").reduce((value, key) => value === null ? null : value[key], report);
}

for (const cell of document.querySelectorAll("[data-path]")) {
  cell.title = `${cell.dataset.path} = ${JSON.stringify(lookup(cell.dataset.path))}`;
}

// Tables: sorted by their headings, and as CSV.

function sortKey(cell) {
  const source = cell.classList.contains("text") ? null : cell.querySelector("[data-path]");
  // Infinity is what is unknown, and comes last in either direction.
  if (!source) return cell.classList.contains("text") ? cell.textContent.trim() : Infinity;
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
    if (x === Infinity || y === Infinity) return x === Infinity ? 1 : -1;
    const less = typeof x === "string" || typeof y === "string" ? String(x).localeCompare(String(y)) < 0 : x < y;
    return less === descending ? 1 : -1;
  };
  body.append(...[...body.rows].sort(order));
}

for (const header of document.querySelectorAll("table.sortable th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}

function flatten(value, path, into) {
  if (Array.isArray(value)) into[path] = value.map((item) => typeof item === "object" ? JSON.stringify(item) : item).join(" ");
  else if (value !== null && typeof value === "object") {
    for (const key of Object.keys(value)) flatten(value[key], path ? `${path}.${key}` : key, into);
  } else into[path] = value;
  return into;
}

function quoted(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  // Programs that show CSV take these for the start of a formula.
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return `"${text.replaceAll('"', '""')}"`;
}

function csvOf(path) {
  const rows = lookup(path).map((row) => flatten(row, "", {}));
  const columns = [...new Set(rows.flatMap(Object.keys))];
  const lines = [columns.map(quoted), ...rows.map((row) => columns.map((column) => quoted(row[column])))];
  return lines.map((line) => line.join(",")).join("\r\n") + "\r\n";
}

for (const button of document.querySelectorAll("button.csv")) {
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", csvOf(button.dataset.rows)], { type: "text/csv;charset=utf-8" }));
    link.download = `${button.dataset.table}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

// Charts: drawn where they are first seen, since one that is hidden has no width.

function draw(place) {
  const { spec, data } = drawn.specs[place.dataset.chart];
  return embed(place, spec, drawn.data[data]);
}

const places = [...document.querySelectorAll(".chart")];
let ready = Promise.all(places.map(draw));

for (const input of document.querySelectorAll("input[name=unit]")) {
  input.addEventListener("change", () => {
    const switched = places.filter((place) => place.dataset.other);
    for (const place of switched) {
      [place.dataset.chart, place.dataset.other] = [place.dataset.other, place.dataset.chart];
      for (const caption of place.parentElement.querySelectorAll("figcaption span")) caption.hidden = !caption.hidden;
    }
    ready = Promise.all(switched.map(draw));
  });
}
