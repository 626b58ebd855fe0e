// Numbers, times and doubts as a person reads them.

export const MISSING = "\u2013";

export function duration(ns) {
  if (ns === null || ns === undefined) return MISSING;
  if (ns >= 1e9) return `${digits(ns / 1e9)} s`;
  if (ns >= 1e6) return `${digits(ns / 1e6)} ms`;
  return ns >= 1e3 ? `${digits(ns / 1e3)} \u00b5s` : `${digits(ns)} ns`;
}

// Three significant digits or more, never in exponents.
export function digits(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

export const ms = (ns) => (ns === null || ns === undefined ? MISSING : (ns / 1e6).toFixed(3));
export const us = (ns) => (ns === null || ns === undefined ? MISSING : (ns / 1e3).toFixed(2));
export const count = (value) => value.toLocaleString("en");
export const percent = (share, places = 1) =>
  share === null || share === undefined ? MISSING : `${(100 * share).toFixed(places)} %`;
export const signed = (share) =>
  share === null || share === undefined ? MISSING : `${share >= 0 ? "+" : ""}${(100 * share).toFixed(1)} %`;

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

export function date(seconds) {
  return seconds
    ? new Date(1000 * seconds).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })
    : MISSING;
}

export function ago(seconds) {
  if (!seconds) return "never";
  const passed = Date.now() / 1000 - seconds;
  for (const [size, name] of [
    [86400, "day"],
    [3600, "hour"],
    [60, "minute"],
  ]) {
    const units = Math.floor(passed / size);
    if (units >= 1) return `${plural(units, name)} ago`;
  }
  return "just now";
}

// What decides disturbs the entry; the others are told, and count all the same (lut_db/aggregate.py, host/quality.py).
export const DOUBTS = {
  noisy: "Noisy: half of the samples took a quarter longer than the quickest tenth.",
  "few-samples": "Few samples: too few clean ones to tell a low quantile.",
  interrupted: "Interrupted: the thread was interrupted in most of its samples.",
  drifted: "Drifted: the machine ran at another speed than usual, by a fixed piece of work timed beside it.",
  throttled: "Throttled: the clock fell or was capped, or the device was hot, around the batch.",
  "slow-clock": "Slow clock: the processors spent most of the batch below their highest clock.",
  "charging-changed": "Charging changed: the charger was plugged in or out during the batch.",
  stolen: "Stolen time: the hypervisor gave a share of the time to other machines.",
  "busy-sibling": "Busy sibling: the other hardware thread of a core that was measured on had work meanwhile.",
  "power-capped": "Power-capped: the GPU held its clock down to stay within its power limit.",
  "gpu-shared": "Shared GPU: another process was on the GPU.",
  hot: "Hot: the GPU came near the temperature at which it slows down.",
  "below-overhead": "Below overhead: it takes no longer than a call that does nothing.",
};

export const doubtInWords = (doubt) => DOUBTS[doubt] ?? doubt;

export const SOURCES = {
  emulated: "of an emulated device: its times say nothing about a real one",
  simulated: "simulated: made by arithmetic, never measured",
  imported: "imported from another tool's table",
};

// "conv2d(1x64x28x28|1x8x28x28;kernel=1x1;float32)" -> type, shapes of its inputs, attributes.
export function parseKey(key) {
  const match = /^([a-z0-9_]+)\((.*)\)$/.exec(key);
  if (!match) return { type: key, shapes: [], attributes: {} };
  const parts = match[2].split(";");
  const shapes = parts[0].split("|").map((shape) => shape.split("x").map(Number));
  return { type: match[1], shapes, attributes: Object.fromEntries(parts.slice(1, -1).map((part) => part.split("="))) };
}
