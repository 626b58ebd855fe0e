// Tables that sort by their headings, scroll sideways on their own, and show long lists in parts.

import { h } from "./dom.js";

const SHOWN = 100;

// Columns: {name, cell(row) -> text or element, by(row) -> what it sorts by, number: true, wrap: true}.
export function table(caption, columns, rows, options = {}) {
  const body = h("tbody");
  const more = h("button", { type: "button", class: "plain" });
  const known = { rows: [...rows], shown: options.shown ?? SHOWN };
  const heads = columns.map((column) => heading(column, () => sort(known, column, heads, fill)));
  const fill = () => {
    const part = known.rows.slice(0, known.shown);
    body.replaceChildren(...part.map((row) => tableRow(columns, row, options)));
    more.hidden = known.rows.length <= known.shown;
    more.textContent = `Show all ${known.rows.length}`;
  };
  more.addEventListener("click", () => {
    known.shown = Infinity;
    fill();
  });
  fill();
  const made = h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body);
  const scroll = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
  return h("div", {}, scroll, more);
}

function heading(column, onsort) {
  const head = h("th", { scope: "col", class: column.number ? "number" : null });
  head.append(column.by ? h("button", { type: "button", onclick: onsort }, column.name) : column.name);
  return head;
}

function sort(known, column, heads, fill) {
  const own = heads.find((head) => head.textContent === column.name);
  const upwards = own.getAttribute("aria-sort") !== "ascending";
  for (const head of heads) head.removeAttribute("aria-sort");
  own.setAttribute("aria-sort", upwards ? "ascending" : "descending");
  known.rows.sort((a, b) => compare(column.by(a), column.by(b)) * (upwards ? 1 : -1));
  fill();
}

// What is absent goes below everything.
function compare(a, b) {
  const absent = (value) => value === null || value === undefined || Number.isNaN(value);
  if (absent(a) || absent(b)) return absent(a) - absent(b);
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b));
}

function tableRow(columns, row, options) {
  const cells = columns.map((column, place) => {
    const tag = place ? "td" : "th";
    return h(
      tag,
      { class: column.number ? "number" : column.wrap ? "wrap" : null, scope: place ? null : "row" },
      column.cell(row),
    );
  });
  return h("tr", { class: options.chosen?.(row) ? "chosen" : null }, cells);
}
