// A network as a diagram: its stages from input to output, each with its operators as wide as their time.

import { seriesColor } from "./charts.js";
import { h } from "./dom.js";
import { MISSING, count, duration, parseKey, percent, plural } from "./format.js";
import { table } from "./table.js";

const WIDEST = 56;

// Operators in the network's order, {key, latency_ns, label}, as stages: runs that read images of one size. What reads
// single pixels between them (squeeze-excite) belongs to the stage around it; at the end it is a stage of its own.
export function stagesOf(operators) {
  const shapes = operators.map((one) => parseKey(one.key).shapes[0] ?? []);
  const sizes = shapes.map((shape) => (shape.length === 4 ? shape[2] : 1));
  const last = sizes.findLastIndex((size) => size > 1);
  const stages = [];
  operators.forEach((operator, place) => {
    const size = sizes[place] === 1 && place < last ? (stages.at(-1)?.size ?? 1) : sizes[place];
    if (stages.at(-1)?.size !== size) stages.push({ size, channels: [], operators: [], latency_ns: 0 });
    const stage = stages.at(-1);
    stage.operators.push(operator);
    stage.channels.push(shapes[place].length === 4 ? shapes[place][1] : shapes[place].at(-1));
    stage.latency_ns += operator.latency_ns ?? 0;
  });
  return stages;
}

// Predictions of the same network on one target or several, as POST /v1/predictions answers them.
export function diagram(predictions) {
  const columns = predictions.map((prediction) => stagesOf(prediction.operators));
  const dearest = Math.max(...columns.flat().map((stage) => stage.latency_ns), 1);
  const types = [...new Set(predictions[0].operators.map((one) => parseKey(one.key).type))];
  const colors = new Map(types.map((type, place) => [type, seriesColor(place)]));
  const largest = Math.max(...columns[0].map((stage) => stage.size));
  const rows = columns[0].map((stage, place) =>
    stageRow(
      stage,
      columns.map((column) => column[place]),
      { dearest, colors, largest, totals: predictions },
    ),
  );
  const legend = types.map((type) =>
    h("span", {}, h("span", { class: "swatch", style: { background: colors.get(type) } }), type),
  );
  return h(
    "figure",
    {},
    h("div", { class: "legend" }, legend),
    h("ol", { class: "stages" }, rows),
    h(
      "figcaption",
      {},
      "From input to output: squares are the images a stage reads, bars its time, operator by operator.",
    ),
  );
}

function stageRow(stage, onTargets, { dearest, colors, largest, totals }) {
  const [low, high] = [Math.min(...stage.channels), Math.max(...stage.channels)];
  const side = 14 + ((WIDEST - 14) * Math.log2(1 + stage.size)) / Math.log2(1 + largest);
  const map = h("span", { class: "map", style: { width: `${side}px`, height: `${side}px` } });
  const what = `${stage.size}\u00d7${stage.size}, ${low === high ? low : `${low}\u2013${high}`} channels, ${plural(stage.operators.length, "operator")}`;
  const bars = onTargets.map((one) => strip(one, dearest, colors));
  const times = onTargets.map((one, place) =>
    h(
      "div",
      {},
      duration(one.latency_ns),
      h("span", { class: "quiet" }, ` ${percent(one.latency_ns / total(totals[place]), 0)}`),
    ),
  );
  return h("li", {}, map, h("div", {}, h("div", {}, what), bars), h("div", { class: "latency" }, times));
}

const total = (prediction) => prediction.operators.reduce((sum, one) => sum + (one.latency_ns ?? 0), 0) || 1;

function strip(stage, dearest, colors) {
  const parts = stage.operators.map((one) => {
    const title = `${one.key}: ${one.latency_ns === null ? "no price" : duration(one.latency_ns)}, ${one.label}`;
    return h("span", {
      title,
      style: { flexGrow: String(one.latency_ns ?? 0), background: colors.get(parseKey(one.key).type) },
    });
  });
  return h("div", { class: "strip", style: { width: `${(100 * stage.latency_ns) / dearest}%` } }, parts);
}

// One network's operators as a table.
export function operatorPrices(prediction, keyCell) {
  const columns = [
    { name: "operator", cell: (r) => keyCell(r), by: (r) => r.key },
    {
      name: "latency",
      number: true,
      cell: (r) => (r.latency_ns === null ? MISSING : duration(r.latency_ns)),
      by: (r) => r.latency_ns,
    },
    { name: "share", number: true, cell: (r) => percent(r.share), by: (r) => r.share },
    { name: "price is", cell: (r) => r.label, by: (r) => r.label },
  ];
  return table(
    `${count(prediction.operators.length)} operators on ${prediction.target}, in their order`,
    columns,
    prediction.operators,
    { shown: 25 },
  );
}

// What a prediction comes to, in a sentence.
export function summary(prediction) {
  if (prediction.latency_ns === null) return "Nothing of it has a price.";
  const rests = Object.entries(prediction.shares)
    .map(([label, share]) => `${percent(share, 0)} ${label}`)
    .join(", ");
  const interval = `95 % interval ${duration(prediction.low_ns)} to ${duration(prediction.high_ns)}`;
  const calibration = prediction.calibration
    ? `calibrated on ${prediction.calibration.networks} networks of ${prediction.calibration.family || "any space"}`
    : "a plain sum: no calibration";
  const [energyMj, fromMj, toMj] = [prediction.energy_uj, prediction.energy_low_uj, prediction.energy_high_uj].map(
    (uj) => (uj / 1e3).toFixed(2),
  );
  const energy =
    prediction.energy_uj === null ? "" : `; energy ${energyMj} mJ, ${fromMj} to ${toMj}, ${prediction.energy_label}`;
  const more = prediction.missing.length ? "More than " : "";
  return `${more}${duration(prediction.latency_ns)} on ${prediction.target} (${interval}; ${rests}; ${calibration}${energy}).`;
}
