// Rows of operators as what plotly draws. Nothing here asks the service or touches the page.

import { color, logAxis, seriesColor } from "../charts.js";
import { digits, duration } from "../format.js";
import { AXES, groupBy, inWords } from "./explorer_rows.js";

const SIDES = { in_channels: "in", out_channels: "out" };
const MOST_STEPS = 80;
const DASHED = 8;

function hover(row) {
  const doubts = row.doubts ? `<br>${row.doubts}` : "";
  return `${row.key}<br>${duration(row.latency_ns)} \u00b1 ${duration(row.mad_ns)}${doubts}`;
}

const points = (x, y, texts, keys) => ({
  type: "scatter",
  mode: "markers",
  x,
  y,
  text: texts,
  customdata: keys,
  hovertemplate: "%{text}<extra></extra>",
});

export function lineChart(lines, steps, along, logarithmic) {
  const rows = lines.flat();
  const axis = (title, of) => (logarithmic ? logAxis(title, rows.map(of)) : { title, rangemode: "tozero" });
  const layout = {
    xaxis: axis(AXES[along], (row) => row[along]),
    yaxis: axis("latency, \u00b5s", (row) => row.latency_ns / 1e3),
    hovermode: "closest",
    shapes: treads(rows, steps[SIDES[along]], along),
  };
  return { data: lines.map((line, place) => lineTrace(line, along, place)), layout };
}

function lineTrace(line, along, place) {
  const x = line.map((row) => row[along]);
  const y = line.map((row) => row.latency_ns / 1e3);
  const doubted = line.map((row) => (row.doubts ? "circle-open" : "circle"));
  return {
    ...points(
      x,
      y,
      line.map(hover),
      line.map((row) => row.key),
    ),
    mode: "lines+markers",
    name: inWords(line[0], movingWith(line, along)),
    error_y: { type: "data", array: line.map((row) => row.mad_ns / 1e3), thickness: 1, width: 2 },
    line: { color: seriesColor(place), width: 1.5, dash: place >= DASHED ? "dash" : "solid" },
    marker: { color: seriesColor(place), size: 6, symbol: doubted },
  };
}

// Square images stay square, and channels that come out as they go in move together.
function movingWith(line, along) {
  if (along === "height" || along === "width") return ["height", "width"];
  const alike = line.every((row) => row.in_channels === row.out_channels);
  return along in SIDES && alike ? Object.keys(SIDES) : [along];
}

// Dotted lines where a stair of the target ends.
function treads(rows, step, along) {
  if (!step) return [];
  const highest = Math.max(...rows.map((row) => row[along]));
  const count = Math.min(MOST_STEPS, Math.floor(highest / step));
  const line = { color: color("idle"), width: 1, dash: "dot" };
  const place = { type: "line", y0: 0, y1: 1, yref: "paper", layer: "below", line };
  return Array.from({ length: count }, (_, at) => ({ ...place, x0: step * (at + 1), x1: step * (at + 1) }));
}

export function heatChart(rows) {
  const values = (axis) => [...new Set(rows.map((row) => row[axis]))].sort((a, b) => a - b);
  const [ins, outs] = [values("in_channels"), values("out_channels")];
  const cells = new Map(rows.map((row) => [`${row.in_channels} ${row.out_channels}`, row]));
  const at = (i, o, of) => (cells.has(`${i} ${o}`) ? of(cells.get(`${i} ${o}`)) : null);
  const grid = (of) => ins.map((i) => outs.map((o) => at(i, o, of)));
  const map = {
    type: "heatmap",
    x: outs.map(String),
    y: ins.map(String),
    z: grid((row) => row.latency_ns / 1e3),
    text: grid(hover),
    customdata: grid((row) => row.key),
    hovertemplate: "%{y} in, %{x} out<br>%{text}<extra></extra>",
    hoverongaps: false,
    colorscale: "Viridis",
    xgap: 1,
    ygap: 1,
    colorbar: { title: { text: "\u00b5s" }, thickness: 12, outlinewidth: 0 },
  };
  const axis = (title) => ({ title, type: "category" });
  return { data: [map], layout: { xaxis: axis("out channels"), yaxis: axis("in channels") } };
}

export function compareChart(pairs, left, right) {
  const [x, y] = [pairs.map((pair) => pair.left / 1e3), pairs.map((pair) => pair.right / 1e3)];
  const axis = logAxis("", [...x, ...y]);
  const ends = axis.range.map((power) => 10 ** power);
  const grey = { color: color("quiet"), width: 1 };
  const same = { type: "scatter", mode: "lines", x: ends, y: ends, hoverinfo: "skip", showlegend: false, line: grey };
  const told = (pair) =>
    `${pair.key}<br>${duration(pair.left)} against ${duration(pair.right)}: ${pair.ratio.toFixed(2)}`;
  const both = points(
    x,
    y,
    pairs.map(told),
    pairs.map((pair) => pair.key),
  );
  const layout = {
    xaxis: { ...axis, title: `${left}, \u00b5s` },
    yaxis: { ...axis, title: `${right}, \u00b5s` },
    hovermode: "closest",
  };
  return {
    data: [same, { ...both, showlegend: false, marker: { size: 7, opacity: 0.75, color: seriesColor(0) } }],
    layout,
  };
}

export function rooflineChart(rows) {
  const known = rows.map((row) => ({ ...row, intensity: row.macs / row.bytes, rate: row.macs / row.latency_ns }));
  const told = (row) => `${hover(row)}<br>${digits(row.rate)} GMAC/s at ${digits(row.intensity)} MACs a byte`;
  const [x, y] = [(row) => row.intensity, (row) => row.rate];
  const traces = groupBy(known, (row) => row.type).map((group, place) => ({
    ...points(
      group.map(x),
      group.map(y),
      group.map(told),
      group.map((row) => row.key),
    ),
    name: group[0].type,
    marker: { size: 7, opacity: 0.75, color: seriesColor(place) },
  }));
  const layout = {
    xaxis: logAxis("multiply-accumulates a byte", known.map(x)),
    yaxis: logAxis("GMAC/s", known.map(y)),
    hovermode: "closest",
  };
  return { data: [roof(known), ...traces], layout };
}

function roof(rows) {
  const ordered = [...rows].sort((a, b) => a.intensity - b.intensity);
  let best = 0;
  const y = ordered.map((row) => (best = Math.max(best, row.rate)));
  const line = { color: color("quiet"), width: 1 };
  const x = ordered.map((row) => row.intensity);
  return { type: "scatter", mode: "lines", name: "best so far", x, y, hoverinfo: "skip", line };
}
