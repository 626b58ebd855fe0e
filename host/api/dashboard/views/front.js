// What searches found: their fronts in one chart, every network in a table, one network as a diagram.

import { Problem, get, post, saveFile } from "../api.js";
import { color, draw, logAxis, seriesColor } from "../charts.js";
import { field, h, notice, select } from "../dom.js";
import { MISSING } from "../format.js";
import { missingNotice } from "../job.js";
import { link } from "../links.js";
import { diagram, operatorPrices, summary } from "../network.js";
import { problemNotice } from "../problem.js";
import { table } from "../table.js";

const COSTS = { latency_ms: "latency, ms", macs_m: "million multiply-accumulates", params_m: "million parameters", energy_mj: "energy, mJ", memory_mb: "megabytes of activations" };

// Jobs are searches that are done; their results hold candidates from cheap to dear.
export async function showFronts(page, box, jobs) {
  const rows = jobs.flatMap((job, place) => job.result.candidates.map((one) => ({ ...one, job, place, name: one.genome.join("-") })));
  if (!rows.length) return box.append(notice("warn", h("p", {}, "No network of the space meets the limits. ", unmet(jobs[0].result))));
  const costs = Object.keys(COSTS).filter((name) => rows.some((row) => row[name] !== null && row[name] !== undefined));
  const chart = h("div", { class: "chart tall" });
  const detail = h("section", { "aria-live": "polite" });
  const pick = (row) => showNetwork(page, detail, row);
  const across = select(costs.map((name) => [name, COSTS[name]]), costs[0], { onchange: () => redraw() });
  const redraw = () => draw(chart, `Fronts of ${jobs.length} searches`, () => frontChart(jobs, rows, across.value), (index) => pick(rows[index]));
  box.append(
    ...jobs.map((job, place) => h("p", {}, about(job, place, jobs.length))),
    h("div", { class: "controls" }, field("Across", across)),
    h("figure", {}, chart, h("figcaption", {}, "Predicted accuracy with one standard deviation; rings are latencies measured on the device. Choose a network in the chart or the table to see it.")),
    frontTable(rows, jobs, pick), detail,
  );
  await redraw();
  await pick(winnerOf(rows, jobs[0]));
}

const winnerOf = (rows, job) => rows.find((row) => row.job === job && row.name === (job.result.winner ?? []).join("-")) ?? rows.at(-1);

function about(job, place, count) {
  const { predictor, evaluations, seconds, notes, targets } = job.result;
  const total = Object.values(seconds).reduce((sum, value) => sum + value, 0);
  const mark = count > 1 ? h("span", { class: "swatch", style: { background: seriesColor(place) } }) : null;
  const error = predictor.rmse === null ? "" : `, each predicted from the others within ${predictor.rmse.toFixed(2)} points`;
  const text = `${job.result.space} on ${targets.join(" and ") || "no device"}: ${evaluations.toLocaleString("en")} networks looked at in ${total.toFixed(1)} s. Accuracy from a ${predictor.name} predictor on ${predictor.networks} networks of ${predictor.dataset} (${predictor.recipe})${error}. ${notes.map((note) => `Note: ${note}.`).join(" ")} ${unmet(job.result)}`;
  return [mark, text];
}

function unmet(result) {
  if (!result.unmet?.length) return "";
  const nearest = result.unmet.map((one) => `${one.limit.toPrecision(3)} (the nearest exceeds it by ${(100 * one.excess).toFixed(0)} %)`);
  return `Nothing meets the limits ${nearest.join(", ")}.`;
}

function frontChart(jobs, rows, cost) {
  const data = jobs.flatMap((job, place) => {
    const mine = rows.map((row, index) => ({ ...row, index })).filter((row) => row.job === job && row[cost] !== null);
    mine.sort((a, b) => a[cost] - b[cost]);
    return [frontTrace(job, mine, cost, place), measuredTrace(mine, cost)];
  });
  const layout = { xaxis: logAxis(COSTS[cost], rows.map((row) => row[cost])), yaxis: { title: `top-1 on ${jobs[0].result.predictor.dataset}, %` }, hovermode: "closest", showlegend: jobs.length > 1 };
  return { data: data.filter((trace) => trace.x.length), layout };
}

function frontTrace(job, rows, cost, place) {
  const name = `${job.result.targets[0] ?? "no device"}, ${job.result.space}`;
  return {
    type: "scatter", mode: "lines+markers", name, x: rows.map((row) => row[cost]), y: rows.map((row) => row.accuracy),
    error_y: { type: "data", array: rows.map((row) => row.accuracy_std), thickness: 1, width: 3 },
    text: rows.map(hover), customdata: rows.map((row) => row.index), hovertemplate: "%{text}<extra></extra>",
    line: { color: seriesColor(place), width: 1.5 }, marker: { color: seriesColor(place), size: 8 },
  };
}

function hover(row) {
  const costs = Object.keys(COSTS).filter((name) => row[name] !== null && row[name] !== undefined).map((name) => `${COSTS[name]}: ${row[name].toPrecision(4)}`);
  return [`${row.accuracy.toFixed(2)} \u00b1 ${row.accuracy_std.toFixed(2)} %`, ...costs, row.name].join("<br>");
}

function measuredTrace(rows, cost) {
  const mine = cost === "latency_ms" ? rows.filter((row) => row.latency_measured_ms !== null) : [];
  return {
    type: "scatter", mode: "markers", name: "measured", x: mine.map((row) => row.latency_measured_ms), y: mine.map((row) => row.accuracy), customdata: mine.map((row) => row.index),
    hovertemplate: "measured %{x:.3f} ms<extra></extra>", showlegend: false, marker: { size: 13, color: color("c1"), symbol: "circle-open", line: { width: 2 } },
  };
}

function frontTable(rows, jobs, pick) {
  const number = (name, key, places) => ({ name, number: true, cell: (r) => (r[key] === null || r[key] === undefined ? MISSING : r[key].toFixed(places)), by: (r) => r[key] });
  const columns = [
    { name: "network", cell: (r) => h("button", { type: "button", class: "link key", onclick: () => pick(r) }, r.name), by: (r) => r.name },
    number("top-1 %", "accuracy", 2), number("\u00b1", "accuracy_std", 2), number("latency ms", "latency_ms", 3), number("measured ms", "latency_measured_ms", 3),
    number("energy mJ", "energy_mj", 2), number("MMACs", "macs_m", 1), number("Mparams", "params_m", 2),
  ];
  if (jobs.length > 1) columns.splice(1, 0, { name: "table", cell: (r) => r.job.result.targets[0] ?? MISSING, by: (r) => r.job.result.targets[0] });
  return table("Networks found", columns, [...rows].sort((a, b) => b.accuracy - a.accuracy));
}

async function showNetwork(page, box, row) {
  const { space, dtype, targets } = row.job.result;
  const path = `/v1/spaces/${space}/networks/${row.name}`;
  const head = [h("h2", {}, "Network ", h("span", { class: "key" }, row.name)), h("p", {}, ["onnx", "tflite"].map((format) => [fileLink(path, format, dtype, `${space}-${row.name}`), " "]))];
  const facts = await get(path, { dtype });
  head.push(h("p", { class: "quiet" }, `${facts.layers.length} operators, ${(facts.macs / 1e6).toFixed(1)} million multiply-accumulates, ${(facts.params / 1e6).toFixed(2)} million parameters, ${dtype}; weights of the files are random.`));
  if (page.signal.aborted) return;
  box.replaceChildren(...head, ...(targets.length ? await prices(targets, space, row.name) : []));
}

function fileLink(path, format, dtype, name) {
  const href = `${path}/model?format=${format}&dtype=${dtype}`;
  return h("a", { class: "button plain", href, download: `${name}.${format}`, onclick: (event) => saveFile(event, href, `${name}.${format}`) }, `Download ${format.toUpperCase().replace("TFLITE", "TFLite")}`);
}

async function prices(targets, space, genome) {
  const cell = (one) => (row) => h("a", { href: link("measurement", { target: one.target_id, key: row.key }) }, h("span", { class: "key" }, row.key));
  try {
    const { predictions } = await post("/v1/predictions", { targets, space, genome });
    return [...predictions.map((one) => h("p", {}, summary(one))), diagram(predictions), ...predictions.map((one) => operatorPrices(one, cell(one)))];
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return [error.body.missing ? missingNotice(error.body.missing, error.body.measure_with) : problemNotice(error)];
  }
}
