// Asks for a token, tells at once whether the service knows it, and repeats what was refused without one.

import { Problem, token, tryToken } from "./api.js";
import { command, field, h, notice, say } from "./dom.js";

// Does something that needs a token; asks for one where there is none, or where it is refused, and does it again.
// Raises Problem.
export async function withToken(action) {
  if (!token.get() && !(await askToken()))
    throw new Problem(401, { title: "Token needed", detail: "nothing was started: give a token that may write" });
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof Problem) || !error.asksForToken || !(await askToken(error.message))) throw error;
    }
  }
}

// Opens the dialog; returns whether a token was given.
export function askToken(reason = "") {
  const dialog = h("dialog", { "aria-labelledby": "token-title" });
  const input = h("input", { type: "password", autocomplete: "off", name: "token", spellcheck: "false" });
  const told = h("div", { "aria-live": "assertive" });
  const form = tokenForm(dialog, input, told, reason);
  dialog.append(h("h2", { id: "token-title" }, "Token"), form);
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
  return new Promise((given) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      showToken();
      given(dialog.returnValue === "given");
    });
  });
}

function tokenForm(dialog, input, told, reason) {
  const close = (value) => () => dialog.close(value);
  const forget = () => {
    token.set("");
    say("Token forgotten");
    dialog.close("forgotten");
  };
  const form = h(
    "form",
    { onsubmit: (event) => use(event, dialog, input, told) },
    reason ? notice("warn", h("p", {}, reason)) : null,
    h(
      "p",
      {},
      "Searches, measurements, imports and uploads need a token that may write. Make one where the service runs:",
    ),
    command("chamnet token create NAME --scope write"),
    field("Token", input, "Kept for this tab only."),
    told,
    h("button", {}, "Use"),
    token.get() ? h("button", { type: "button", class: "plain", onclick: forget }, "Forget") : null,
    h("button", { type: "button", class: "plain", onclick: close("") }, "Cancel"),
  );
  return form;
}

async function use(event, dialog, input, told) {
  event.preventDefault();
  const secret = input.value.trim();
  try {
    if (!/^[\x21-\x7e]+$/.test(secret)) throw new Problem(401, { detail: "a token must be given as it was printed" });
    await tryToken(secret);
    token.set(secret);
    dialog.close("given");
  } catch (error) {
    told.replaceChildren(notice("bad", h("p", {}, `Not accepted: ${error.message}`)));
    input.select();
  }
}

// The header's button says whether there is one.
export function showToken() {
  document.getElementById("token").textContent = token.get() ? "Token set" : "Token";
}
