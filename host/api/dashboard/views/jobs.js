// Jobs: what runs, what waits, what was done; one of them in full where the address names it.

import { get, hasEnded } from "../api.js";
import { facts, h, notice } from "../dom.js";
import { ago, date } from "../format.js";
import { NAMES, jobState, missingNotice, showJob } from "../job.js";
import { link } from "../links.js";
import { table } from "../table.js";

const EVERY_MS = 3000;

export async function show(page) {
  if (page.query.job) return showOne(page, page.query.job);
  const box = h("div");
  const load = async () => {
    const { jobs } = await get("/v1/jobs", { limit: 100 });
    if (!page.signal.aborted && !box.contains(document.activeElement))
      box.replaceChildren(jobs.length ? jobTable(jobs) : nothing());
    return jobs.some((job) => !hasEnded(job));
  };
  page.put(box);
  await load();
  const timer = setInterval(() => !document.hidden && load().catch(() => undefined), EVERY_MS);
  page.signal.addEventListener("abort", () => clearInterval(timer));
}

function nothing() {
  return notice(
    "",
    h(
      "p",
      {},
      "No job yet. ",
      h("a", { href: link("search") }, "Search for networks"),
      " or ",
      h("a", { href: link("profile") }, "measure operators"),
      ".",
    ),
  );
}

function jobTable(jobs) {
  return table(
    "Newest first",
    [
      { name: "job", cell: (j) => h("a", { href: link("jobs", { job: j.uid }) }, NAMES[j.kind]), by: (j) => j.kind },
      { name: "state", cell: jobState, by: (j) => j.state },
      { name: "progress", wrap: true, cell: progress },
      {
        name: "made",
        cell: (j) => h("span", { title: date(j.created_at) }, ago(j.created_at)),
        by: (j) => j.created_at,
      },
      { name: "by", cell: (j) => j.made_by, by: (j) => j.made_by },
      { name: "command", cell: (j) => h("span", { class: "key" }, j.command) },
    ],
    jobs,
  );
}

function progress(job) {
  if (job.state === "failed") return job.error;
  if (hasEnded(job) || !job.progress) return "";
  return `${job.progress.stage} ${job.progress.done}/${job.progress.total}`;
}

async function showOne(page, uid) {
  const box = h("div");
  const more = h("div");
  page.put(h("p", {}, h("a", { href: link("jobs") }, "All jobs")), box, more);
  const job = await showJob(box, uid, page.signal);
  if (!page.signal.aborted) more.replaceChildren(...ended(job));
}

function ended(job) {
  const parts = [
    facts([
      ["made", date(job.created_at)],
      ["started", date(job.started_at)],
      ["ended", date(job.ended_at)],
      ["attempts", String(job.attempts)],
      ["command", h("code", {}, job.command)],
    ]),
  ];
  if (job.kind === "search")
    parts.push(h("p", {}, h("a", { href: link("search", { job: uid(job) }) }, "What it found")));
  if (job.result?.missing) parts.push(missingNotice(job.result.missing, "", { job: uid(job) }));
  if (job.kind === "profile" && Array.isArray(job.result)) parts.push(...job.result.map(summary));
  return parts;
}

const uid = (job) => job.uid;

function summary(row) {
  const doubts = Object.entries(row.doubts ?? {})
    .map(([name, times]) => `${name} ${times}`)
    .join(", ");
  const left = Object.entries({ ...row.refused, ...row.quarantined });
  return h(
    "section",
    {},
    h("h2", {}, row.target),
    facts([
      ["operators the engine runs", String(row.wanted)],
      ["known before", String(row.already)],
      ["measurements now", String(row.measured)],
      ["measured once more", String(row.repeated)],
      ["doubts", doubts || "none"],
    ]),
    left.length
      ? table(
          "Left out",
          [
            { name: "operator", cell: ([key]) => h("span", { class: "key" }, key) },
            { name: "why", wrap: true, cell: ([, why]) => why },
          ],
          left,
        )
      : null,
    h(
      "p",
      {},
      h("a", { href: link("operators", { target: row.target }) }, "See its operators"),
      " or ",
      h("a", { href: link("search") }, "search with them"),
      ".",
    ),
  );
}
