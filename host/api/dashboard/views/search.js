// Looks for networks: a form, the search as it runs, and the fronts that searches found, side by side.

import { get, hasEnded } from "../api.js";
import { nothingMeasured, targets } from "../choices.js";
import { checkbox, h } from "../dom.js";
import { ago, date } from "../format.js";
import { missingNotice, showJob } from "../job.js";
import { link } from "../links.js";
import { problemNotice } from "../problem.js";
import { table } from "../table.js";
import { showFronts } from "./front.js";
import { searchForm } from "./search_form.js";

export async function show(page) {
  const all = await targets();
  const asked = (page.query.job ?? "").split(",").filter(Boolean);
  const found = h("div");
  const list = h("div");
  const form = await searchForm(all, (job) => (location.hash = link("search", { job: job.uid })));
  const fold = h("details", { open: !asked.length }, h("summary", {}, "New search"), form);
  page.put(all.length ? null : nothingMeasured(), fold, found, list);
  await listSearches(list, asked);
  if (asked.length) await showFound(page, found, asked);
  if (asked.length === 1) await listSearches(list, asked);
}

async function listSearches(list, asked) {
  const { jobs } = await get("/v1/jobs", { kind: "search", limit: 50 });
  list.replaceChildren(...(jobs.length ? [searchTable(jobs, asked)] : []));
}

// One search is followed to its end; several are compared.
async function showFound(page, box, uids) {
  const panel = h("div");
  const result = h("div");
  box.replaceChildren(panel, result);
  try {
    const jobs =
      uids.length === 1
        ? [await showJob(panel, uids[0], page.signal)]
        : await Promise.all(uids.map((uid) => get(`/v1/jobs/${uid}`)));
    if (page.signal.aborted) return;
    if (uids.length === 1) panel.append(h("p", {}, h("code", {}, jobs[0].command)));
    await showResults(page, result, jobs);
  } catch (error) {
    if (!page.signal.aborted) result.replaceChildren(problemNotice(error));
  }
}

async function showResults(page, result, jobs) {
  const done = jobs.filter((job) => job.state === "done" && job.result?.candidates);
  const lacking = jobs.find((job) => job.result?.missing);
  if (lacking) result.append(missingNotice(lacking.result.missing, "", { job: lacking.uid }));
  if (done.length) await showFronts(page, result, done);
}

function searchTable(jobs, asked) {
  const boxes = new Map(
    jobs.map((job) => [
      job.uid,
      checkbox("", {
        checked: asked.includes(job.uid),
        disabled: job.state !== "done",
        "aria-label": `compare the search of ${date(job.created_at)}`,
      }),
    ]),
  );
  const compare = () => {
    const chosen = jobs.filter((job) => boxes.get(job.uid).box.checked).map((job) => job.uid);
    if (chosen.length) location.hash = link("search", { job: chosen.join(",") });
  };
  const made = table(
    "Searches, newest first; choose some to compare their fronts",
    [
      { name: "compare", cell: (j) => boxes.get(j.uid) },
      {
        name: "made",
        cell: (j) => h("a", { href: link("search", { job: j.uid }), title: date(j.created_at) }, ago(j.created_at)),
        by: (j) => j.created_at,
      },
      { name: "state", cell: (j) => (hasEnded(j) ? j.state : `${j.state} \u2026`), by: (j) => j.state },
      { name: "by", cell: (j) => j.made_by, by: (j) => j.made_by },
      { name: "command", cell: (j) => h("span", { class: "key" }, j.command) },
    ],
    jobs,
    { shown: 10, chosen: (j) => asked.includes(j.uid) },
  );
  return h(
    "section",
    {},
    h("h2", {}, "Searches"),
    made,
    h("button", { type: "button", class: "plain", onclick: compare }, "Compare fronts"),
  );
}
