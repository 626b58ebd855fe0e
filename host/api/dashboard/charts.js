// Draws with plotly, which is loaded when something is first drawn. Charts follow the colour scheme and the width.

const SOURCE = "/vendor/plotly.min.js";
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

const drawn = new Map();
let library;

function plotly() {
  library ??= new Promise((loaded, failed) => {
    const script = Object.assign(document.createElement("script"), { src: SOURCE });
    script.addEventListener("load", () => loaded(window.Plotly));
    script.addEventListener("error", () => failed(new Error("the charting library cannot be loaded")));
    document.head.append(script);
  });
  return library;
}

// A view that will draw says so first, that the library comes while the numbers do; `draw` tells where it does not.
export function preload() {
  plotly().catch(() => (library = undefined));
}

// Puts a chart into a box, in place of the one before. `make()` -> {data, layout} is asked again for other colours.
export async function draw(box, label, make, onclick) {
  const Plotly = await plotly().catch((error) => notDrawn(box, error));
  if (!Plotly || !box.isConnected) return;
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", label);
  const known = drawn.has(box);
  drawn.set(box, make);
  const { data, layout } = make();
  await Plotly.react(box, data, themed(layout), CONFIG);
  if (onclick && !known) box.on("plotly_click", (event) => onclick(event.points[0].customdata));
}

function notDrawn(box, error) {
  library = undefined;
  box.textContent = `Not drawn: ${error.message}. The tables hold the same numbers.`;
  box.classList.add("undrawn");
}

export async function releaseCharts() {
  const boxes = [...drawn.keys()];
  drawn.clear();
  if (library) for (const box of boxes) (await library).purge(box);
}

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const seriesColor = (place) => color(`c${place % 8}`);

function themed(layout) {
  const narrow = window.innerWidth < 640;
  const { xaxis = {}, yaxis = {}, legend = {}, ...rest } = layout;
  return {
    font: { family: "system-ui, sans-serif", size: 12, color: color("ink") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: narrow ? 48 : 64, r: narrow ? 8 : 16, t: 12, b: 48 },
    hoverlabel: { align: "left", bgcolor: color("panel"), bordercolor: color("line"), font: { color: color("ink") } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...rest,
    legend: { orientation: "h", y: -0.14, yanchor: "top", font: { size: 11 }, ...legend },
    xaxis: axis(xaxis),
    yaxis: axis(yaxis),
  };
}

function axis(own) {
  const title = typeof own.title === "string" ? { text: own.title, standoff: 6 } : own.title;
  const line = { gridcolor: color("grid"), linecolor: color("line"), zerolinecolor: color("line") };
  return { automargin: true, ...line, ...own, title };
}

// A logarithmic axis with round numbers in plain digits, as many as its values need.
export function logAxis(title, values) {
  const known = values.filter((value) => value > 0);
  const [low, high] = [Math.min(...known) / 1.15, Math.max(...known) * 1.15];
  const decades = Math.log10(high / low);
  const parts =
    decades < 0.7
      ? [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]
      : decades < 2
        ? [1, 2, 3, 5, 7]
        : decades < 4
          ? [1, 3]
          : [1];
  const powers = Array.from({ length: 31 }, (_, place) => 10 ** (place - 15));
  const ticks = powers
    .flatMap((power) => parts.map((part) => part * power))
    .filter((tick) => tick >= low && tick <= high);
  const text = ticks.map((tick) => String(Number(tick.toPrecision(2))));
  return { title, type: "log", range: [Math.log10(low), Math.log10(high)], tickvals: ticks, ticktext: text };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", async () => {
  if (!library) return;
  const Plotly = await library;
  for (const [box, make] of drawn) {
    const { data, layout } = make();
    Plotly.react(box, data, themed(layout), CONFIG);
  }
});
