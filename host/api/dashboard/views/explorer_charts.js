// From columns of operators to what plotly draws. Nothing here asks the service or touches the page.

import { color, logAxis, seriesColor } from "../charts.js";
import { digits, duration } from "../format.js";

export const AXES = {
  in_channels: "in channels", out_channels: "out channels", height: "height", width: "width", kernel: "kernel",
  stride: "stride", groups: "groups",
};
const SIDES = { in_channels: "in", out_channels: "out" };
const LINES = 10;
const MOST_STEPS = 80;

// One object an operator.
export function rowsOf(columns) {
  const names = [...Object.keys(AXES), "key", "rest", "line", "macs", "bytes", "latency_ns", "mad_ns", "doubts", "label"];
  return columns.key.map((_, place) => ({ type: columns.type, ...Object.fromEntries(names.map((name) => [name, columns[name][place]])) }));
}

function groupBy(rows, of) {
  const groups = new Map();
  for (const row of rows) {
    const key = of(row);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return [...groups.values()];
}

// What a line's operators have in common, in words.
function common(row, but) {
  const size = row.height === null || but.includes("height") ? "" : `${row.height}\u00d7${row.width}`;
  const channels = [["in_channels", "in"], ["out_channels", "out"]].map(([axis, word]) => (row[axis] === null || but.includes(axis) ? "" : `${row[axis]} ${word}`));
  const kernel = row.kernel === null || but.includes("kernel") ? "" : `k${row.kernel}`;
  const stride = row.stride === null || but.includes("stride") ? "" : `s${row.stride}`;
  const groups = row.groups > 1 && !but.includes("groups") ? `g${row.groups}` : "";
  return [size, ...channels, kernel, stride, groups, row.rest].filter(Boolean).join(" ");
}

const hover = (row) => `${row.key}<br>${duration(row.latency_ns)} \u00b1 ${duration(row.mad_ns)}${row.doubts ? `<br>${row.doubts}` : ""}`;

export function lineChart(rows, steps, along, logarithmic) {
  const lines = groupBy(rows.filter((row) => row[along] !== null), (row) => row.line).filter((line) => line.length > 1);
  const longest = lines.sort((a, b) => b.length - a.length).slice(0, LINES);
  for (const line of longest) line.sort((a, b) => a[along] - b[along]);
  const make = () => {
    const axis = (title, of) => (logarithmic ? logAxis(title, longest.flat().map(of)) : { title, rangemode: "tozero" });
    const [xaxis, yaxis] = [axis(AXES[along], (row) => row[along]), axis("latency, \u00b5s", (row) => row.latency_ns / 1e3)];
    const layout = { xaxis, yaxis, hovermode: "closest", shapes: treads(longest, steps, along) };
    return { data: longest.map((line, place) => lineTrace(line, along, place)), layout };
  };
  return { data: longest, make, empty: "No two of these operators differ in this axis only: measure a grid along it ('chamnet profile --ops FILE.toml'), or choose another axis." };
}

function lineTrace(line, along, place) {
  const moving = along === "height" ? ["height", "width"] : [along];
  if (along in SIDES && line.every((row) => row.in_channels === row.out_channels)) moving.push("in_channels", "out_channels");
  return {
    type: "scatter", mode: "lines+markers", name: common(line[0], moving), x: line.map((row) => row[along]),
    y: line.map((row) => row.latency_ns / 1e3), error_y: { type: "data", array: line.map((row) => row.mad_ns / 1e3), thickness: 1, width: 2 },
    text: line.map(hover), customdata: line.map((row) => row.key), hovertemplate: "%{text}<extra></extra>",
    line: { color: seriesColor(place), width: 1.5, dash: place >= 8 ? "dash" : "solid" },
    marker: { color: seriesColor(place), size: 6, symbol: line.map((row) => (row.doubts ? "circle-open" : "circle")) },
  };
}

// Dotted lines where a stair of the target ends.
function treads(lines, steps, along) {
  const step = steps[SIDES[along]];
  if (!step) return [];
  const highest = Math.max(0, ...lines.flat().map((row) => row[along]));
  const ends = Array.from({ length: Math.min(MOST_STEPS, Math.floor(highest / step)) }, (_, place) => step * (place + 1));
  return ends.map((x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", layer: "below", line: { color: color("idle"), width: 1, dash: "dot" } }));
}

// Groups of operators that differ in channels only, the largest first.
export function heatShapes(rows) {
  const shape = (row) => [row.height, row.width, row.kernel, row.stride, row.groups, row.rest].join(" ");
  const groups = groupBy(rows.filter((row) => row.in_channels !== null && row.out_channels !== null), shape);
  return groups.sort((a, b) => b.length - a.length).map((group) => ({ rows: group, name: common(group[0], ["in_channels", "out_channels"]) }));
}

export function heatChart(rows) {
  const values = (axis) => [...new Set(rows.map((row) => row[axis]))].sort((a, b) => a - b);
  const [ins, outs] = [values("in_channels"), values("out_channels")];
  const cell = new Map(rows.map((row) => [`${row.in_channels} ${row.out_channels}`, row]));
  const grid = (of) => ins.map((i) => outs.map((o) => (cell.has(`${i} ${o}`) ? of(cell.get(`${i} ${o}`)) : null)));
  const make = () => ({
    data: [{
      type: "heatmap", x: outs.map(String), y: ins.map(String), z: grid((row) => row.latency_ns / 1e3), text: grid(hover), customdata: grid((row) => row.key),
      hovertemplate: "%{y} in, %{x} out<br>%{text}<extra></extra>", colorscale: "Viridis", hoverongaps: false, xgap: 1, ygap: 1,
      colorbar: { title: { text: "\u00b5s" }, thickness: 12, outlinewidth: 0 },
    }],
    layout: { xaxis: { title: "out channels", type: "category" }, yaxis: { title: "in channels", type: "category" } },
  });
  return { data: rows, make, empty: "No operator of this type has channels." };
}

// Operators of two tables that are the same but for the element type.
export function compared(left, right) {
  const plain = (row) => row.key.replace(/;[a-z0-9]+\)$/, ")");
  const others = new Map(right.map((row) => [plain(row), row]));
  const pairs = left.map((row) => [row, others.get(plain(row))]).filter(([one, other]) => other && one.latency_ns && other.latency_ns);
  return pairs.map(([one, other]) => ({ key: one.key, left: one.latency_ns, right: other.latency_ns, ratio: other.latency_ns / one.latency_ns }));
}

export function compareChart(pairs, left, right) {
  const all = pairs.flatMap((pair) => [pair.left, pair.right]).map((ns) => ns / 1e3);
  const axis = logAxis("", all);
  const ends = axis.range.map((power) => 10 ** power);
  const same = { type: "scatter", mode: "lines", x: ends, y: ends, hoverinfo: "skip", showlegend: false, line: { color: color("quiet"), width: 1 } };
  const points = {
    type: "scatter", mode: "markers", x: pairs.map((pair) => pair.left / 1e3), y: pairs.map((pair) => pair.right / 1e3), showlegend: false,
    text: pairs.map((pair) => `${pair.key}<br>${duration(pair.left)} against ${duration(pair.right)}: ${pair.ratio.toFixed(2)}`), customdata: pairs.map((pair) => pair.key),
    hovertemplate: "%{text}<extra></extra>", marker: { size: 7, opacity: 0.75, color: seriesColor(0) },
  };
  return { data: [same, points], layout: { xaxis: { ...axis, title: `${left}, \u00b5s` }, yaxis: { ...axis, title: `${right}, \u00b5s` }, hovermode: "closest" } };
}

export function rooflineChart(rows) {
  const points = rows.map((row) => ({ ...row, intensity: row.macs / row.bytes, rate: row.macs / row.latency_ns }));
  const make = () => {
    const traces = groupBy(points, (row) => row.type).map((group, place) => ({
      type: "scatter", mode: "markers", name: group[0].type, x: group.map((row) => row.intensity), y: group.map((row) => row.rate),
      text: group.map((row) => `${hover(row)}<br>${digits(row.rate)} GMAC/s at ${digits(row.intensity)} MACs a byte`), customdata: group.map((row) => row.key),
      hovertemplate: "%{text}<extra></extra>", marker: { size: 7, opacity: 0.75, color: seriesColor(place) },
    }));
    const xaxis = logAxis("multiply-accumulates a byte", points.map((row) => row.intensity));
    const yaxis = logAxis("GMAC/s", points.map((row) => row.rate));
    return { data: [roof(points), ...traces], layout: { xaxis, yaxis, hovermode: "closest" } };
  };
  return { data: points, make, empty: "Operators of these types do not multiply: a roofline has nothing to show." };
}

function roof(points) {
  const ordered = [...points].sort((a, b) => a.intensity - b.intensity);
  let best = 0;
  const y = ordered.map((row) => (best = Math.max(best, row.rate)));
  return { type: "scatter", mode: "lines", name: "best so far", x: ordered.map((row) => row.intensity), y, hoverinfo: "skip", line: { color: color("quiet"), width: 1 } };
}
