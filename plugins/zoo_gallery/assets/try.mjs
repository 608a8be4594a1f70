// Classifies the reader's image with the site's own networks. Nothing leaves the browser.

import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import { drawn, moved } from "./maps.mjs";
import { decode, prepare } from "./preprocess.mjs";

ort.env.wasm.numThreads = 1; // more would need headers that static hosts do not send

const place = new URL("../try/", import.meta.url);
const models = await (await fetch(new URL("models.json", place))).json();
const sessions = new Map();
const status = document.getElementById("status");
const choice = document.getElementById("choice");
const results = document.getElementById("results");
const sliders = [...document.querySelectorAll("#moves input")];
const wantsMaps = document.getElementById("maps");
let current = null; // the image as it was opened
let isBusy = false;
let isStale = false;

const make = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

models.forEach((model, number) => {
  const box = make("input", { type: "checkbox", value: number, checked: number === 0 });
  choice.append(make("label", {}, box, ` ${model.name} (${model.precision}, ${(model.size / 1e6).toPrecision(2)} MB)`));
});
choice.addEventListener("change", update);
wantsMaps.addEventListener("change", update);

function session(file) {
  if (!sessions.has(file)) {
    const address = new URL(file, place).href;
    sessions.set(file, ort.InferenceSession.create(address, { executionProviders: ["wasm"] }));
  }
  return sessions.get(file);
}

async function run(file, pixels, size) {
  const network = await session(file);
  const input = new ort.Tensor("uint8", pixels, [1, ...size]);
  const output = await network.run({ [network.inputNames[0]]: input });
  return network.outputNames.map((name) => ({ name, data: output[name].data, dims: output[name].dims }));
}

// The logits of `model` for an image as decode() returns it.
export async function logits(model, image) {
  const pixels = prepare(image, model.preprocess);
  const [output] = await run(model.file, pixels, model.preprocess.input_size);
  return { pixels, values: [...output.data] };
}

// The maps of the first layers: name, data and dims (1 C H W) of each.
export async function maps(model, image) {
  return run(model.maps.file, prepare(image, model.preprocess), model.preprocess.input_size);
}

function softmax(values) {
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

// What the network is given, as a picture.
function seen(pixels, [channels, height, width]) {
  const canvas = make("canvas", { width, height, className: "seen" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The image as the network sees it, ${width} by ${height} pixels`);
  const data = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = pixels[(c % channels) * height * width + i];
    data.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

function table(model, values) {
  const shares = softmax(values);
  const order = shares.map((_, number) => number).sort((a, b) => shares[b] - shares[a]);
  const rows = order.slice(0, 5).map((number) => {
    const meter = make("meter", { min: 0, max: 1, value: shares[number] });
    meter.setAttribute("aria-hidden", "true");
    const share = make("td", { className: "n" }, `${(100 * shares[number]).toFixed(2)}%`);
    const name = make("th", { scope: "row" }, model.classes[number] ?? String(number));
    return make("tr", {}, name, share, make("td", {}, meter));
  });
  return make("table", {}, make("caption", {}, model.name), make("tbody", {}, ...rows));
}

// The sections of the chosen networks, for the image as it lies now.
async function classified(image, chosen) {
  const shown = [];
  for (const model of chosen) {
    const { pixels, values } = await logits(model, image);
    const parts = [seen(pixels, model.preprocess.input_size), table(model, values)];
    for (const { name, data, dims } of wantsMaps.checked && model.maps ? await maps(model, image) : []) {
      const canvas = drawn(data, dims);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `The ${dims[1]} maps of ${name}`);
      parts.push(make("figure", { className: "maps" }, canvas, make("figcaption", {}, `${name}: ${dims.slice(1).join(" × ")}`)));
    }
    shown.push(make("section", { className: "card" }, ...parts));
  }
  return shown;
}

// Computes again, once more if something has changed meanwhile.
async function update() {
  const [turn, right, down] = sliders.map((slider) => Number(slider.value));
  [`${turn}°`, `${right}%`, `${down}%`].forEach((text, number) => {
    sliders[number].setAttribute("aria-valuetext", text);
    sliders[number].nextElementSibling.textContent = text;
  });
  isStale = current !== null;
  if (isBusy || !isStale) return;
  isBusy = true;
  while (isStale) {
    isStale = false;
    const [turned, across, below] = sliders.map((slider) => Number(slider.value));
    const chosen = [...choice.querySelectorAll("input:checked")].map((box) => models[Number(box.value)]);
    status.textContent = chosen.length ? "Computing …" : "Choose a network.";
    try {
      const image = moved(current, { turn: turned, right: across / 100, down: below / 100 });
      results.replaceChildren(...(await classified(image, chosen)));
      if (chosen.length) status.textContent = `Classified by ${chosen.length} of ${models.length} networks.`;
    } catch (error) {
      results.replaceChildren();
      status.textContent = `The network could not be run: ${error.message}`;
    }
  }
  isBusy = false;
}

async function classify(image) {
  current = image;
  document.getElementById("moves").hidden = false;
  await update();
}

async function open(blob) {
  if (!blob) return;
  try {
    await classify(await decode(blob));
  } catch {
    status.textContent = "This file is not an image that the browser can read.";
  }
}

for (const input of document.querySelectorAll("input[type=file]")) {
  input.addEventListener("change", () => open(input.files[0]));
  open(input.files[0]); // chosen while this script was loading
}
document.addEventListener("paste", (event) => open([...event.clipboardData.files][0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  open(event.dataTransfer.files[0]);
});

// The pad: white on black, as the digits of MNIST are.
const pad = document.getElementById("pad");
const pen = pad.getContext("2d", { willReadFrequently: true });
const clear = () => pen.fillRect(0, 0, pad.width, pad.height);
Object.assign(pen, { lineWidth: 34, lineCap: "round", lineJoin: "round", strokeStyle: "#fff", fillStyle: "#000" });
clear();
const at = (event) => {
  const frame = pad.getBoundingClientRect();
  return [((event.clientX - frame.left) * pad.width) / frame.width, ((event.clientY - frame.top) * pad.height) / frame.height];
};
pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  pen.beginPath();
  pen.moveTo(...at(event));
});
pad.addEventListener("pointermove", (event) => {
  if (!pad.hasPointerCapture(event.pointerId)) return;
  pen.lineTo(...at(event));
  pen.stroke();
});
pad.addEventListener("pointerup", () => classify(pen.getImageData(0, 0, pad.width, pad.height)));
document.getElementById("clear").addEventListener("click", clear);

sliders.forEach((slider) => slider.addEventListener("input", update));
document.getElementById("upright").addEventListener("click", () => {
  sliders.forEach((slider) => (slider.value = 0));
  update();
});

document.getElementById("controls").hidden = false;
status.textContent = "Choose an image, paste one, drop one here, or draw.";
