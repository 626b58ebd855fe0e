// Which view is shown: by the part of the address after #, so that what is seen can be sent as a link.

import { Problem } from "./api.js";
import { releaseCharts } from "./charts.js";
import { h, say } from "./dom.js";
import { link } from "./links.js";
import { problemNotice } from "./problem.js";
import { askToken, showToken } from "./token.js";

// Views are loaded when they are first opened. Each has `show(page)`, and puts elements into `page.main`.
const VIEWS = {
  "": ["Devices", () => import("./views/devices.js")],
  coverage: ["Coverage", () => import("./views/coverage.js")],
  operators: ["Operators", () => import("./views/explorer.js")],
  validation: ["Validation", () => import("./views/validation.js")],
  search: ["Search", () => import("./views/search.js")],
  profile: ["Measure", () => import("./views/profile.js")],
  predict: ["Predict", () => import("./views/predict.js")],
  jobs: ["Jobs", () => import("./views/jobs.js")],
  measurement: ["Measurement", () => import("./views/measurement.js")],
};
const HIDDEN = ["measurement"];

const main = document.getElementById("view");
let leave = new AbortController();

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: path in VIEWS ? path : "", query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

async function open(first = false) {
  leave.abort();
  leave = new AbortController();
  releaseCharts();
  const { name, query } = place();
  const [title, load] = VIEWS[name];
  const heading = h("h1", { tabindex: "-1" }, title);
  const box = h("div", { "aria-busy": "true" }, h("p", { class: "quiet" }, "Loading \u2026"));
  document.title = `${title} \u00b7 ChamNet`;
  main.replaceChildren(heading, box);
  mark(name);
  if (!first) heading.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  await fill(pageOf(name, query, heading, box, leave.signal), load);
}

// What a view gets: where to put things, what the address asks for, and a signal that it was left.
function pageOf(name, query, heading, box, signal) {
  const remember = (changed) => {
    Object.assign(query, changed);
    if (!signal.aborted) history.replaceState(null, "", link(name, query));
  };
  const put = (...children) => {
    if (!signal.aborted) box.replaceChildren(...children.filter(Boolean));
  };
  return { name, query, heading, put, remember, signal };
}

async function fill(page, load) {
  try {
    await (await load()).show(page);
  } catch (error) {
    if (page.signal.aborted) return;
    page.put(problemNotice(error));
    if (error instanceof Problem && error.asksForToken && (await askToken(error.message))) open();
  } finally {
    main.querySelector("[aria-busy]")?.removeAttribute("aria-busy");
  }
}

function mark(name) {
  for (const item of document.querySelectorAll("#views a")) {
    if (item.dataset.view === name) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
}

function listViews() {
  const shown = Object.entries(VIEWS).filter(([name]) => !HIDDEN.includes(name));
  const items = shown.map(([name, [title]]) => h("li", {}, h("a", { href: link(name), "data-view": name }, title)));
  document.getElementById("views").replaceChildren(...items);
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("token").addEventListener("click", async () => {
  if (await askToken()) {
    say("Token accepted");
    open();
  }
});
window.addEventListener("hashchange", () => open());
listViews();
showToken();
open(true);
