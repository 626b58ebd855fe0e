// How much of a space's operators a table has, by operator type, and what to do about the rest.

import { get } from "../api.js";
import { chooseTarget, nothingMeasured, spaces, targetSelect, targets } from "../choices.js";
import { command, field, h, notice, select } from "../dom.js";
import { count, doubtInWords, percent } from "../format.js";
import { link } from "../links.js";
import { problemNotice } from "../problem.js";
import { table } from "../table.js";

const STATES = ["measured", "doubtful", "quarantined", "missing"];
const MEANINGS = {
  measured: "a price from clean measurements",
  doubtful: "a price, but no clean measurement",
  quarantined: "cannot be measured there",
  missing: "never measured",
};

export async function show(page) {
  const [all, names] = await Promise.all([targets(), spaces()]);
  if (!all.length) return page.put(nothingMeasured());
  const told = h("p", { role: "status" });
  const result = h("div");
  const chosen = chooseTarget(all, page.query.target);
  const target = targetSelect(all, chosen.id, () => refresh());
  const space = select(names, page.query.space ?? "mbconv", { onchange: () => refresh() });
  page.put(h("div", { class: "controls" }, field("Table", target), field("Space", space)), told, result);

  async function refresh() {
    const asked = { target: target.value, space: space.value };
    const isAsked = () => asked.target === target.value && asked.space === space.value && !page.signal.aborted;
    page.remember(asked);
    told.textContent = `Listing the operators of ${asked.space} \u2026`;
    result.replaceChildren();
    try {
      const found = await get(`/v1/targets/${asked.target}/coverage`, { space: asked.space });
      if (!isAsked()) return;
      told.replaceChildren(...summaryOf(found));
      result.replaceChildren(...parts(found, all));
    } catch (error) {
      told.replaceChildren();
      result.replaceChildren(problemNotice(error));
    }
  }
  await refresh();
}

function summaryOf(found) {
  const sum = (name) => found.types.reduce((total, row) => total + row[name], 0);
  const [known, total] = [sum("measured") + sum("doubtful"), sum("operators")];
  const others = STATES.slice(1).map((name) => `${count(sum(name))} ${name}`);
  const text = ` have a price (${percent(known / total)}); ${others.join(", ")}.`;
  return [h("strong", {}, `${count(known)} of ${count(total)} operators`), text];
}

function parts(found, all) {
  const target = all.find((one) => one.id === found.target);
  return [
    found.missing.length ? missingNotice(found, target) : null,
    legend(),
    typeTable(found),
    listTable("Doubtful", found.doubtful, found.target, (row) => row.why.split(" ").map(doubtInWords).join(" ")),
    listTable("Quarantined", found.quarantined, found.target, (row) => row.why),
    listTable("Missing", found.missing, found.target, () => "", false),
  ].filter(Boolean);
}

function missingNotice(found, target) {
  const typed = /'(.*)'/.exec(found.measure)?.[1];
  if (!typed) return notice("warn", h("p", {}, `${found.measure}.`));
  const file = URL.createObjectURL(
    new Blob([found.missing.map((row) => row.key).join("\n") + "\n"], { type: "text/plain" }),
  );
  const query = {
    device: target.device,
    engine: target.engine,
    dtype: target.dtype,
    threads: target.threads,
    space: found.space,
  };
  return notice(
    "warn",
    h("p", {}, "To measure those that are missing:"),
    command(typed),
    h(
      "p",
      {},
      "or ",
      h("a", { href: link("profile", query) }, "measure them from here"),
      ", or take ",
      h("a", { href: file, download: "missing.txt" }, "the first of them as an operators file"),
      ".",
    ),
  );
}

function legend() {
  const marks = STATES.map((name) =>
    h("span", {}, h("span", { class: `swatch ${name}` }), `${name}: ${MEANINGS[name]}`),
  );
  return h("div", { class: "legend" }, marks);
}

function typeTable(found) {
  const numbers = ["operators", ...STATES].map((name) => ({
    name,
    number: true,
    cell: (r) => count(r[name]),
    by: (r) => r[name],
  }));
  const type = (row) => h("a", { href: link("operators", { target: found.target, type: row.type }) }, row.type);
  return table(
    `Operators of ${found.space} by type, ${found.dtype}`,
    [{ name: "type", cell: type, by: (r) => r.type }, { name: "share", cell: bar }, ...numbers],
    found.types,
  );
}

function bar(row) {
  const states = STATES.filter((name) => row[name]);
  const text = states.map((name) => `${percent(row[name] / row.operators)} ${name}`).join(", ");
  const spans = states.map((name) =>
    h("span", { class: name, style: { width: `${(100 * row[name]) / row.operators}%` } }),
  );
  return h("div", { class: "bar", role: "img", "aria-label": text, title: text }, spans);
}

function listTable(title, rows, target, why, linked = true) {
  if (!rows.length) return null;
  const key = (row) => {
    const text = h("span", { class: "key" }, row.key);
    return linked ? h("a", { href: link("measurement", { target, key: row.key }) }, text) : text;
  };
  const columns = [{ name: "operator", cell: key, by: (r) => r.key }];
  if (rows.some((row) => row.why)) columns.push({ name: "why", wrap: true, cell: why, by: (r) => r.why });
  const most = rows.length === 200 ? ", the first 200" : "";
  return h(
    "details",
    { open: rows.length <= 20 },
    h("summary", {}, `${title}: ${rows.length}${most}`),
    table(title, columns, rows, { shown: 20 }),
  );
}
