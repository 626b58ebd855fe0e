// Makes elements. Text is only ever set as text, so nothing that the service tells can become markup.

export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(made, name, value);
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function set(made, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
  else if (name === "style") Object.assign(made.style, value);
  else if (name in made && typeof value !== "string") made[name] = value;
  else made.setAttribute(name, value === true ? "" : value);
}

let ids = 0;
export const newId = () => `f${++ids}`;

// A control with its label above it; `hint` says more below it.
export function field(label, control, hint = "") {
  control.id ||= newId();
  const small = hint ? h("small", { id: `${control.id}-hint` }, hint) : null;
  if (small) control.setAttribute("aria-describedby", small.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, small);
}

export function checkbox(label, props = {}) {
  const box = h("input", { type: "checkbox", ...props });
  return Object.assign(h("label", { class: "check" }, box, label), { box });
}

// Options are texts, or [value, text].
export function select(options, chosen, props = {}) {
  const made = h("select", props);
  setOptions(made, options, chosen);
  return made;
}

export function setOptions(made, options, chosen) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  made.replaceChildren(...pairs.map(([value, text]) => h("option", { value: String(value) }, String(text))));
  if (pairs.some(([value]) => String(value) === String(chosen))) made.value = String(chosen);
}

export const number = (props = {}) => h("input", { type: "number", step: "any", min: "0", ...props });

export function notice(kind, ...children) {
  return h("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : null }, ...children);
}

export const state = (kind, text) => h("span", { class: `state ${kind}` }, text);

// A command to type, with a button that copies it.
export function command(text) {
  const copy = h("button", { type: "button", class: "plain" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text).catch(() => undefined);
    say("Copied");
  });
  return h("div", { class: "command" }, h("code", {}, text), navigator.clipboard ? copy : null);
}

export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h(
    "dl",
    { class: "facts" },
    known.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

let silence = 0;
// Says something shortly, on screen and to screen readers.
export function say(text) {
  const status = document.getElementById("status");
  status.textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => (status.textContent = ""), 4000);
}
