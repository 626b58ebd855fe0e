// What to search for: a space, tables with limits, and what a network may cost beside.

import { get, post } from "../api.js";
import { spaces } from "../choices.js";
import { checkbox, field, h, number, select } from "../dom.js";
import { problemNotice } from "../problem.js";
import { withToken } from "../token.js";

const OTHERS = {
  macs_m: "Million multiply-accumulates",
  params_m: "Million parameters",
  memory_mb: "Megabytes of activations",
};

// A form that starts a search; `begun(job)` is called with it.
export async function searchForm(targets, begun) {
  const controls = await makeControls(targets);
  const told = h("div");
  const form = h(
    "form",
    { onsubmit: (event) => start(event, controls, told, begun), novalidate: false },
    field("Space", controls.space),
    targets.length ? limitFields(controls, targets) : null,
    h("details", {}, h("summary", {}, "More limits and how to search"), moreFields(controls)),
    h("button", {}, "Search"),
  );
  controls.space.addEventListener("change", () => listGenes(controls));
  await listGenes(controls);
  return h("div", {}, form, told);
}

async function makeControls(targets) {
  return {
    space: select(await spaces(), "mbconv"),
    limits: [],
    sweep: select(
      [
        ["no", "one limit"],
        ["yes", "several limits, from \u2026 to"],
      ],
      "yes",
    ),
    low: number({ min: "0.001", value: "" }),
    high: number({ min: "0.001", value: "" }),
    count: number({ min: "2", max: "1000", step: "1", value: "10" }),
    others: Object.fromEntries(Object.keys(OTHERS).map((name) => [name, number({ min: "0.001" })])),
    risk: number({ min: "0.001", max: "0.5" }),
    verify: number({ step: "1", max: "100" }),
    predictor: select(["gp", "gradient-boosting", "ridge"], "gp"),
    population: number({ min: "20", max: "5000", step: "1", value: "500" }),
    generations: number({ min: "1", max: "1000", step: "1", value: "120" }),
    seed: number({ step: "1", value: "0" }),
    interpolate: checkbox("price operators that were never measured by those that were"),
    emulated: checkbox("take tables of emulated phones, too"),
    gene: select([], ""),
    values: h("input", { placeholder: "such as 3,5", spellcheck: "false" }),
    all: targets,
  };
}

function limitFields(controls, targets) {
  const rows = h("div", { class: "controls" });
  const box = h("fieldset", {}, h("legend", {}, "Latency"), rows);
  const add = h("button", { type: "button", class: "plain" }, "Another table");
  const usable = [...targets].sort((a, b) => b.counts.operators - a.counts.operators);
  addLimit(controls, rows, usable);
  add.addEventListener("click", () => addLimit(controls, rows, usable).focus());
  add.hidden = targets.length < 2;
  const sweepRow = h(
    "div",
    { class: "controls" },
    field("from ms", controls.low),
    field("to ms", controls.high),
    field("how many", controls.count),
  );
  const choose = () => {
    sweepRow.hidden = controls.sweep.value === "no";
    controls.limits[0].row.hidden = controls.sweep.value === "yes";
    for (const one of [controls.low, controls.high, controls.count]) one.required = controls.sweep.value === "yes";
  };
  controls.sweep.addEventListener("change", choose);
  choose();
  box.append(field("On the first table", controls.sweep), sweepRow, add);
  return box;
}

function addLimit(controls, rows, targets) {
  const first = controls.limits.length === 0;
  const used = controls.limits.map((one) => one.target.value);
  const left = targets.find((one) => !used.includes(one.id)) ?? targets[0];
  const target = select(
    targets.map((one) => [one.id, one.name]),
    left.id,
  );
  const most = number({ min: "0.001" });
  const row = field("at most ms", most);
  controls.limits.push({ target, most, row });
  rows.append(field(first ? "Table" : "and on", target), row);
  return target;
}

function moreFields(controls) {
  const others = Object.entries(OTHERS).map(([name, label]) => field(`${label}, at most`, controls.others[name]));
  return h(
    "div",
    { class: "controls" },
    others,
    field("Risk", controls.risk, "Probability of exceeding a latency limit, such as 0.05."),
    field("Measure whole", controls.verify, "So many of the networks found, on the first table's device."),
    field("Only with gene", controls.gene),
    field("of values", controls.values),
    field("Accuracy predictor", controls.predictor),
    field("Children a generation", controls.population),
    field("Generations", controls.generations),
    field("Seed", controls.seed),
    controls.interpolate,
    controls.emulated,
  );
}

async function listGenes(controls) {
  const { genes } = await get(`/v1/spaces/${controls.space.value}`);
  const options = genes.map((gene) => [
    gene.name,
    `${gene.name}: ${gene.choices.length > 8 ? `${gene.choices[0]} to ${gene.choices.at(-1)}` : gene.choices.join(", ")}`,
  ]);
  controls.gene.replaceChildren(...select([["", "any"], ...options], "").children);
}

function requestOf(controls) {
  const told = (input) => (input.value === "" ? null : Number(input.value));
  const swept = controls.limits.length && controls.sweep.value === "yes";
  const targets = controls.limits.map((one, place) => ({
    target: one.target.value,
    latency_ms: swept && !place ? null : told(one.most),
  }));
  const request = {
    space: controls.space.value,
    targets,
    predictor: controls.predictor.value,
    interpolate: controls.interpolate.box.checked,
    emulated: controls.emulated.box.checked,
  };
  if (swept) request.sweep = { from: told(controls.low), to: told(controls.high), count: told(controls.count) };
  for (const [name, input] of Object.entries(controls.others)) request[name] = told(input);
  for (const name of ["risk", "verify", "population", "generations", "seed"])
    if (told(controls[name]) !== null) request[name] = told(controls[name]);
  if (controls.gene.value && controls.values.value.trim())
    request.fix = { [controls.gene.value]: controls.values.value.split(",").map(Number) };
  return request;
}

async function start(event, controls, told, begun) {
  event.preventDefault();
  try {
    told.replaceChildren();
    begun(await withToken(() => post("/v1/searches", requestOf(controls))));
  } catch (error) {
    told.replaceChildren(problemNotice(error));
  }
}
