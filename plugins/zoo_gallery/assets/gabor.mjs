// Draws the Gabor filter that the sliders describe, and what cells with it respond to in an image.

import { gaborFilter, responses, rings } from "./cells.mjs";
import { paint } from "./paint.mjs";
import { decode, prepare } from "./preprocess.mjs";

const SIDE = 160;
const PREPROCESS = { input_size: [1, SIDE, SIDE], crop_pct: 1, crop_mode: "center", interpolation: "bilinear" };

const at = (id) => document.getElementById(id);
const sliders = [...document.querySelectorAll("#controls input[type=range]")];
let image = rings(SIDE);
let isWaiting = false;

const largestOf = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

function show() {
  isWaiting = false;
  const [orientation, wavelength, phase, size] = sliders.map((slider) => Number(slider.value));
  const filter = gaborFilter({
    wavelength, size, orientation: (orientation / 180) * Math.PI, phase: (phase / 180) * Math.PI,
  });
  const { simple, complex } = responses(image, SIDE, filter);
  const weight = largestOf(filter.even) || 1;
  const most = largestOf(complex) || 1;
  paint(at("filter"), filter.even.map((value) => 0.5 + value / weight / 2), size);
  paint(at("image"), image, SIDE);
  paint(at("simple"), simple.map((value) => value / most), SIDE);
  paint(at("complex"), complex.map((value) => value / most), SIDE);
  // A grating that matches, between black and white, has a response of a quarter of the Gaussian's sum.
  const share = (values) => `${((100 * largestOf(values)) / (filter.total / 4)).toFixed(0)}%`;
  at("simple-most").textContent = share(simple);
  at("complex-most").textContent = share(complex);
}

function update() {
  for (const slider of sliders) {
    const text = `${slider.value}${slider.dataset.unit}`;
    at(`${slider.id}-value`).textContent = text;
    slider.setAttribute("aria-valuetext", text);
  }
  if (!isWaiting) requestAnimationFrame(show);
  isWaiting = true;
}

async function open(blob) {
  if (!blob) return;
  try {
    image = Float64Array.from(prepare(await decode(blob), PREPROCESS), (value) => value / 255);
    at("status").textContent = "Your image.";
  } catch {
    at("status").textContent = "This file is not an image that the browser can read.";
  }
  update();
}

at("file").addEventListener("change", () => open(at("file").files[0]));
at("rings").addEventListener("click", () => {
  image = rings(SIDE);
  at("file").value = "";
  at("status").textContent = "The rings.";
  update();
});
sliders.forEach((slider) => slider.addEventListener("input", update));
update();
at("controls").hidden = false;
at("status").textContent = "The rings.";
open(at("file").files[0]); // chosen while this script was loading
