// One operator's entry, and the raw measurements that it rests on: samples, conditions, and doubts in words.

import { get } from "../api.js";
import { color, draw, seriesColor } from "../charts.js";
import { facts, h, notice } from "../dom.js";
import { MISSING, count, date, doubtInWords, duration } from "../format.js";
import { link } from "../links.js";
import { table } from "../table.js";

export async function show(page) {
  const { target, key } = page.query;
  if (!target || !key) {
    return page.put(
      notice(
        "",
        h("p", {}, "An operator is chosen in ", h("a", { href: link("operators") }, "the operators of a table"), "."),
      ),
    );
  }
  const entry = await get(`/v1/targets/${target}/entries`, { key });
  const native = await measurementsOf(target, key, entry);
  page.heading.replaceChildren(h("span", { class: "key" }, key));
  document.title = `${key} \u00b7 ChamNet`;
  const chart = h("div", { class: "chart" });
  page.put(
    h(
      "p",
      { class: "quiet" },
      "on ",
      h("a", { href: link("coverage", { target }) }, (await get(`/v1/targets/${target}`)).target.name),
    ),
    entryTable(target, entry),
    ...(native ? measured(native, key, chart) : []),
  );
  if (native?.measurements.some((row) => row.bursts_ns.length)) await drawSamples(chart, native.measurements);
  else chart.closest("figure")?.remove();
}

// The measurements of what the engine runs for it; null where that is several operators, which the entry names.
async function measurementsOf(target, key, entry) {
  const natives = [...new Set(entry.contexts.flatMap((context) => context.natives))];
  const own = natives.includes(key) ? key : natives.length === 1 ? natives[0] : null;
  return own && get(`/v1/targets/${target}/measurements`, { key: own });
}

function entryTable(target, entry) {
  const natives = (row) =>
    h(
      "ul",
      { class: "plain-list" },
      row.natives.map((key) => h("li", {}, nativeLink(target, key, entry.key))),
    );
  const columns = [
    { name: "context", cell: (r) => ({ "*": "any", "": "itself" })[r.context] ?? r.context },
    { name: "latency", number: true, cell: (r) => duration(r.latency_ns), by: (r) => r.latency_ns },
    { name: "\u00b1 (MAD)", number: true, cell: (r) => duration(r.mad_ns), by: (r) => r.mad_ns },
    { name: "passes", number: true, cell: (r) => String(r.passes) },
    { name: "samples", number: true, cell: (r) => count(r.samples) },
    { name: "price is", cell: (r) => r.label },
    { name: "doubts", wrap: true, cell: (r) => r.doubts.map(doubtInWords).join(" ") || "none" },
    { name: "the engine runs", cell: (r) => (r.natives.length ? natives(r) : "nothing") },
  ];
  return table("What it costs, by the forms in which its inputs lie in memory", columns, entry.contexts);
}

function nativeLink(target, key, own) {
  const text = h("span", { class: "key" }, key);
  return key === own ? text : h("a", { href: link("measurement", { target, key }) }, text);
}

function measured(native, key, chart) {
  const rows = native.measurements;
  const title = native.key === key ? "Measurements" : `Measurements of ${native.key}`;
  const doubts = [...new Set(rows.flatMap((row) => row.doubts))];
  return [
    h("h2", {}, title),
    doubts.length
      ? notice(
          "warn",
          h(
            "ul",
            { class: "plain-list" },
            doubts.map((doubt) => h("li", {}, doubtInWords(doubt))),
          ),
        )
      : h("p", {}, "No measurement of it is doubted."),
    h(
      "figure",
      {},
      chart,
      h(
        "figcaption",
        {},
        "Each point is a sample; the bar is the latency of the measurement: the 10th percentile, less the time of a call that does nothing.",
      ),
    ),
    passTable(rows, native.total),
    h("h2", {}, "Conditions"),
    ...rows.map((row, place) => conditions(row, rows.length - place)),
  ];
}

function passTable(rows, total) {
  const number = (row) => rows.length - rows.indexOf(row);
  const columns = [
    { name: "measurement", cell: (r) => `${number(r)}`, by: number },
    { name: "at", cell: (r) => date(r.conditions.started_at), by: (r) => r.conditions.started_at },
    { name: "latency", number: true, cell: (r) => duration(r.latency_ns), by: (r) => r.latency_ns },
    { name: "\u00b1 (MAD)", number: true, cell: (r) => duration(r.mad_ns), by: (r) => r.mad_ns },
    { name: "samples", number: true, cell: (r) => count(r.samples), by: (r) => r.samples },
    { name: "left out", number: true, cell: (r) => count(r.rejected), by: (r) => r.rejected },
    { name: "calls a sample", number: true, cell: (r) => count(r.loops) },
    { name: "overhead", number: true, cell: (r) => duration(r.overhead_ns) },
    {
      name: "energy",
      number: true,
      cell: (r) => (r.energy_uj === null ? MISSING : `${r.energy_uj.toFixed(1)} \u00b5J`),
    },
    { name: "counts", cell: (r) => (r.clean ? "yes" : "only if no other does") },
    { name: "doubts", cell: (r) => r.doubts.join(", ") || "none" },
  ];
  const shown = total > rows.length ? `the newest ${rows.length} of ${total}` : `${total} in all`;
  return table(`Measurements, newest first, ${shown}`, columns, rows);
}

async function drawSamples(chart, rows) {
  const oldestFirst = [...rows].reverse();
  await draw(chart, `Samples of ${rows.length} measurements`, () => {
    const data = oldestFirst.flatMap((row, place) => strip(row, place));
    const ticks = oldestFirst.map((_, place) => place + 1);
    const layout = {
      xaxis: { title: "measurement", tickvals: ticks, range: [0.4, rows.length + 0.6], zeroline: false },
      yaxis: { title: "time of a call, \u00b5s", rangemode: "normal" },
      hovermode: "closest",
      showlegend: false,
    };
    return { data, layout };
  });
}

function strip(row, place) {
  const samples = row.bursts_ns.flatMap((burst, index) =>
    burst.map((ns) => ({ us: ns / row.loops / 1e3, at: row.started_s[index] })),
  );
  const spread = (index) => place + 1 + 0.5 * ((index * 0.618034) % 1) - 0.25;
  const points = {
    type: "scatter",
    mode: "markers",
    x: samples.map((_, index) => spread(index)),
    y: samples.map((one) => one.us),
    text: samples.map((one) => `${one.us.toFixed(3)} \u00b5s, ${one.at.toFixed(1)} s into the batch`),
    hovertemplate: "%{text}<extra></extra>",
    marker: { size: 6, opacity: 0.7, color: row.clean ? seriesColor(0) : color("idle") },
  };
  const level = (row.latency_ns + row.overhead_ns) / 1e3;
  const bar = {
    type: "scatter",
    mode: "lines",
    x: [place + 0.65, place + 1.35],
    y: [level, level],
    line: { color: seriesColor(1), width: 2 },
    hovertemplate: `latency ${duration(row.latency_ns)}<extra></extra>`,
  };
  return [points, bar];
}

function conditions(row, number) {
  const { before, after, ...rest } = row.conditions;
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const text = (value) =>
    value === undefined ? MISSING : typeof value === "object" ? JSON.stringify(value) : String(value);
  const looks = rest.sentinel_ns.map(([, ns]) => ns);
  const told = facts([
    ["started", date(rest.started_at)],
    ["agent", rest.agent_version],
    ["process", rest.process],
    ["fixed work beside it", looks.length ? `${duration(Math.min(...looks))} to ${duration(Math.max(...looks))}` : ""],
  ]);
  const columns = [
    { name: "condition", cell: (name) => name },
    { name: "before", cell: (name) => h("span", { class: "key" }, text(before[name])) },
    { name: "after", cell: (name) => h("span", { class: "key" }, text(after[name])) },
  ];
  const list = names.length ? table("Of the device, around the batch", columns, names) : null;
  return h("details", {}, h("summary", {}, `Measurement ${number}`), told, list);
}
