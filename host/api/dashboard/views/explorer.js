// Operators of one type: latency along an axis, a heat map of channels, two tables against each other, a roofline.

import { get } from "../api.js";
import { draw } from "../charts.js";
import { chooseTarget, nothingMeasured, targetSelect, targets } from "../choices.js";
import { checkbox, field, h, notice, select, setOptions } from "../dom.js";
import { count, digits, duration, us } from "../format.js";
import { link } from "../links.js";
import { problemNotice } from "../problem.js";
import { table } from "../table.js";
import { AXES, compared, compareChart, heatChart, heatShapes, lineChart, rooflineChart, rowsOf } from "./explorer_charts.js";

const MODES = { lines: "Latency along an axis", heat: "Heat map in \u00d7 out channels", compare: "Compare two tables", roofline: "Roofline" };
const COMPUTING = ["conv2d", "depthwise_conv2d", "linear", "matmul"];

export async function show(page) {
  const all = await targets();
  if (!all.length) return page.put(nothingMeasured());
  const { query } = page;
  const form = controls(all, query);
  const fixed = h("fieldset", {}, h("legend", {}, "Only operators with"));
  const shape = field("Shape of the map", select([], ""));
  const result = h("div");
  const state = { page, all, form, fixed, shape, result };
  page.put(h("div", { class: "controls" }, ...Object.values(form).map((one) => one.row)), fixed, shape, result);
  form.target.box.addEventListener("change", () => listTypes(state).then(() => refresh(state)));
  for (const name of ["mode", "type", "along", "other", "log"]) form[name].box.addEventListener("change", () => refresh(state, name === "type"));
  shape.querySelector("select").addEventListener("change", () => refresh(state));
  await listTypes(state);
  await refresh(state);
}

function controls(all, query) {
  const labelled = (label, box) => ({ box, row: field(label, box) });
  const target = chooseTarget(all, query.target);
  const others = all.filter((one) => one.id !== target.id);
  const log = checkbox("logarithmic", { checked: query.log === "1" });
  return {
    mode: labelled("Show", select(Object.entries(MODES), query.mode ?? "lines")),
    target: labelled("Table", targetSelect(all, target.id)),
    type: labelled("Operator type", select([], "")),
    along: labelled("Along", select(Object.entries(AXES), query.along ?? "out_channels")),
    other: labelled("Against", targetSelect(others.length ? others : all, query.other ?? others[0]?.id)),
    log: { box: log.box, row: log },
  };
}

async function listTypes({ form, page }) {
  const { types } = await get(`/v1/targets/${form.target.box.value}/types`);
  const wanted = form.type.box.value || page.query.type || "conv2d";
  setOptions(form.type.box, types.map((row) => [row.type, `${row.type} (${count(row.operators)})`]), wanted);
}

async function refresh(state, forget = false) {
  const { page, form, result, fixed } = state;
  const asked = Object.fromEntries(Object.entries(form).map(([name, one]) => [name, one.box.value]));
  asked.log = form.log.box.checked ? "1" : "";
  const { mode } = asked;
  form.along.row.hidden = mode !== "lines";
  form.other.row.hidden = mode !== "compare";
  form.log.row.hidden = mode !== "lines";
  state.shape.hidden = mode !== "heat";
  const only = forget ? {} : fixedOf(fixed, page.query);
  page.remember({ ...asked, ...Object.fromEntries(Object.keys(AXES).map((axis) => [axis, only[axis] ?? ""])) });
  state.turn = (state.turn ?? 0) + 1;
  const turn = state.turn;
  try {
    if (!asked.type) return result.replaceChildren(notice("", h("p", {}, "No operator is in this table yet.")));
    const parts = await MODE[mode](state, asked, only);
    if (turn === state.turn && !page.signal.aborted) await parts();
  } catch (error) {
    result.replaceChildren(problemNotice(error));
  }
}

// The numbers that a person fixed, by axis; at first those of the address.
function fixedOf(fixed, query) {
  const boxes = [...fixed.querySelectorAll("select")];
  const told = boxes.length ? boxes.map((box) => [box.name, box.value]) : Object.keys(AXES).map((axis) => [axis, query[axis]]);
  return Object.fromEntries(told.filter(([, value]) => value));
}

const fetchColumns = (target, type, query) => get(`/v1/targets/${target}/columns`, { type, ...query });

function showFixed(state, columns, only, but = []) {
  const same = (one, other) => columns[one].every((value, place) => value === columns[other][place]);
  const follows = { width: "height", out_channels: "in_channels" };
  const free = (axis) => !but.includes(axis) && !(follows[axis] && same(axis, follows[axis]));
  const facets = columns.facets.filter((facet) => facet.values.length > 1 && free(facet.axis));
  const rows = facets.map((facet) => {
    const options = [["", "any"], ...facet.values.map((value) => [value, value])];
    return field(AXES[facet.axis], select(options, only[facet.axis] ?? "", { name: facet.axis, onchange: () => refresh(state) }));
  });
  const focused = document.activeElement?.name;
  state.fixed.replaceChildren(state.fixed.firstChild, ...rows);
  state.fixed.hidden = !rows.length;
  state.fixed.querySelector(`[name="${focused}"]`)?.focus();
}

function goTo(state, target) {
  return (key) => key && (location.hash = link("measurement", { target, key }));
}

const MODE = {
  async lines(state, asked, only) {
    const query = { ...only, along: asked.along };
    delete query[asked.along];
    const columns = await fetchColumns(asked.target, asked.type, query);
    return async () => {
      showFixed(state, columns, query, [asked.along]);
      const rows = rowsOf(columns);
      const made = lineChart(rows, columns.steps, asked.along, asked.log === "1");
      const words = "Lines join operators that differ in this axis only.";
      await present(state, columns, rows, made, `Latency of ${asked.type} along ${AXES[asked.along]}`, words, asked.target);
    };
  },
  async heat(state, asked, only) {
    const query = { ...only };
    for (const axis of ["in_channels", "out_channels"]) delete query[axis];
    const columns = await fetchColumns(asked.target, asked.type, { ...query, along: "out_channels" });
    return async () => {
      showFixed(state, columns, query, ["in_channels", "out_channels"]);
      const shapes = heatShapes(rowsOf(columns));
      const box = state.shape.querySelector("select");
      setOptions(box, shapes.map((one, place) => [place, `${one.name} (${one.rows.length} operators)`]), box.value || 0);
      const chosen = shapes[Number(box.value)] ?? { rows: [], name: "" };
      const made = heatChart(chosen.rows);
      await present(state, columns, chosen.rows, made, `Latency of ${asked.type} by channels, ${chosen.name}`, "", asked.target);
    };
  },
  async compare(state, asked, only) {
    const ask = (target) => fetchColumns(target, asked.type, { ...only, limit: 20000 }).catch((error) => (error.status === 404 ? null : Promise.reject(error)));
    const [left, right] = await Promise.all([ask(asked.target), ask(asked.other)]);
    return () => showComparison(state, asked, only, left, right);
  },
  async roofline(state, asked, only) {
    const known = [...state.form.type.box.options].map((option) => option.value);
    const types = [...new Set([asked.type, ...COMPUTING])].filter((type) => known.includes(type));
    const all = await Promise.all(types.map((type) => fetchColumns(asked.target, type, { limit: 2000, ...(type === asked.type ? only : {}) })));
    return async () => {
      showFixed(state, all[0], only);
      const rows = all.flatMap(rowsOf).filter((row) => row.macs && row.latency_ns);
      const words = "The line is the best rate seen at that intensity or below: memory limits on its slope, arithmetic on its plateau.";
      await present(state, all[0], rows, rooflineChart(rows), "Rate of computing against intensity", words, asked.target);
    };
  },
};

async function present(state, columns, rows, made, label, words, target) {
  const chart = h("div", { class: "chart tall" });
  const limited = columns.key.length < columns.fitting;
  const note = limited ? notice("", h("p", {}, `${count(columns.key.length)} of ${count(columns.fitting)} operators are drawn, the longest lines first: fix a number to see the others.`)) : null;
  const steps = Object.entries(columns.steps).map(([side, step]) => `${side} channels in steps of ${step}`).join(", ");
  const caption = [words, steps ? `Staircase: ${steps} (dotted).` : ""].filter(Boolean).join(" ");
  const parts = [note, made.data.length ? h("figure", {}, chart, h("figcaption", {}, caption)) : notice("", h("p", {}, made.empty)), operatorTable(rows, target)];
  state.result.replaceChildren(...parts.filter(Boolean));
  if (made.data.length) await draw(chart, label, made.make, goTo(state, target));
}

function operatorTable(rows, target) {
  const number = (name, value, form) => ({ name, number: true, cell: (r) => form(value(r)), by: value });
  const columns = [
    { name: "operator", cell: (r) => keyLink(r.key, target), by: (r) => r.key },
    number("latency \u00b5s", (r) => r.latency_ns, us),
    number("\u00b1 \u00b5s", (r) => r.mad_ns, us),
    number("MMACs", (r) => r.macs / 1e6, digits),
    number("GMAC/s", (r) => (r.latency_ns ? r.macs / r.latency_ns : null), (v) => (v === null ? "" : digits(v))),
    number("KB moved", (r) => r.bytes / 1e3, digits),
    { name: "doubts", cell: (r) => r.doubts, by: (r) => r.doubts },
  ];
  return table(`${count(rows.length)} operators`, columns, rows, { shown: 50 });
}

const keyLink = (key, target) => h("a", { href: link("measurement", { target, key }) }, h("span", { class: "key" }, key));

async function showComparison(state, asked, only, left, right) {
  const nothing = (text) => state.result.replaceChildren(notice("", h("p", {}, text)));
  if (!left || !right) return nothing(`Only one of the tables has operators of type ${asked.type}.`);
  if (asked.target === asked.other) return nothing("Choose two different tables; 'chamnet profile' with another --engine, --dtype or --device makes another.");
  showFixed(state, left, only);
  const pairs = compared(rowsOf(left), rowsOf(right));
  if (!pairs.length) return nothing("No operator of this type is in both tables. Measure the same space on both, then compare.");
  const name = (id) => state.all.find((one) => one.id === id).name;
  const ratios = pairs.map((pair) => pair.ratio).sort((a, b) => a - b);
  const middle = ratios[Math.floor(ratios.length / 2)];
  const chart = h("div", { class: "chart square" });
  const columns = [
    { name: "operator", cell: (p) => keyLink(p.key, asked.target), by: (p) => p.key },
    { name: "latency", number: true, cell: (p) => duration(p.left), by: (p) => p.left },
    { name: "against", number: true, cell: (p) => duration(p.right), by: (p) => p.right },
    { name: "ratio", number: true, cell: (p) => p.ratio.toFixed(2), by: (p) => p.ratio },
  ];
  state.result.replaceChildren(
    h("p", {}, `${count(pairs.length)} operators are in both: ${name(asked.other)} takes ${middle.toFixed(2)} times as long as ${name(asked.target)} at the median, from ${ratios[0].toFixed(2)} to ${ratios.at(-1).toFixed(2)}.`),
    h("figure", {}, chart, h("figcaption", {}, "On the line both take the same time.")),
    table("Operators in both tables", columns, pairs, { shown: 50 }),
  );
  await draw(chart, `Latency on two tables of ${pairs.length} operators`, () => compareChart(pairs, name(asked.target), name(asked.other)), goTo(state, asked.target));
}
