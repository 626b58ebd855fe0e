// A job on screen: its state, how far it is, how to stop it; followed to its end.

import { Problem, follow, get, hasEnded, post } from "./api.js";
import { h, notice, say, state } from "./dom.js";
import { ago, date } from "./format.js";
import { link } from "./links.js";
import { withToken } from "./token.js";

const KINDS = { queued: "warn", running: "busy", done: "good", failed: "bad", cancelled: "" };
export const NAMES = { search: "search", profile: "measurement", import: "import" };

export const jobState = (job) => state(KINDS[job.state], job.cancel_asked && !hasEnded(job) ? "stopping" : job.state);

// Shows a job in a box and follows it; returns the job as it ended.
export async function showJob(box, uid, signal) {
  const panel = jobPanel(uid);
  box.replaceChildren(panel.box);
  let last = await get(`/v1/jobs/${uid}`);
  panel.tell(last);
  if (!hasEnded(last)) {
    await follow(uid, (job) => panel.tell((last = { ...last, ...job })), signal);
    say(`The ${NAMES[last.kind]} is ${last.state}`);
  }
  return get(`/v1/jobs/${uid}`);
}

function jobPanel(uid) {
  const head = h("p");
  const bar = h("progress", { "aria-label": "progress" });
  const words = h("p", { class: "quiet", role: "status", "aria-live": "polite" });
  const stop = h("button", { type: "button", class: "plain" }, "Cancel");
  const error = h("div");
  stop.addEventListener("click", () => cancel(uid, stop, error));
  const box = h("section", { class: "job", "aria-label": "Job" }, head, bar, words, stop, error);
  let told = { stage: "", at: 0 };
  const tell = (job) => {
    head.replaceChildren(
      jobState(job),
      ` ${NAMES[job.kind]}, made by ${job.made_by || "nobody"} ${ago(job.created_at)}`,
    );
    const ended = hasEnded(job);
    bar.hidden = stop.hidden = ended;
    stop.disabled = job.cancel_asked;
    progressOf(bar, job.progress);
    const stage = ended ? job.state : (job.progress?.stage ?? job.state);
    if (ended || stage !== told.stage || Date.now() - told.at > 3000) {
      words.textContent = inWords(job);
      told = { stage, at: Date.now() };
    }
    if (job.state === "failed")
      error.replaceChildren(notice("bad", h("p", {}, job.error || "It failed without a reason.")));
  };
  return { box, tell };
}

function progressOf(bar, progress) {
  if (progress?.total) Object.assign(bar, { max: progress.total, value: progress.done });
  else bar.removeAttribute("value");
}

function inWords(job) {
  if (job.state === "queued") return "Waits for its turn: one job of a kind runs at a time.";
  if (hasEnded(job))
    return `${job.ended_at ? `Ended ${date(job.ended_at)}` : ""}${job.exit_status === 3 ? ", done in part: some operators were left out" : ""}.`;
  const { title = "", stage = "", done = 0, total = 0, note = "" } = job.progress ?? {};
  const part = [title, stage, total ? `${done} of ${total}` : ""].filter(Boolean).join(", ");
  return [part || "Starts \u2026", note].filter(Boolean).join(" \u2013 ");
}

async function cancel(uid, button, error) {
  button.disabled = true;
  try {
    await withToken(() => post(`/v1/jobs/${uid}/cancel`));
    say("Cancel asked");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    button.disabled = false;
    error.replaceChildren(notice("bad", h("p", {}, problem.message)));
  }
}

// What to do about operators that a search or a prediction lacks.
export function missingNotice(missing, advice, query) {
  if (!missing?.length) return null;
  const file = URL.createObjectURL(new Blob([missing.join("\n") + "\n"], { type: "text/plain" }));
  return notice(
    "warn",
    h("p", {}, `${missing.length} operators have no price, such as `, h("code", {}, missing[0]), "."),
    advice ? h("p", {}, `${advice[0].toUpperCase()}${advice.slice(1)}.`) : null,
    h(
      "p",
      {},
      query ? [h("a", { href: link("profile", query) }, "Measure them from here"), ", or take "] : "Take ",
      h("a", { href: file, download: "missing.txt" }, "them as an operators file"),
      ".",
    ),
  );
}
