// Networks measured whole against what the table predicts for them: a scatter plot, errors, and every network.

import { get } from "../api.js";
import { color, draw, logAxis, preload, seriesColor } from "../charts.js";
import { chooseTarget, nothingMeasured, targetSelect, targets } from "../choices.js";
import { command, field, h, notice } from "../dom.js";
import { MISSING, doubtInWords, duration, ms, signed } from "../format.js";
import { problemNotice } from "../problem.js";
import { table } from "../table.js";

const ROLES = { unseen: "unseen by the calibration", calibration: "used to calibrate" };
const METHODS = { calibrated: "calibrated table", sum: "sum of operators, uncalibrated" };
const BAND = 0.1;

export async function show(page) {
  preload();
  const all = await targets();
  if (!all.length) return page.put(nothingMeasured());
  const asked = all.find((one) => one.id === page.query.target || one.name === page.query.target);
  const most = [...all].sort((a, b) => b.counts.networks - a.counts.networks)[0];
  const result = h("div");
  const target = targetSelect(all, (asked ?? most ?? chooseTarget(all)).id, () => refresh());
  page.put(h("div", { class: "controls" }, field("Table", target)), result);

  async function refresh() {
    const chosen = target.value;
    page.remember({ target: chosen });
    try {
      const found = await get(`/v1/targets/${chosen}/validation`);
      if (chosen === target.value)
        await fill(
          result,
          found,
          all.find((one) => one.id === chosen),
        );
    } catch (error) {
      result.replaceChildren(problemNotice(error));
    }
  }
  await refresh();
}

async function fill(result, found, target) {
  if (!found.networks.length) return result.replaceChildren(nothingValidated(target));
  const chart = h("div", { class: "chart square" });
  const figure = h(
    "figure",
    {},
    chart,
    h(
      "figcaption",
      {},
      `The band is \u00b1${100 * BAND} %. Only networks that the calibration has not seen tell how good a prediction is.`,
    ),
  );
  const errors = found.errors.length ? errorTable(found.errors) : null;
  result.replaceChildren(...[errors, figure, networkTable(found.networks)].filter(Boolean));
  const told = found.networks.filter((row) => prediction(row) !== null);
  if (told.length)
    await draw(chart, `Predicted against measured latency of ${told.length} networks`, () => scatter(told));
  else figure.remove();
}

function nothingValidated(target) {
  if (target.source === "imported")
    return notice("", h("p", {}, "An imported table has no whole networks to be held against."));
  return notice(
    "",
    h(
      "p",
      {},
      "No whole network was measured on this table yet. Measure some, fit the calibration, and see how well it predicts:",
    ),
    command(
      `chamnet validate --device ${target.device} --engine ${target.engine} --dtype ${target.dtype} --threads ${target.threads} --space mbconv`,
    ),
  );
}

const prediction = (row) => row.predicted_ns ?? row.sum_ns;

function scatter(rows) {
  const all = rows.flatMap((row) => [row.measured_ns, prediction(row)]).map((ns) => ns / 1e6);
  const axis = logAxis("", all);
  const ends = axis.range.map((power) => 10 ** power);
  const data = [...band(ends), ...Object.keys(ROLES).map((role, place) => points(rows, role, place))];
  const layout = {
    xaxis: { ...axis, title: "measured, ms" },
    yaxis: { ...axis, title: "predicted, ms" },
    hovermode: "closest",
  };
  return { data: data.filter((trace) => trace.x.length), layout };
}

function band(ends) {
  const edge = (factor) => ends.map((end) => factor * end);
  const line = { mode: "lines", hoverinfo: "skip", showlegend: false, x: ends };
  return [
    { ...line, y: edge(1 - BAND), line: { width: 0 } },
    { ...line, y: edge(1 + BAND), line: { width: 0 }, fill: "tonexty", fillcolor: `${color("c0")}22` },
    { ...line, y: ends, line: { color: color("quiet"), width: 1 } },
  ];
}

function points(rows, role, place) {
  const mine = rows.filter((row) => row.role === role);
  return {
    type: "scatter",
    mode: "markers",
    name: `${ROLES[role]} (${mine.length})`,
    x: mine.map((row) => row.measured_ns / 1e6),
    y: mine.map((row) => prediction(row) / 1e6),
    text: mine.map(
      (row) =>
        `${row.name}<br>measured ${duration(row.measured_ns)}, predicted ${duration(prediction(row))} (${signed(row.error)})`,
    ),
    hovertemplate: "%{text}<extra></extra>",
    marker: {
      size: 9,
      color: place ? color("idle") : seriesColor(0),
      symbol: place ? "diamond" : "circle",
      line: { color: color("page"), width: 1 },
    },
  };
}

function errorTable(rows) {
  const number = (name, key) => ({
    name,
    number: true,
    cell: (r) => (r[key] === null ? MISSING : r[key].toFixed(key === "spearman" ? 3 : 1)),
    by: (r) => r[key],
  });
  const columns = [
    { name: "latency predicted by", cell: (r) => METHODS[r.method], by: (r) => r.method },
    { name: "networks of", cell: (r) => r.space || "no space", by: (r) => r.space },
    { name: "which are", cell: (r) => ROLES[r.role], by: (r) => r.role },
    number("networks", "networks"),
    number("mean error %", "mape"),
    number("bias %", "bias"),
    number("rank correlation", "spearman"),
    number("within 5 %", "within_5"),
    number("within 10 %", "within_10"),
    number("worst %", "worst"),
  ];
  columns[3].cell = (r) => String(r.networks);
  const order = (row) => (row.role === "unseen" ? 0 : 2) + (row.method === "sum" ? 1 : 0);
  return table(
    "Errors of predictions, in percent of the measured latency",
    columns,
    [...rows].sort((a, b) => order(a) - order(b)),
  );
}

function networkTable(rows) {
  const columns = [
    { name: "network", cell: (r) => h("span", { class: "key" }, r.name), by: (r) => r.name },
    { name: "measured ms", number: true, cell: (r) => ms(r.measured_ns), by: (r) => r.measured_ns },
    { name: "predicted ms", number: true, cell: (r) => ms(r.predicted_ns), by: (r) => r.predicted_ns },
    { name: "sum ms", number: true, cell: (r) => ms(r.sum_ns), by: (r) => r.sum_ns },
    { name: "error", number: true, cell: (r) => signed(r.error), by: (r) => r.error },
    { name: "is", cell: (r) => ROLES[r.role], by: (r) => r.role },
    { name: "calibrated on", cell: (r) => r.calibration || "nothing", by: (r) => r.calibration },
    { name: "remarks", wrap: true, cell: remarks },
  ];
  return table("Networks that were measured whole", columns, rows);
}

function remarks(row) {
  const missing = row.missing ? [`${row.missing} operators have no price`] : [];
  return [...missing, ...row.doubts.map(doubtInWords)].join(" ");
}
