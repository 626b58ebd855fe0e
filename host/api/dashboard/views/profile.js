// Measures operators on a device as a job of the service.

import { get, post } from "../api.js";
import { spaces } from "../choices.js";
import { field, h, number, select } from "../dom.js";
import { showJob } from "../job.js";
import { link } from "../links.js";
import { problemNotice } from "../problem.js";
import { withToken } from "../token.js";

const WHAT = { space: "all operators of a space", networks: "operators of networks", operators: "single operators" };
const ENGINES = ["litert", "onnxruntime"];
const DTYPES = ["float32", "float16", "int8"];

export async function show(page) {
  const [{ devices, phones }, names] = await Promise.all([get("/v1/devices"), spaces()]);
  const lacking = page.query.job ? await missingOf(page.query.job) : null;
  const controls = makeControls({ ...lacking, ...page.query }, devices, phones, names);
  const told = h("div");
  const form = h(
    "form",
    { onsubmit: (event) => start(event, controls, told, page) },
    field("Device", controls.device),
    field("Engine", controls.engine),
    field("Element type", controls.dtype),
    field("Threads", controls.threads),
    field("Measure", controls.what),
    ...Object.values(controls.rows),
    h("button", {}, "Start measuring"),
  );
  const choose = () =>
    Object.entries(controls.rows).forEach(([name, row]) => (row.hidden = !name.startsWith(controls.what.value)));
  controls.what.addEventListener("change", choose);
  choose();
  page.put(
    h(
      "p",
      { class: "quiet" },
      "What has clean measurements already is not measured again, so the same request goes on where it stopped. Other engines, boards and accelerators: ",
      h("code", {}, "chamnet profile --help"),
      ".",
    ),
    form,
    told,
  );
}

// The operators that a search lacked, and what it ran on.
async function missingOf(uid) {
  const job = await get(`/v1/jobs/${uid}`);
  const asked = job.request?.targets?.[0]?.target;
  const target = asked ? (await get(`/v1/targets/${encodeURIComponent(asked)}`)).target : {};
  return {
    device: target.device,
    engine: target.engine,
    dtype: target.dtype,
    threads: target.threads,
    operators: (job.result?.missing ?? []).join("\n"),
  };
}

function makeControls(query, devices, phones, names) {
  const known = [
    ...new Set([
      "local-cpu",
      ...devices.filter((d) => !("imported" in d.facts)).map((d) => d.name),
      ...phones.filter((p) => p.ready).map((p) => p.device ?? p.serial),
    ]),
  ];
  const space = select(names, query.space ?? "mbconv");
  const budget = number({ min: "0.1", placeholder: "no limit" });
  const networks = h("input", { value: "mobilenet-v2", spellcheck: "false" });
  const operators = h("textarea", {
    rows: "6",
    cols: "60",
    spellcheck: "false",
    placeholder: "conv2d(1x64x28x28;kernel=1x1;out_channels=32;float32)",
  });
  operators.value = query.operators ?? "";
  return {
    device: select(known, query.device ?? "local-cpu"),
    engine: select(ENGINES, query.engine ?? "litert"),
    dtype: select(DTYPES, query.dtype ?? "float32"),
    threads: number({ min: "1", step: "1", value: query.threads ?? "1", required: true }),
    what: select(Object.entries(WHAT), query.operators ? "operators" : "space"),
    space,
    budget,
    networks,
    operators,
    rows: {
      space: field("Space", space),
      space_budget: field("Minutes at most", budget, "What tells most is measured first."),
      networks: field("Networks", networks, "Names, separated by commas."),
      operators: field("Operators", operators, "One key a line."),
    },
  };
}

function requestOf(controls) {
  const base = {
    device: controls.device.value,
    engine: controls.engine.value,
    dtype: controls.dtype.value,
    threads: Number(controls.threads.value),
  };
  const list = (text, separator) =>
    text
      .split(separator)
      .map((one) => one.trim())
      .filter(Boolean);
  if (controls.what.value === "networks") return { ...base, networks: list(controls.networks.value, ",") };
  if (controls.what.value === "operators") return { ...base, operators: list(controls.operators.value, "\n") };
  const budget = controls.budget.value ? { budget_s: 60 * Number(controls.budget.value) } : {};
  return { ...base, space: controls.space.value, ...budget };
}

async function start(event, controls, told, page) {
  event.preventDefault();
  const button = event.target.querySelector("button:not([type=button])");
  button.disabled = true;
  try {
    const job = await withToken(() => post("/v1/profiles", requestOf(controls)));
    const box = h("div");
    told.replaceChildren(box);
    const ended = await showJob(box, job.uid, page.signal);
    told.append(h("p", {}, h("a", { href: link("jobs", { job: ended.uid }) }, "What came of it")));
  } catch (error) {
    if (!page.signal.aborted) told.replaceChildren(problemNotice(error));
  } finally {
    button.disabled = false;
  }
}
