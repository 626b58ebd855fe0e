// What a model file, or a network by name, costs on tables that were measured before.

import { Problem, post, upload } from "../api.js";
import { nothingMeasured, targets } from "../choices.js";
import { checkbox, field, h, notice } from "../dom.js";
import { duration, percent } from "../format.js";
import { missingNotice } from "../job.js";
import { link } from "../links.js";
import { diagram, operatorPrices, summary } from "../network.js";
import { problemNotice } from "../problem.js";
import { table } from "../table.js";
import { withToken } from "../token.js";

export async function show(page) {
  const all = await targets();
  if (!all.length) return page.put(nothingMeasured());
  const asked = page.query.target;
  const boxes = all.map((target, place) =>
    Object.assign(checkbox(target.name, { checked: asked ? target.id === asked : place === 0 }), { target }),
  );
  const estimate = checkbox("also estimate what lies beyond the measured sizes");
  const result = h("div");
  const view = {
    page,
    result,
    chosen: () => boxes.filter((one) => one.box.checked).map((one) => one.target),
    estimate: () => estimate.box.checked,
  };
  page.put(
    h("fieldset", {}, h("legend", {}, "On tables"), boxes),
    h("p", {}, estimate),
    dropZone(view),
    networkForm(view),
    result,
  );
}

function dropZone(view) {
  const input = h("input", { type: "file", accept: ".onnx,.tflite" });
  const zone = h(
    "div",
    { class: "drop" },
    field(
      "Model file: ONNX or TFLite. Drop it here, or choose it",
      input,
      "It is read by a process with limits, and not kept. Weights are not needed.",
    ),
  );
  input.addEventListener("change", () => input.files[0] && predictFile(view, input.files[0]));
  for (const name of ["dragover", "dragleave", "drop"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) predictFile(view, event.dataTransfer.files[0]);
    });
  }
  return h("div", { class: "controls" }, zone);
}

function networkForm(view) {
  const name = h("input", { value: "mobilenet-v2", required: true, spellcheck: "false" });
  const ask = (event) => {
    event.preventDefault();
    predict(view, () =>
      post("/v1/predictions", { targets: ids(view), network: name.value.trim(), estimate: view.estimate() }),
    );
  };
  return h(
    "form",
    { onsubmit: ask },
    field("or a network by its name", name),
    h("button", { class: "plain" }, "Predict"),
  );
}

const ids = (view) => view.chosen().map((target) => target.id);

function predictFile(view, file) {
  const query = [
    ...ids(view).map((id) => ["target", id]),
    ["name", file.name.slice(0, 200)],
    ["estimate", String(view.estimate())],
  ];
  return predict(view, () => withToken(() => upload(`/v1/predictions/model?${new URLSearchParams(query)}`, {}, file)));
}

async function predict(view, ask) {
  if (!view.chosen().length)
    return view.result.replaceChildren(notice("warn", h("p", {}, "Choose one table at least.")));
  view.result.replaceChildren(h("p", { class: "quiet" }, "Predicting \u2026"));
  try {
    view.result.replaceChildren(...shown(await ask()));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    view.result.replaceChildren(...incomplete(error, view));
  }
}

function shown(answer) {
  const predictions = answer.predictions ?? [answer];
  const known = predictions.filter((one) => one.latency_ns !== null);
  return [
    h("h2", {}, predictions[0].network || "Prediction"),
    ...predictions.map((one) => h("p", {}, summary(one))),
    ...predictions[0].notes.map((note) => h("p", { class: "quiet" }, note)),
    predictions.length > 1 ? sideBySide(predictions) : null,
    known.length ? diagram(known) : null,
    ...predictions.map((one) => operatorPrices(one, keyCell(one))),
  ].filter(Boolean);
}

const keyCell = (prediction) => (row) => {
  const text = h("span", { class: "key" }, row.key);
  return row.label === "missing"
    ? text
    : h("a", { href: link("measurement", { target: prediction.target_id, key: row.key }) }, text);
};

function sideBySide(predictions) {
  const columns = [
    { name: "table", cell: (p) => p.target, by: (p) => p.target },
    { name: "latency", number: true, cell: (p) => duration(p.latency_ns), by: (p) => p.latency_ns },
    {
      name: "95 % interval",
      number: true,
      cell: (p) => `${duration(p.low_ns)} to ${duration(p.high_ns)}`,
      by: (p) => p.low_ns,
    },
    {
      name: "measured",
      number: true,
      cell: (p) => percent(p.shares.measured ?? 0, 0),
      by: (p) => p.shares.measured ?? 0,
    },
  ];
  return table("On each table", columns, predictions);
}

// What has no price, and below it what is known of the rest.
function incomplete(error, view) {
  const { missing, measure_with, unknown, partial } = error.body;
  if (!partial) return [problemNotice(error)];
  const nodes = unknown?.length
    ? table(
        "Nodes that were not understood, and are not in the sum",
        [
          { name: "node", cell: (n) => n.name },
          { name: "type", cell: (n) => n.type },
          { name: "why", wrap: true, cell: (n) => n.reason },
        ],
        unknown,
      )
    : null;
  const target = view.chosen()[0];
  const query = {
    device: target.device,
    engine: target.engine,
    dtype: target.dtype,
    threads: target.threads,
    operators: (missing ?? []).join("\n"),
  };
  return [
    missingNotice(missing, measure_with, JSON.stringify(query).length < 6000 ? query : null),
    nodes,
    ...shown(partial),
  ].filter(Boolean);
}
