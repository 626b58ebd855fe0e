// One network that a search found: its files, and what it costs stage by stage on the search's tables.

import { Problem, get, post, saveFile } from "../api.js";
import { h, say } from "../dom.js";
import { missingNotice } from "../job.js";
import { link } from "../links.js";
import { diagram, operatorPrices, summary } from "../network.js";
import { problemNotice } from "../problem.js";

const FORMATS = { onnx: "ONNX", tflite: "TFLite" };

// `row` is a candidate with the `job` that found it, and the genome as `name`.
export async function showNetwork(page, box, row) {
  const { space, dtype, targets } = row.job.result;
  const path = `/v1/spaces/${space}/networks/${row.name}`;
  const facts = await get(path, { dtype });
  const costs = targets.length ? await prices(targets, space, row.name) : [];
  if (page.signal.aborted) return;
  const files = Object.keys(FORMATS).map((format) => fileLink(path, format, dtype, `${space}-${row.name}`));
  const name = h("span", { class: "key" }, row.name);
  box.replaceChildren(h("h2", {}, "Network ", name), h("p", { class: "buttons" }, files), sizes(facts), ...costs);
  say("Network shown");
}

function sizes(facts) {
  const [macs, params] = [(facts.macs / 1e6).toFixed(1), (facts.params / 1e6).toFixed(2)];
  const text = `${facts.layers.length} operators, ${macs} million multiply-accumulates, ${params} million parameters, ${facts.dtype}; weights of the files are random.`;
  return h("p", { class: "quiet" }, text);
}

function fileLink(path, format, dtype, name) {
  const href = `${path}/model?format=${format}&dtype=${dtype}`;
  const download = `${name}.${format}`;
  const onclick = (event) => saveFile(event, href, download);
  return h("a", { class: "button plain", href, download, onclick }, `Download ${FORMATS[format]}`);
}

async function prices(names, space, genome) {
  try {
    const targets = await known(names);
    const calibrated = targets.every((one) => one.calibrations.some((row) => row.family === space));
    const asked = { targets: targets.map((one) => one.target.id), space, genome, calibration: calibrated ? space : "" };
    const { predictions } = await post("/v1/predictions", asked);
    const tables = predictions.map((one) => operatorPrices(one, (row) => keyLink(one, row)));
    return [...predictions.map((one) => inWords(one, space)), diagram(predictions), ...tables];
  } catch (error) {
    if (!(error instanceof Problem) || !error.body.missing) return [problemNotice(error)];
    return [missingNotice(error.body.missing, error.body.measure_with)];
  }
}

async function known(names) {
  const { targets } = await get("/v1/targets");
  const ids = names.map((name) => targets.find((target) => target.name === name).id);
  return Promise.all(ids.map((id) => get(`/v1/targets/${id}`)));
}

function keyLink(prediction, row) {
  const href = link("measurement", { target: prediction.target_id, key: row.key });
  return h("a", { href }, h("span", { class: "key" }, row.key));
}

// The search calibrates with networks of its own space only, or not at all.
function inWords(prediction, space) {
  const family = prediction.calibration?.family;
  const elsewhere = family && family !== space;
  const note = elsewhere ? ` The search took plain sums, since no network of ${space} calibrates this table.` : "";
  return h("p", {}, summary(prediction), note);
}
