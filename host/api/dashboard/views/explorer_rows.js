// Columns of operators as rows, and rows in groups: lines along an axis, shapes of a heat map, pairs of two tables.

export const AXES = {
  in_channels: "in channels",
  out_channels: "out channels",
  height: "height",
  width: "width",
  kernel: "kernel",
  stride: "stride",
  groups: "groups",
};

const FACTS = ["key", "rest", "line", "macs", "bytes", "latency_ns", "mad_ns", "doubts", "label"];
const MOST_LINES = 10;

// One object an operator.
export function rowsOf(columns) {
  const names = [...Object.keys(AXES), ...FACTS];
  const row = (place) => Object.fromEntries(names.map((name) => [name, columns[name][place]]));
  return columns.key.map((_, place) => ({ type: columns.type, ...row(place) }));
}

export function groupBy(rows, of) {
  const groups = new Map();
  for (const row of rows) {
    const key = of(row);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return [...groups.values()];
}

// The longest lines of operators that differ along an axis only, each in its order.
export function linesOf(rows, along) {
  const lines = groupBy(
    rows.filter((row) => row[along] !== null),
    (row) => row.line,
  );
  const longest = lines.filter((line) => line.length > 1).sort((a, b) => b.length - a.length);
  return longest.slice(0, MOST_LINES).map((line) => line.sort((a, b) => a[along] - b[along]));
}

// Groups of operators that differ in channels only, the largest first.
export function heatShapes(rows) {
  const shape = (row) => [row.height, row.width, row.kernel, row.stride, row.groups, row.rest].join(" ");
  const groups = groupBy(
    rows.filter((row) => row.in_channels !== null && row.out_channels !== null),
    shape,
  );
  const largest = groups.sort((a, b) => b.length - a.length);
  return largest.map((group) => ({ rows: group, name: inWords(group[0], ["in_channels", "out_channels"]) }));
}

// Operators of two tables that are the same but for the element type.
export function pairsOf(left, right) {
  const plain = (row) => row.key.replace(/;[a-z0-9]+\)$/, ")");
  const others = new Map(right.map((row) => [plain(row), row]));
  const pairs = left.map((row) => ({ key: row.key, left: row.latency_ns, right: others.get(plain(row))?.latency_ns }));
  return pairs.filter((pair) => pair.left && pair.right).map((pair) => ({ ...pair, ratio: pair.right / pair.left }));
}

// An operator in short, without the axes that move.
export function inWords(row, moving) {
  const told = (axis, text) => (row[axis] === null || moving.includes(axis) ? "" : text);
  const parts = [
    told("height", `${row.height}\u00d7${row.width}`),
    told("in_channels", `${row.in_channels} in`),
    told("out_channels", `${row.out_channels} out`),
    told("kernel", `k${row.kernel}`),
    told("stride", `s${row.stride}`),
    row.groups > 1 ? told("groups", `g${row.groups}`) : "",
    row.rest,
  ];
  return parts.filter(Boolean).join(" ");
}
