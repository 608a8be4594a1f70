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
const between = ([low, high]) => `${low.toFixed(2)} to ${high.toFixed(2)}`;
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
  results.replaceChildren(...scores(numbers), ...differences(numbers), ...byClass(numbers), ...robustness(numbers), ...speed(numbers));
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
const legend = (numbers, drawn = numbers) =>
  make("ul", { className: "legend" }, ...drawn.map((number) => [number, numbers.indexOf(number)]).map(([number, order]) =>
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

const [TALL, BOTTOM] = [300, 52];

// Lines of points [strength, per cent, interval] over strengths: each is [order, points].
function curves(series, axis, label) {
  const strengths = [...new Set(series.flatMap(([, points]) => points.map(([strength]) => strength)))].sort((a, b) => a - b);
  const [low, reach] = [strengths[0], strengths.at(-1) - strengths[0] || 1];
  const [left, right, foot] = [56, 20, TALL - BOTTOM];
  const x = (value) => left + 8 + ((value - low) / reach) * (WIDTH - left - right - 16);
  const y = (value) => foot - (value / 100) * (foot - 10);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${TALL}`, class: "chart", role: "img", "aria-label": label });
  const grid = draw("g", { class: "grid" });
  for (let value = 0; value <= 100; value += 20) {
    grid.append(draw("path", { d: `M${left} ${y(value)}H${WIDTH - right}` }));
    grid.append(draw("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, `${value}`));
  }
  let last = -Infinity;
  for (const strength of strengths.filter((value) => x(value) - last > 60 && ((last = x(value)), true))) {
    grid.append(draw("text", { x: x(strength), y: foot + 20, "text-anchor": "middle" }, `${Number(strength.toPrecision(3))}`));
  }
  const titles = [
    draw("text", { x: (left + WIDTH - right) / 2, y: TALL - 6, "text-anchor": "middle", class: "axis" }, axis),
    draw("text", { x: 14, y: foot / 2, transform: `rotate(-90 14 ${foot / 2})`, "text-anchor": "middle", class: "axis" }, "right, %"),
  ];
  svg.append(grid, ...titles);
  series.forEach(([order, points]) => {
    svg.append(draw("polyline", { points: points.map(([strength, value]) => `${x(strength)},${y(value)}`).join(" "), class: `line c${order}` }));
    points.forEach(([strength, value, interval]) => {
      svg.append(draw("path", { d: `M${x(strength)} ${y(interval[0])}V${y(interval[1])}`, class: `whisker c${order}` }));
      svg.append(marker(order, x(strength), y(value)));
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
  const rows = all.map((one, order) => [one.name, [[order, one.top1, one.interval]]]);
  const drawing = dots(rows, "Top-1 with 95% intervals. The table below has the numbers.");
  const heads = [["Weights", ""], ["Top-1", "n"], ["95% interval", "whole"]];
  const lines = all.map((one) => [make("a", { href: one.page }, one.name), percent(one.top1), between(one.interval)]);
  return [make("h2", {}, "How often each is right"), make("figure", { className: "wide-figure" }, drawing), table("Scores", heads, lines)];
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
    between(interval),
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

const listed = (names) => names.map((name, i) => (i ? (i === names.length - 1 ? " and " : ", ") : "") + name).join("");

// What attacks and transformations leave: curves of the same images in one drawing.
function robustness(numbers) {
  const together = new Map();
  numbers.forEach((number, order) =>
    shown.weights[number].curves.forEach((curve) => {
      const key = [curve.kind, curve.name, curve.unit, curve.fingerprint].join();
      if (!together.has(key)) together.set(key, []);
      together.get(key).push([number, order, curve]);
    }),
  );
  const drawings = [...together.values()].flatMap((measured) => {
    const [, , { kind, name, unit, data: split, n }] = measured[0];
    const title = kind === "attack" ? `Attack ${name}` : name[0].toUpperCase() + name.slice(1);
    const series = measured.map(([, order, curve]) => [order, curve.points.map((point) => [point.strength, point.top1, point.interval])]);
    const strengths = [...new Set(series.flatMap(([, points]) => points.map(([strength]) => strength)))].sort((a, b) => a - b);
    const at = (points, strength) => points.find(([value]) => value === strength);
    const heads = [[unit, ""], ...measured.map(([number]) => [shown.weights[number].name, "n"])];
    const cells = (strength) => series.map(([, points]) => at(points, strength)).map((point) => (point ? `${percent(point[1])} (${between(point[2])})` : ""));
    const label = `Share that is right by strength: ${title}. The table below has the numbers.`;
    return [
      make("h3", {}, `${title}: ${count(n)} images of ${split}`),
      make("figure", { className: "wide-figure" }, legend(numbers, measured.map(([number]) => number)), curves(series, `${name}: ${unit}`, label)),
      make("details", {}, make("summary", {}, `Table of ${title}`), table(title, heads, strengths.map((strength) => [`${Number(strength.toPrecision(4))}`, ...cells(strength)]))),
    ];
  });
  const all = numbers.map((number) => shown.weights[number]);
  const patches = all.flatMap((one) =>
    one.patches.map((patch) => {
      const rate = `${percent(patch.rate)} (${between(patch.interval)}) of ${count(patch.n)} images of ${patch.data}`;
      return make("p", {}, `A patch on ${percent(100 * patch.area)} of the picture makes ${one.name} answer ${patch.target} for ${rate}; without it, ${percent(patch.without)}.`);
    }),
  );
  const without = all.filter((one) => !one.curves.length && !one.patches.length).map((one) => one.name);
  const words = without.length ? [make("p", { className: "note" }, `Not measured under attack or transformation: ${listed(without)}.`)] : [];
  return [make("h2", {}, "Robustness"), ...drawings, ...patches, ...words];
}

function speed(numbers) {
  const all = numbers.map((number) => shown.weights[number]);
  const timed = all.filter((one) => one.latency !== null);
  const heads = [["Weights", ""], ["Parameters", "n"], ["Multiply-adds", "n"]];
  if (timed.length) heads.push(["Latency, ms", "n"], ["Images per second", "n"]);
  const times = (one) => (one.latency === null ? ["", ""] : [one.latency.toFixed(1), count(Number(one.speed.toPrecision(3)))]);
  const lines = all.map((one) => [one.name, one.params ? count(one.params) : "", one.macs ? count(one.macs) : "", ...(timed.length ? times(one) : [])]);
  const settings = [...new Set(timed.map((one) => one.setting))];
  const without = all.filter((one) => one.latency === null).map((one) => one.name);
  const words = settings.map((setting) => `Latency on ${setting}.`);
  if (without.length) words.push(`Latency not measured for this site: ${listed(without)}.`);
  return [make("h2", {}, "Size and speed"), table("Size and speed", heads, lines), make("p", { className: "note" }, words.join(" "))];
}

list((weights, number) => (names.some((name) => shown.weights.some((one) => one.name === name)) ? names.includes(weights.name) : number < 2));
[part("needs").hidden, part("controls").hidden] = [true, false];
update();
