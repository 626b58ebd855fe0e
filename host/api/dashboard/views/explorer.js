// Operators of one type: what is asked for, and where it is shown. What there is to show is in explorer_modes.js.

import { get } from "../api.js";
import { draw, preload } from "../charts.js";
import { chooseTarget, nothingMeasured, targetSelect, targets } from "../choices.js";
import { checkbox, field, h, notice, select, setOptions } from "../dom.js";
import { count } from "../format.js";
import { link } from "../links.js";
import { problemNotice } from "../problem.js";
import { MODES } from "./explorer_modes.js";
import { AXES } from "./explorer_rows.js";

// Axes whose numbers may follow from another's; then only one of the two can be fixed.
const FOLLOWS = { width: "height", out_channels: "in_channels" };

export async function show(page) {
  preload();
  const all = await targets();
  if (!all.length) return page.put(nothingMeasured());
  const controls = makeControls(all, page.query);
  const fixed = h("fieldset", {}, h("legend", {}, "Only operators with"));
  const view = { page, all, controls, fixed, result: h("div"), turn: 0 };
  page.put(h("div", { class: "controls" }, ...Object.values(controls).map((one) => one.row)), fixed, view.result);
  for (const [name, { box }] of Object.entries(controls)) box.addEventListener("change", () => changed(view, name));
  await listTypes(view);
  await refresh(view);
}

function makeControls(all, query) {
  const labelled = (label, box) => ({ box, row: field(label, box) });
  const target = chooseTarget(all, query.target);
  const others = all.filter((one) => one.id !== target.id);
  const modes = Object.entries(MODES).map(([name, mode]) => [name, mode.title]);
  const log = checkbox("logarithmic", { checked: query.log === "1" });
  return {
    mode: labelled("Show", select(modes, query.mode ?? "lines")),
    target: labelled("Table", targetSelect(all, target.id)),
    type: labelled("Operator type", select([], "")),
    along: labelled("Along", select(Object.entries(AXES), query.along ?? "out_channels")),
    other: labelled("Against", targetSelect(others.length ? others : all, query.other ?? others[0]?.id)),
    shape: labelled("Shape of the map", select([], "")),
    log: { box: log.box, row: log },
  };
}

async function changed(view, name) {
  if (name === "target") await listTypes(view);
  if (name === "type") view.fixed.replaceChildren(view.fixed.firstChild);
  await refresh(view, name === "type");
}

async function listTypes({ controls, page }) {
  const { types } = await get(`/v1/targets/${controls.target.box.value}/types`);
  const options = types.map((row) => [row.type, `${row.type} (${count(row.operators)})`]);
  setOptions(controls.type.box, options, controls.type.box.value || page.query.type || "conv2d");
}

async function refresh(view, forget = false) {
  const { page, controls, result } = view;
  const chosen = chosenOf(controls);
  const only = forget ? {} : onlyOf(view.fixed, page.query);
  const fixed = Object.fromEntries(Object.keys(AXES).map((axis) => [axis, only[axis] ?? ""]));
  page.remember({ ...chosen, ...fixed });
  const types = [...controls.type.box.options].map((option) => option.value);
  const asked = { ...chosen, only, types };
  for (const name of ["along", "other", "shape", "log"]) {
    controls[name].row.hidden = !MODES[asked.mode].controls.includes(name);
  }
  if (!asked.type) return result.replaceChildren(notice("", h("p", {}, "No operator is in this table yet.")));
  view.turn += 1;
  const turn = view.turn;
  try {
    const shown = await MODES[asked.mode].ask(asked, view.all);
    if (turn === view.turn && !page.signal.aborted) await present(view, asked, shown);
  } catch (error) {
    result.replaceChildren(problemNotice(error));
  }
}

function chosenOf(controls) {
  const chosen = Object.fromEntries(Object.entries(controls).map(([name, one]) => [name, one.box.value]));
  return { ...chosen, log: controls.log.box.checked ? "1" : "" };
}

// The numbers that a person fixed, by axis; at first those of the address.
function onlyOf(fixed, query) {
  const boxes = [...fixed.querySelectorAll("select")];
  const ofAddress = Object.keys(AXES).map((axis) => [axis, query[axis]]);
  const told = boxes.length ? boxes.map((box) => [box.name, box.value]) : ofAddress;
  return Object.fromEntries(told.filter(([, value]) => value));
}

async function present(view, asked, shown) {
  if (shown.columns) offerFixed(view, shown.columns, asked.only, shown.moving);
  if (shown.shapes) setOptions(view.controls.shape.box, shown.shapes, asked.shape || 0);
  const chart = h("div", { class: `chart ${shown.square ? "square" : "tall"}` });
  const figure = h("figure", {}, chart, h("figcaption", {}, shown.caption));
  const drawing = shown.make ? figure : notice("", h("p", {}, shown.empty));
  view.result.replaceChildren(...[shown.lead, drawing, shown.list].filter(Boolean));
  const open = (key) => key && (location.hash = link("measurement", { target: asked.target, key }));
  if (shown.make) await draw(chart, shown.label, shown.make, open);
}

// A choice for each number that operators have several of, and that does not move in the chart.
function offerFixed(view, columns, only, moving) {
  const same = (one, other) => columns[one].every((value, place) => value === columns[other][place]);
  const free = (axis) => !moving.includes(axis) && !(FOLLOWS[axis] && same(axis, FOLLOWS[axis]));
  const facets = columns.facets.filter((facet) => facet.values.length > 1 && free(facet.axis));
  const focused = document.activeElement?.name;
  const fields = facets.map(({ axis, values }) => {
    const options = [["", "any"], ...values.map((value) => [value, value])];
    return field(AXES[axis], select(options, only[axis] ?? "", { name: axis, onchange: () => refresh(view) }));
  });
  view.fixed.replaceChildren(view.fixed.firstChild, ...fields);
  view.fixed.hidden = !fields.length;
  view.fixed.querySelector(`[name="${focused}"]`)?.focus();
}
