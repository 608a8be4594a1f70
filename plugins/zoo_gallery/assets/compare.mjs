// Compares weights that classified the same images. The counts are those of the site; the address holds the choice.

const { sets } = await (await fetch(new URL("../compare.json", import.meta.url))).json();
const part = (id) => document.getElementById(id);
const [choice, status, results] = ["choice", "status", "results"].map(part);
const [data] = document.querySelectorAll("select[name=data]");
const MOST = 5;

const make = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const draw = (name, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
};
const percent = (value) => `${value.toFixed(2)}%`;
const count = (value) => value.toLocaleString("en");

// ---- the choice ------------------------------------------------------------------------------------------

const wished = new URLSearchParams(location.search);
const names = wished.getAll("weights");
let shown =
  sets.find((one) => one.data === wished.get("data")) ??
  sets.find((one) => one.weights.some((weights) => names.includes(weights.name))) ??
  sets[0];
sets.forEach((one) => data.append(make("option", { value: one.data, selected: one === shown }, `${one.data}, ${count(one.n)} images`)));

function list(isChosen) {
  const labels = shown.weights.map((weights, number) => {
    const box = make("input", { type: "checkbox", value: number, checked: isChosen(weights, number) });
    return make("label", {}, box, ` ${weights.name}`, make("small", {}, ` ${percent(weights.top1)}`));
  });
  choice.replaceChildren(choice.querySelector("legend"), ...labels);
}

const chosen = () => [...choice.querySelectorAll("input:checked")].map((box) => Number(box.value));
data.addEventListener("change", () => {
  shown = sets[data.selectedIndex];
  list((_, number) => number < 2);
  update();
});
choice.addEventListener("change", () => update());
part("set").addEventListener("submit", (event) => event.preventDefault());

function update() {
  const numbers = chosen();
  choice.querySelectorAll("input:not(:checked)").forEach((box) => (box.disabled = numbers.length >= MOST));
  const address = new URL(location.href);
  ["data", "weights"].forEach((key) => address.searchParams.delete(key));
  address.searchParams.set("data", shown.data);
  numbers.forEach((number) => address.searchParams.append("weights", shown.weights[number].name));
  history.replaceState(null, "", address);
  if (numbers.length < 2) {
    status.textContent = "Choose two to five weights.";
    results.replaceChildren();
    return;
  }
  status.textContent = `${numbers.length} networks on ${count(shown.n)} images of ${shown.data}.`;
  results.replaceChildren(...scores(numbers), ...differences(numbers), ...byClass(numbers));
}

// ---- drawings --------------------------------------------------------------------------------------------

const SHAPES = [
  (x, y) => `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z`,
  (x, y) => `M${x - 4.5} ${y - 4.5}h9v9h-9z`,
  (x, y) => `M${x} ${y - 6}l5.5 10h-11z`,
  (x, y) => `M${x} ${y - 6.5}l6 6.5l-6 6.5l-6 -6.5z`,
  (x, y) => `M${x} ${y + 6}l5.5 -10h-11z`,
];
const marker = (order, x = 8, y = 8) => draw("path", { d: SHAPES[order](x, y), class: `c${order}` });
const legend = (numbers) =>
  make("ul", { className: "legend" }, ...numbers.map((number, order) =>
    make("li", {}, draw("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, marker(order)), ` ${shown.weights[number].name}`)));

const [WIDTH, LEFT, RIGHT, ROW] = [620, 190, 86, 30];

// Rows of markers over per cent: each row is [name, [[order, value, interval or null], ...]]. A single one has its value.
function dots(rows, label) {
  const values = rows.flatMap(([, points]) => points.flatMap(([, value, interval]) => [value, ...(interval ?? [])]));
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const step = [0.2, 0.5, 1, 2, 5, 10, 20].find((size) => (high - low) / size <= 6) ?? 20;
  [low, high] = [Math.max(0, Math.floor(low / step) * step), Math.min(100, Math.ceil(high / step) * step)];
  const at = (value) => LEFT + ((value - low) / (high - low || 1)) * (WIDTH - LEFT - RIGHT);
  const height = ROW * rows.length + 46;
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "chart", role: "img", "aria-label": label });
  const grid = draw("g", { class: "grid" });
  for (let value = low; value <= high + step / 2; value += step) {
    grid.append(draw("path", { d: `M${at(value)} 4V${ROW * rows.length + 4}` }));
    grid.append(draw("text", { x: at(value), y: ROW * rows.length + 20, "text-anchor": "middle" }, `${Number(value.toFixed(1))}`));
  }
  svg.append(grid, draw("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: height - 6, "text-anchor": "middle", class: "axis" }, "right, %"));
  rows.forEach(([name, points], row) => {
    const y = ROW * row + ROW / 2 + 4;
    svg.append(draw("text", { x: LEFT - 12, y: y + 4, "text-anchor": "end" }, name.length > 26 ? `${name.slice(0, 25)}…` : name));
    if (points.length === 1) svg.append(draw("text", { x: WIDTH - RIGHT + 10, y: y + 4 }, percent(points[0][1])));
    points.forEach(([order, value, interval]) => {
      if (interval) svg.append(draw("path", { d: `M${at(interval[0])} ${y}H${at(interval[1])}`, class: `whisker c${order}` }));
      svg.append(marker(order, at(value), y));
    });
  });
  return svg;
}

function table(label, heads, rows) {
  const cell = (value, column) => make(column ? "td" : "th", column ? { className: heads[column][1] } : { scope: "row" }, value);
  const head = make("thead", {}, make("tr", {}, ...heads.map(([name, kind]) => make("th", { scope: "col", className: kind }, name))));
  const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell))));
  const region = make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, head, body));
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", label);
  return region;
}

// ---- what is compared ------------------------------------------------------------------------------------

function scores(numbers) {
  const all = numbers.map((number) => shown.weights[number]);
  const hasTimes = all.some((one) => one.latency !== null);
  const rows = all.map((one, order) => [one.name, [[order, one.top1, one.interval]]]);
  const drawing = dots(rows, "Top-1 with 95% intervals. The table below has the numbers.");
  const heads = [["Weights", ""], ["Top-1", "n"], ["95% interval", "whole"], ["Parameters", "n"], ["Multiply-adds", "n"]];
  if (hasTimes) heads.push(["Latency, ms", "n"]);
  const lines = all.map((one) => [
    make("a", { href: one.page }, one.name), percent(one.top1), `${one.interval[0].toFixed(2)} to ${one.interval[1].toFixed(2)}`,
    one.params ? count(one.params) : "", one.macs ? count(one.macs) : "", ...(hasTimes ? [one.latency === null ? "" : one.latency.toFixed(1)] : []),
  ]);
  const settings = [...new Set(all.map((one) => one.setting).filter(Boolean))];
  return [
    make("h2", {}, "How often each is right"),
    make("figure", { className: "wide-figure" }, drawing),
    table("Scores", heads, lines),
    ...settings.map((setting) => make("p", { className: "note" }, `Latency: ${setting}.`)),
  ];
}

// Holm's correction, as zoo.statistics has it.
function holm(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const corrected = Array(values.length);
  let largest = 0;
  order.forEach((i, rank) => {
    largest = Math.max(largest, Math.min(1, (values.length - rank) * values[i]));
    corrected[i] = largest;
  });
  return corrected;
}

function differences(numbers) {
  // The weights are in order of their score, so the first of a pair is never the worse one.
  const pairs = shown.pairs.filter(([first, second]) => numbers.includes(first) && numbers.includes(second));
  const corrected = holm(pairs.map((pair) => pair[4]));
  const heads = [["Pair", ""], ["Difference, points", "n"], ["95% interval", "whole"], ["Right in the first alone", "n"], ["In the second alone", "n"], ["p", "n"], ["In words", ""]];
  const lines = pairs.map(([first, second, onlyFirst, onlySecond, , interval], i) => [
    `${shown.weights[first].name} and ${shown.weights[second].name}`,
    ((100 * (onlyFirst - onlySecond)) / shown.n).toFixed(2),
    `${interval[0].toFixed(2)} to ${interval[1].toFixed(2)}`,
    count(onlyFirst), count(onlySecond),
    corrected[i] < 0.001 ? "< 0.001" : corrected[i].toFixed(3),
    corrected[i] < 0.05 ? `${shown.weights[first].name} is better` : "no difference is shown",
  ]);
  return [make("h2", {}, "Each with each"), table("Pairs", heads, lines)];
}

const MOST_CLASSES = 12;

function byClass(numbers) {
  const share = (number, i) => (100 * shown.weights[number].right[i]) / shown.images[i];
  const rows = shown.classes
    .map((name, i) => [name, numbers.map((number, order) => [order, shown.images[i] ? share(number, i) : 0, null]), i])
    .filter(([, , i]) => shown.images[i] > 0);
  const spread = ([, points]) => Math.max(...points.map(([, value]) => value)) - Math.min(...points.map(([, value]) => value));
  const isCut = rows.length > MOST_CLASSES;
  const drawn = isCut ? [...rows].sort((a, b) => spread(b) - spread(a)).slice(0, MOST_CLASSES) : rows;
  const heads = [["Class", ""], ["Images", "n"], ...numbers.map((number) => [shown.weights[number].name, "n"])];
  const lines = rows.map(([name, points, i]) => [name, count(shown.images[i]), ...points.map(([, value]) => percent(value))]);
  return [
    make("h2", {}, "By class"),
    make("figure", { className: "wide-figure" }, legend(numbers), dots(drawn, "Share that is right by class. The table below has the numbers.")),
    ...(isCut ? [make("p", { className: "note" }, `The ${MOST_CLASSES} classes on which they differ most, of ${rows.length}.`)] : []),
    make("details", {}, make("summary", {}, `Table of the ${rows.length} classes`), table("Classes", heads, lines)),
  ];
}

list((weights, number) => (names.some((name) => shown.weights.some((one) => one.name === name)) ? names.includes(weights.name) : number < 2));
[part("needs").hidden, part("controls").hidden] = [true, false];
update();
