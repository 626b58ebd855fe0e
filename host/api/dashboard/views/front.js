// What searches found: their fronts in one chart, and every network in a table.

import { color, draw, logAxis, seriesColor } from "../charts.js";
import { field, h, notice, select } from "../dom.js";
import { MISSING, count } from "../format.js";
import { table } from "../table.js";
import { showNetwork } from "./found_network.js";

const COSTS = {
  latency_ms: "latency, ms",
  macs_m: "million multiply-accumulates",
  params_m: "million parameters",
  energy_mj: "energy, mJ",
  memory_mb: "megabytes of activations",
};
const CAPTION =
  "Predicted accuracy with one standard deviation; rings are latencies measured on the device. " +
  "Choose a network in the chart or the table to see it.";

const isTold = (value) => value !== null && value !== undefined;

// Jobs are searches that are done; their results hold candidates from cheap to dear.
export async function showFronts(page, box, jobs) {
  const rows = jobs.flatMap(candidatesOf).map((row, index) => ({ ...row, index }));
  if (!rows.length) {
    return box.append(notice("warn", h("p", {}, "No network of the space meets the limits. ", unmet(jobs[0].result))));
  }
  const costs = Object.keys(COSTS).filter((name) => rows.some((row) => isTold(row[name])));
  const [chart, detail] = [h("div", { class: "chart tall" }), h("section", { "aria-label": "Network" })];
  const pick = (row) => showNetwork(page, detail, row);
  const options = costs.map((name) => [name, COSTS[name]]);
  const across = select(options, costs[0], { onchange: () => redraw() });
  const make = () => frontChart(jobs, rows, across.value);
  const redraw = () => draw(chart, `Fronts of ${jobs.length} searches`, make, (index) => pick(rows[index]));
  const about = jobs.map((job, place) => inWords(job, place, jobs.length > 1));
  const controls = h("div", { class: "controls" }, field("Across", across));
  const figure = h("figure", {}, chart, h("figcaption", {}, CAPTION));
  box.append(...about, controls, figure, frontTable(rows, jobs, pick), detail);
  await redraw();
  await pick(winnerOf(rows, jobs[0]));
}

function candidatesOf(job) {
  return job.result.candidates.map((one) => ({ ...one, job, name: one.genome.join("-") }));
}

function winnerOf(rows, job) {
  const winner = (job.result.winner ?? []).join("-");
  return rows.find((row) => row.job === job && row.name === winner) ?? rows.at(-1);
}

function inWords(job, place, several) {
  const { space, targets, predictor, evaluations, seconds, notes } = job.result;
  const total = Object.values(seconds).reduce((sum, value) => sum + value, 0);
  const error = isTold(predictor.rmse)
    ? `, each predicted from the others within ${predictor.rmse.toFixed(2)} points`
    : "";
  const texts = [
    `${space} on ${targets.join(" and ") || "no device"}: ${count(evaluations)} networks looked at in ${total.toFixed(1)} s.`,
    `Accuracy from a ${predictor.name} predictor on ${predictor.networks} networks of ${predictor.dataset} (${predictor.recipe})${error}.`,
    ...notes.map((note) => `Note: ${note}.`),
    unmet(job.result),
  ];
  const mark = h("span", { class: "swatch", style: { background: seriesColor(place) } });
  return h("p", {}, several ? mark : null, texts.filter(Boolean).join(" "));
}

function unmet(result) {
  if (!result.unmet?.length) return "";
  const near = (one) => `${one.limit.toPrecision(3)} (the nearest exceeds it by ${(100 * one.excess).toFixed(0)} %)`;
  return `Nothing meets the limits ${result.unmet.map(near).join(", ")}.`;
}

function frontChart(jobs, rows, cost) {
  const data = jobs.flatMap((job, place) => {
    const mine = rows.filter((row) => row.job === job && isTold(row[cost])).sort((a, b) => a[cost] - b[cost]);
    return [frontTrace(job, mine, cost, place), measuredTrace(mine, cost)];
  });
  const known = rows.map((row) => row[cost]).filter(isTold);
  const layout = {
    xaxis: logAxis(COSTS[cost], known),
    yaxis: { title: `top-1 on ${jobs[0].result.predictor.dataset}, %` },
    hovermode: "closest",
    showlegend: jobs.length > 1,
  };
  return { data: data.filter((trace) => trace.x.length), layout };
}

function frontTrace(job, rows, cost, place) {
  return {
    type: "scatter",
    mode: "lines+markers",
    name: `${job.result.targets[0] ?? "no device"}, ${job.result.space}`,
    x: rows.map((row) => row[cost]),
    y: rows.map((row) => row.accuracy),
    error_y: { type: "data", array: rows.map((row) => row.accuracy_std), thickness: 1, width: 3 },
    text: rows.map(hover),
    customdata: rows.map((row) => row.index),
    hovertemplate: "%{text}<extra></extra>",
    line: { color: seriesColor(place), width: 1.5 },
    marker: { color: seriesColor(place), size: 8 },
  };
}

function hover(row) {
  const costs = Object.keys(COSTS).filter((name) => isTold(row[name]));
  const lines = costs.map((name) => `${COSTS[name]}: ${row[name].toPrecision(4)}`);
  return [`${row.accuracy.toFixed(2)} \u00b1 ${row.accuracy_std.toFixed(2)} %`, ...lines, row.name].join("<br>");
}

function measuredTrace(rows, cost) {
  const mine = cost === "latency_ms" ? rows.filter((row) => isTold(row.latency_measured_ms)) : [];
  return {
    type: "scatter",
    mode: "markers",
    x: mine.map((row) => row.latency_measured_ms),
    y: mine.map((row) => row.accuracy),
    customdata: mine.map((row) => row.index),
    hovertemplate: "measured %{x:.3f} ms<extra></extra>",
    showlegend: false,
    marker: { size: 13, color: color("c1"), symbol: "circle-open", line: { width: 2 } },
  };
}

function energyInterval(row) {
  const ends = [row.energy_low_mj, row.energy_high_mj];
  return ends.every(isTold) ? `${ends.map((end) => end.toPrecision(3)).join(" to ")}, ${row.energy_label}` : MISSING;
}

function frontTable(rows, jobs, pick) {
  const number = (name, key, places) => ({
    name,
    number: true,
    cell: (row) => (isTold(row[key]) ? row[key].toFixed(places) : MISSING),
    by: (row) => row[key],
  });
  const choose = (row) => h("button", { type: "button", class: "link key", onclick: () => pick(row) }, row.name);
  const target = (row) => row.job.result.targets[0] ?? MISSING;
  const columns = [
    { name: "network", cell: choose, by: (row) => row.name },
    ...(jobs.length > 1 ? [{ name: "table", cell: target, by: target }] : []),
    number("top-1 %", "accuracy", 2),
    number("\u00b1", "accuracy_std", 2),
    number("latency ms", "latency_ms", 3),
    number("measured ms", "latency_measured_ms", 3),
    number("energy mJ", "energy_mj", 2),
    { name: "energy, 95 % interval", number: true, cell: energyInterval, by: (row) => row.energy_low_mj },
    number("MMACs", "macs_m", 1),
    number("Mparams", "params_m", 2),
  ];
  const told = columns.filter((column) => rows.some((row) => isTold(column.by(row))));
  return table(
    "Networks found",
    told,
    [...rows].sort((a, b) => b.accuracy - a.accuracy),
  );
}
