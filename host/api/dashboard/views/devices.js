// Devices and what they do now, phones that are connected, and the tables that there are.

import { get, saveFile } from "../api.js";
import { link } from "../links.js";
import { nothingMeasured } from "../choices.js";
import { facts, h, notice, state } from "../dom.js";
import { SOURCES, ago, count, date } from "../format.js";
import { table } from "../table.js";

const EVERY_MS = 10_000;

export async function show(page) {
  const [devices, tables] = [h("div"), h("div")];
  page.put(devices, h("h2", {}, "Tables"), tables);
  await Promise.all([fillDevices(devices), fillTables(tables)]);
  keepFresh(page, devices);
}

// Apart from each other, since phones may take a while to answer.
async function fillDevices(box) {
  const { devices, phones } = await get("/v1/devices");
  box.replaceChildren(...deviceParts(devices, phones));
}

async function fillTables(box) {
  const { targets } = await get("/v1/targets");
  box.replaceChildren(targets.length ? targetTable(targets) : nothingMeasured());
}

function keepFresh(page, box) {
  const timer = setInterval(async () => {
    if (document.hidden || box.contains(document.activeElement)) return;
    const { devices, phones } = await get("/v1/devices").catch(() => ({}));
    if (devices && !page.signal.aborted) box.replaceChildren(...deviceParts(devices, phones));
  }, EVERY_MS);
  page.signal.addEventListener("abort", () => clearInterval(timer));
}

function deviceParts(devices, phones) {
  const strangers = phones.filter((phone) => !phone.device);
  return [
    devices.length ? deviceTable(devices, phones) : notice("", h("p", {}, "No device was measured on yet.")),
    strangers.length ? phoneTable(strangers) : null,
  ].filter(Boolean);
}

function deviceTable(devices, phones) {
  const phone = (device) => phones.find((one) => one.device === device.name);
  return table(
    "Devices that were measured on",
    [
      { name: "device", cell: (d) => d.name, by: (d) => d.name },
      { name: "model", cell: (d) => d.model ?? "unknown", by: (d) => d.model },
      { name: "state", wrap: true, cell: (d) => deviceState(d, phone(d)) },
      {
        name: "last measured",
        cell: (d) => h("span", { title: date(d.newest_at) }, ago(d.newest_at)),
        by: (d) => d.newest_at,
      },
      { name: "tables", number: true, cell: (d) => count(d.tables), by: (d) => d.tables },
      { name: "facts", cell: (d) => deviceFacts({ ...d.facts, ...phone(d)?.facts }) },
    ],
    devices,
  );
}

function deviceState(device, phone) {
  if (device.measuring) {
    const who = device.measuring.job
      ? h("a", { href: link("jobs", { job: device.measuring.job }) }, "a job")
      : device.measuring.by;
    return h("span", {}, state("busy", "in use"), " by ", who, ` since ${date(device.measuring.since)}`);
  }
  if (phone && !phone.ready) return state("warn", "connected, not ready");
  if (device.connected) return state("good", phone ? "connected, free" : "free");
  return "imported" in device.facts ? state("", "imported table") : state("", "not connected");
}

function deviceFacts(all) {
  const told = Object.entries(all).filter(([, value]) => value !== null && value !== "");
  if (!told.length) return "";
  return h(
    "details",
    {},
    h("summary", {}, `${told.length} facts`),
    facts(told.map(([name, value]) => [name, plain(value)])),
  );
}

const plain = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function phoneTable(phones) {
  return table(
    "Phones that are connected and were not measured on yet",
    [
      { name: "serial", cell: (p) => p.serial, by: (p) => p.serial },
      { name: "state", cell: (p) => (p.ready ? state("good", "ready") : state("warn", "not ready")) },
      { name: "facts", cell: (p) => deviceFacts(p.facts) },
      { name: "", cell: (p) => (p.ready ? h("a", { href: link("profile", { device: p.serial }) }, "Measure") : "") },
    ],
    phones,
  );
}

function targetTable(targets) {
  return table(
    "A table holds for one device, engine, element type and number of threads; tables never mix",
    [
      { name: "table", wrap: true, cell: targetName, by: (t) => t.name },
      { name: "operators", number: true, cell: (t) => count(t.counts.operators), by: (t) => t.counts.operators },
      {
        name: "measurements",
        number: true,
        cell: (t) => count(t.counts.measurements),
        by: (t) => t.counts.measurements,
      },
      { name: "doubtful", number: true, cell: (t) => count(t.counts.doubtful), by: (t) => t.counts.doubtful },
      { name: "quarantined", number: true, cell: (t) => count(t.counts.quarantined), by: (t) => t.counts.quarantined },
      { name: "whole networks", number: true, cell: (t) => count(t.counts.networks), by: (t) => t.counts.networks },
      {
        name: "last measured",
        cell: (t) => h("span", { title: date(t.newest_at) }, ago(t.newest_at)),
        by: (t) => t.newest_at,
      },
      { name: "open", cell: targetLinks },
    ],
    targets,
  );
}

function targetName(target) {
  const note = SOURCES[target.source] ? h("div", { class: "quiet" }, SOURCES[target.source]) : null;
  return h("span", {}, h("a", { href: link("coverage", { target: target.id }) }, target.name), note);
}

function targetLinks(target) {
  const file = (format) => {
    const path = `/v1/targets/${target.id}/table.${format}`;
    const onclick = (event) => saveFile(event, path, `${target.id}.${format}`);
    return h(
      "a",
      { href: path, download: `${target.id}.${format}`, onclick, "aria-label": `${target.name} as ${format}` },
      format,
    );
  };
  return h(
    "span",
    {},
    h("a", { href: link("operators", { target: target.id }) }, "operators"),
    " ",
    h("a", { href: link("validation", { target: target.id }) }, "validation"),
    " ",
    file("csv"),
    " ",
    file("jsonl"),
    " ",
    file("parquet"),
  );
}
