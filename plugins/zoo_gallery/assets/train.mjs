// Trains the network of network.mjs on digits, and draws what it learns.

import { FILTERS, descend, generator, networkFor } from "./network.mjs";
import { paint } from "./paint.mjs";

const [TRAINING, TEST, PIXELS] = [1437, 360, 64]; // scikit-learn's digits, as zoo.data splits them
const [BATCH, MOMENTUM, STEPS_A_FRAME, MOST_EPOCHS] = [32, 0.9, 5, 50];
const EPOCH = Math.ceil(TRAINING / BATCH);
const { initial, lossAndGradients, maps, predict, zeros } = networkFor({ channels: 1, side: 8 });

const at = (id) => document.getElementById(id);
const bytes = new Uint8Array(await (await fetch(new URL("digits.bin", import.meta.url))).arrayBuffer());
const labels = bytes.subarray((TRAINING + TEST) * PIXELS);
const images = Array.from({ length: TRAINING + TEST }, (_, number) =>
  Float64Array.from(bytes.subarray(number * PIXELS, (number + 1) * PIXELS), (value) => value / 255),
);
const test = images.map((_, number) => number).slice(TRAINING);

let run = null; // the state of a training
let isRunning = false;

function reset() {
  const random = generator(0);
  run = { random, parameters: initial(random), velocities: zeros(), step: 0, order: [], history: [], losses: [] };
  at("epochs").replaceChildren();
  pause();
  show();
  at("status").textContent = "Ready to train.";
}

// A step on the next images of the epoch's random order.
function step() {
  if (run.step % EPOCH === 0) {
    run.order = Array.from({ length: TRAINING }, (_, number) => number);
    for (let last = TRAINING - 1; last > 0; last--) {
      const other = Math.floor(run.random() * (last + 1));
      [run.order[last], run.order[other]] = [run.order[other], run.order[last]];
    }
  }
  const begin = (run.step % EPOCH) * BATCH;
  const batch = run.order.slice(begin, begin + BATCH);
  const chosen = [batch.map((number) => images[number]), batch.map((number) => labels[number])];
  const { loss, gradients } = lossAndGradients(run.parameters, ...chosen);
  descend(run.parameters, run.velocities, gradients, rate(), MOMENTUM);
  run.losses.push(loss);
  run.step += 1;
}

function frame() {
  if (!isRunning) return;
  for (let i = 0; i < STEPS_A_FRAME; i++) step();
  show();
  if (run.step % EPOCH === 0) note();
  if (run.step >= MOST_EPOCHS * EPOCH) pause();
  else requestAnimationFrame(frame);
}

function start() {
  isRunning = run.step < MOST_EPOCHS * EPOCH;
  at("start").textContent = isRunning ? "Pause" : "Start";
  if (isRunning) requestAnimationFrame(frame);
}

function pause() {
  isRunning = false;
  at("start").textContent = "Start";
}

const rate = () => 10 ** Number(at("rate").value);

function showRate() {
  const text = rate().toPrecision(2);
  at("rate-value").textContent = text;
  at("rate").setAttribute("aria-valuetext", text);
}

// ---- pictures ----

function make(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function line(figure, values, top) {
  const longest = Math.max(run.step, EPOCH);
  const points = values.map(([x, y]) => `${(40 + (570 * x) / longest).toFixed(1)},${(165 - (155 * Math.min(y, top)) / top).toFixed(1)}`);
  figure.querySelector("polyline").setAttribute("points", points.join(" "));
  figure.querySelector(".last").textContent = `${longest} steps`;
}

function show() {
  const answers = test.map((number) => predict(run.parameters, images[number]));
  const wrong = test.filter((number, i) => answers[i] !== labels[number]);
  const accuracy = (100 * (TEST - wrong.length)) / TEST;
  const recent = run.losses.splice(0);
  if (recent.length) run.history.push({ step: run.step, loss: recent.reduce((a, b) => a + b) / recent.length, accuracy });
  else run.history.push({ step: 0, loss: null, accuracy });
  const { loss } = run.history.at(-1);

  at("step").textContent = run.step.toLocaleString("en");
  at("loss").textContent = loss === null ? "–" : loss.toFixed(3);
  at("accuracy").textContent = `${accuracy.toFixed(1)}%`;
  line(at("loss-chart"), run.history.filter((one) => one.loss !== null).map((one) => [one.step, one.loss]), 2.5);
  line(at("accuracy-chart"), run.history.map((one) => [one.step, one.accuracy]), 100);

  const filters = run.parameters["conv.weight"];
  const largest = filters.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  [...at("filters").children].forEach((canvas, number) =>
    paint(canvas, [...filters.subarray(number * 25, number * 25 + 25)].map((value) => 0.5 + value / largest / 2), 5),
  );
  const seen = maps(run.parameters, images[TRAINING]);
  const strongest = Math.max(...seen.map((map) => Math.max(...map)), 1e-9);
  const [image, ...answered] = at("maps").children;
  paint(image, [...images[TRAINING]], 8);
  answered.forEach((canvas, number) => paint(canvas, [...seen[number]].map((value) => value / strongest), 4));
  at("mistakes-title").textContent = `Mistakes: ${wrong.length} of ${TEST}`;
  at("mistakes").replaceChildren(
    ...wrong.slice(0, 12).map((number) => {
      const canvas = make("canvas", { className: "digit" });
      canvas.setAttribute("aria-hidden", "true");
      paint(canvas, [...images[number]], 8);
      return make("li", {}, canvas, `${labels[number]}, read as ${answers[number - TRAINING]}`);
    }),
  );
}

function note() {
  const { loss, accuracy } = run.history.at(-1);
  const epoch = run.step / EPOCH;
  const cells = [loss.toFixed(3), `${accuracy.toFixed(1)}%`].map((text) => make("td", { className: "n" }, text));
  at("epochs").append(make("tr", {}, make("th", { scope: "row" }, String(epoch)), ...cells));
  at("status").textContent = `Epoch ${epoch}: ${accuracy.toFixed(1)}% of the test images are right.`;
}

function addPicture(id, label) {
  const canvas = make("canvas", { className: "filter" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  at(id).append(canvas);
}

addPicture("maps", "The first test image");
for (let number = 1; number <= FILTERS; number++) {
  addPicture("filters", `Filter ${number}`);
  addPicture("maps", `Map of filter ${number}`);
}
at("start").addEventListener("click", () => (isRunning ? pause() : start()));
at("reset").addEventListener("click", reset);
at("rate").addEventListener("input", showRate);
showRate();
reset();
at("controls").hidden = false;
