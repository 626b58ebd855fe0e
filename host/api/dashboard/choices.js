// What several views let a person choose: a target, a space; fetched once a view.

import { get } from "./api.js";
import { command, h, notice, select } from "./dom.js";
import { link } from "./links.js";

export async function targets() {
  return (await get("/v1/targets")).targets;
}

// A target's name goes on for ever; in a list what tells it from the others is enough.
export function targetSelect(all, chosen, onchange) {
  return select(
    all.map((target) => [target.id, target.name]),
    chosen,
    { onchange },
  );
}

// The target that the address asks for, by id or name; else the one with the most in it.
export function chooseTarget(all, asked) {
  const most = [...all].sort((a, b) => b.counts.operators - a.counts.operators)[0];
  return all.find((target) => target.id === asked || target.name === asked) ?? most;
}

export const spaces = async () => (await get("/v1/spaces")).spaces.map((space) => space.name);

// What to do in an empty database.
export function nothingMeasured() {
  return notice(
    "",
    h("p", {}, "No table is in this database yet. Measure this machine, which takes seconds:"),
    command("chamnet profile --network mobilenet-v2"),
    h(
      "p",
      {},
      "or ",
      h("a", { href: link("profile") }, "start a measurement here"),
      ". To look at a table of another tool:",
    ),
    command("chamnet lut import builtin:note10"),
  );
}
