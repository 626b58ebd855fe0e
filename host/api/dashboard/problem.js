// What the service refused, as a person reads it.

import { Problem } from "./api.js";
import { h, notice } from "./dom.js";

export function problemNotice(error) {
  if (!(error instanceof Problem)) {
    console.error(error);
    return notice("bad", h("p", {}, h("strong", {}, "An error of this page"), `: ${error.message}`));
  }
  const places = (error.body.errors ?? []).map((one) => h("li", {}, h("code", {}, one.at), `: ${one.reason}`));
  return notice(
    "bad",
    h("p", {}, h("strong", {}, error.title), `: ${error.message}`),
    places.length > 1 ? h("ul", {}, places) : null,
  );
}
