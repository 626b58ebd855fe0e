// What there is to show of operators: each mode asks the service and answers with a chart, words and a table.
//
// {columns, moving: axes that cannot be fixed, make() -> what plotly draws or null, label, caption, empty: what to say
// without a chart, lead: what goes above, list: the table, shapes: options of the heat map, square}

import { get } from "../api.js";
import { h, notice } from "../dom.js";
import { count, digits, duration, us } from "../format.js";
import { link } from "../links.js";
import { table } from "../table.js";
import { compareChart, heatChart, lineChart, rooflineChart } from "./explorer_charts.js";
import { AXES, heatShapes, linesOf, pairsOf, rowsOf } from "./explorer_rows.js";

const COMPUTING = ["conv2d", "depthwise_conv2d", "linear", "matmul"];
const CHANNELS = ["in_channels", "out_channels"];
const SHOWN = 50;

export const MODES = {
  lines: { title: "Latency along an axis", controls: ["along", "log"], ask: lines },
  heat: { title: "Heat map in \u00d7 out channels", controls: ["shape"], ask: heat },
  compare: { title: "Compare two tables", controls: ["other"], ask: compare },
  roofline: { title: "Roofline", controls: [], ask: roofline },
};

const columnsOf = (target, type, query) => get(`/v1/targets/${target}/columns`, { type, ...query });

const without = (only, axes) => Object.fromEntries(Object.entries(only).filter(([axis]) => !axes.includes(axis)));

async function lines(asked) {
  const { along, target, type } = asked;
  const columns = await columnsOf(target, type, { ...without(asked.only, [along]), along });
  const rows = rowsOf(columns);
  const found = linesOf(rows, along);
  const steps = Object.entries(columns.steps).map(([side, step]) => `${side} channels in steps of ${step}`);
  const stairs = steps.length ? ` The target computes ${steps.join(", ")} (dotted).` : "";
  return {
    columns,
    moving: [along],
    label: `Latency of ${type} along ${AXES[along]}`,
    caption: `Lines join operators that differ in this axis only; open circles are doubted.${stairs}`,
    make: found.length ? () => lineChart(found, columns.steps, along, asked.log === "1") : null,
    empty:
      "No two of these operators differ in this axis only: choose another axis, or measure a grid along it with " +
      "'chamnet profile --ops FILE.toml'.",
    lead: limitNotice(columns),
    list: operatorTable(rows, target),
  };
}

async function heat(asked) {
  const query = { ...without(asked.only, CHANNELS), along: "out_channels" };
  const columns = await columnsOf(asked.target, asked.type, query);
  const shapes = heatShapes(rowsOf(columns));
  const chosen = shapes[Number(asked.shape)] ?? shapes[0] ?? { rows: [], name: "" };
  return {
    columns,
    moving: CHANNELS,
    shapes: shapes.map((one, place) => [place, `${one.name} (${one.rows.length} operators)`]),
    label: `Latency of ${asked.type} by channels, ${chosen.name}`,
    caption: "Empty fields were not measured.",
    make: chosen.rows.length ? () => heatChart(chosen.rows) : null,
    empty: "No operator of this type has channels.",
    lead: limitNotice(columns),
    list: operatorTable(chosen.rows, asked.target),
  };
}

async function compare(asked, all) {
  const { target, other, type } = asked;
  if (target === other) {
    return { empty: "Choose two tables: 'chamnet profile' with another --engine, --dtype or --device makes another." };
  }
  const { types } = await get(`/v1/targets/${other}/types`);
  if (!types.some((row) => row.type === type))
    return { empty: `Only one of the tables has operators of type ${type}.` };
  const [left, right] = await Promise.all(
    [target, other].map((id) => columnsOf(id, type, { ...asked.only, limit: 20000 })),
  );
  const pairs = pairsOf(rowsOf(left), rowsOf(right));
  const [one, two] = [target, other].map((id) => all.find((row) => row.id === id).name);
  return {
    columns: left,
    moving: [],
    square: true,
    label: `Latency of ${pairs.length} operators on two tables`,
    caption: "On the line both take the same time.",
    make: pairs.length ? () => compareChart(pairs, one, two) : null,
    empty: "No operator of this type is in both tables: measure the same space on both.",
    lead: pairs.length ? h("p", {}, ratioInWords(pairs, one, two)) : null,
    list: pairs.length ? pairTable(pairs, target) : null,
  };
}

async function roofline(asked) {
  const types = [...new Set([asked.type, ...COMPUTING])].filter((type) => asked.types.includes(type));
  const query = (type) => ({ limit: 2000, ...(type === asked.type ? asked.only : {}) });
  const all = await Promise.all(types.map((type) => columnsOf(asked.target, type, query(type))));
  const rows = all.flatMap(rowsOf).filter((row) => row.macs && row.latency_ns);
  return {
    columns: all[0],
    moving: [],
    label: "Rate of computing against intensity",
    caption:
      "The line is the best rate seen at that intensity or below: on its slope memory limits it, on its plateau arithmetic.",
    make: rows.length ? () => rooflineChart(rows) : null,
    empty: "Operators of these types do not multiply, so a roofline has nothing to show.",
    list: operatorTable(rows, asked.target),
  };
}

function limitNotice(columns) {
  if (columns.key.length >= columns.fitting) return null;
  const text = `${count(columns.key.length)} of ${count(columns.fitting)} operators are drawn, those of the longest lines first: fix a number to see others.`;
  return notice("", h("p", {}, text));
}

function ratioInWords(pairs, one, two) {
  const ratios = pairs.map((pair) => pair.ratio).sort((a, b) => a - b);
  const [low, middle, high] = [0, Math.floor(ratios.length / 2), ratios.length - 1].map((at) => ratios[at].toFixed(2));
  return `${count(pairs.length)} operators are in both: ${two} takes ${middle} times as long as ${one} at the median, from ${low} to ${high}.`;
}

const keyLink = (key, target) =>
  h("a", { href: link("measurement", { target, key }) }, h("span", { class: "key" }, key));

function operatorTable(rows, target) {
  const number = (name, by, form) => ({ name, number: true, by, cell: (row) => form(by(row)) });
  const columns = [
    { name: "operator", cell: (row) => keyLink(row.key, target), by: (row) => row.key },
    number("latency \u00b5s", (row) => row.latency_ns, us),
    number("\u00b1 \u00b5s", (row) => row.mad_ns, us),
    number("MMACs", (row) => row.macs / 1e6, digits),
    number("GMAC/s", (row) => (row.latency_ns ? row.macs / row.latency_ns : 0), digits),
    number("KB moved", (row) => row.bytes / 1e3, digits),
    { name: "doubts", cell: (row) => row.doubts, by: (row) => row.doubts },
  ];
  return table(`${count(rows.length)} operators`, columns, rows, { shown: SHOWN });
}

function pairTable(pairs, target) {
  const columns = [
    { name: "operator", cell: (pair) => keyLink(pair.key, target), by: (pair) => pair.key },
    { name: "latency", number: true, cell: (pair) => duration(pair.left), by: (pair) => pair.left },
    { name: "against", number: true, cell: (pair) => duration(pair.right), by: (pair) => pair.right },
    { name: "ratio", number: true, cell: (pair) => pair.ratio.toFixed(2), by: (pair) => pair.ratio },
  ];
  return table("Operators in both tables", columns, pairs, { shown: SHOWN });
}
