// Shows the reader's image to the site's own networks. A worker computes; nothing leaves the browser.

const models = await (await fetch(new URL("../try/models.json", import.meta.url))).json();
const part = (id) => document.getElementById(id);
const [status, choice, about, results, preview] = ["status", "choice", "about", "results", "preview"].map(part);
const sliders = [...document.querySelectorAll("#moves input")];
const [wantsMaps, wantsReasons, wantsPlaces] = ["maps", "reasons", "places"].map(part);
const worker = new Worker(new URL("try-worker.mjs", import.meta.url), { type: "module" });
let asked = 0; // the number of the last question: answers to earlier ones are not shown
let hasImage = false;
let truth = ""; // what the example shows
let isPad = false; // the image is the drawing
let chosen = [];

const make = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

// ---- the networks ----------------------------------------------------------------------------------------

const groups = new Map();
const wished = new URLSearchParams(location.search).getAll("network");
const isWished = models.map((model) => wished.includes(model.name));
models.forEach((model, number) => {
  if (!groups.has(model.trained_on)) {
    groups.set(model.trained_on, make("div", {}, make("p", { className: "group" }, model.trained_on)));
    choice.append(groups.get(model.trained_on));
  }
  const checked = isWished.includes(true) ? isWished[number] : number === 0;
  const box = make("input", { type: "checkbox", value: number, checked });
  const size = make("small", {}, ` ${model.precision}, ${(model.size / 1e6).toPrecision(2)} MB`);
  groups.get(model.trained_on).append(make("label", {}, box, ` ${model.name}`, size));
});

const MANY = 12;

// What a network was trained on, its classes, and where to read more.
function described(model) {
  const classes = model.classes.join(", ");
  const list =
    model.classes.length > MANY
      ? [make("details", {}, make("summary", {}, `Its ${model.classes.length.toLocaleString("en")} classes`), make("p", {}, classes))]
      : classes
        ? [make("p", {}, "Its classes: ", make("b", {}, classes))]
        : [];
  const links = [make("a", { href: model.page }, "About it")];
  if (model.attack) links.push(" · ", make("a", { href: model.attack }, "Images that fool it, with a slider"));
  const lines = [make("p", {}, make("b", {}, model.name)), make("p", {}, model.training), ...list];
  return make("div", { className: "about" }, ...lines, ...(model.page ? [make("p", {}, ...links)] : []));
}

function showChoice() {
  chosen = [...choice.querySelectorAll("input:checked")].map((box) => models[Number(box.value)]);
  about.replaceChildren(...chosen.map(described));
  const samples = new Map(chosen.flatMap((model) => model.examples.map((example) => [example.file, example])));
  const sorted = [...samples.values()].sort((a, b) => Boolean(a.credit) - Boolean(b.credit)); // photographs last
  part("examples").replaceChildren(
    ...sorted.map((example) => {
      const picture = make("img", { src: new URL(`../try/${example.file}`, import.meta.url).href, alt: example.label });
      const button = make("button", { type: "button", className: "example", title: example.credit || example.label }, picture);
      button.addEventListener("click", () => openExample(example, picture.src));
      return button;
    }),
  );
  part("no-examples").hidden = samples.size > 0;
  for (const words of document.querySelectorAll(".of-places")) words.hidden = !chosen.some((model) => model.has_class_map);
}

choice.addEventListener("change", () => {
  showChoice();
  const address = new URL(location.href);
  address.searchParams.delete("network");
  chosen.forEach((model) => address.searchParams.append("network", model.name));
  history.replaceState(null, "", address);
  results.replaceChildren();
  ask();
});

// ---- the image -------------------------------------------------------------------------------------------

// A new image, a file or pixels: the old answer is gone at once. Null is none.
function open(source, { label = "", fromPad = false, words = "" } = {}) {
  [hasImage, truth, isPad] = [source !== null, label, fromPad];
  results.replaceChildren();
  preview.hidden = true;
  part("moves").hidden = source === null;
  part("forget").hidden = source === null;
  ask({ source, words });
}

// Asks the worker about the image as it lies now.
function ask({ source, words = "" } = {}) {
  const [turn, right, down] = sliders.map((slider) => Number(slider.value));
  [`${turn}°`, `${right}%`, `${down}%`].forEach((text, number) => {
    sliders[number].setAttribute("aria-valuetext", text);
    sliders[number].nextElementSibling.textContent = text;
  });
  asked += 1;
  const question = { id: asked, models: chosen, move: { turn, right: right / 100, down: down / 100 } };
  Object.assign(question, { wantsMaps: wantsMaps.checked, wantsReasons: wantsReasons.checked });
  if (source !== undefined) question.source = source;
  if (hasImage || source === null) worker.postMessage(question);
  results.setAttribute("aria-busy", hasImage && chosen.length > 0);
  if (!hasImage) status.textContent = words || "Choose an example or a file, paste or drop an image, or draw.";
  else if (!chosen.length) status.textContent = "Choose a network.";
  else if (source) status.textContent = "Reading the image …";
}

worker.addEventListener("message", ({ data }) => {
  if (data.id !== asked) return;
  const answerOf = { opened: showImage, busy: showBusy, answer: showAnswer, reasons: showReasons, done: showEnd, failed: showFailure };
  answerOf[data.kind](data);
});
worker.addEventListener("error", () => {
  status.textContent = "This browser cannot run the networks: it needs module workers and WebAssembly.";
});

async function openExample(example, address) {
  open(null, { words: "Reading the example …" });
  const number = asked;
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(`${answer.status}`);
    const blob = await answer.blob();
    if (number === asked) open(blob, { label: example.label });
  } catch {
    if (number === asked) status.textContent = "The example could not be loaded.";
  }
}

for (const input of document.querySelectorAll("input[type=file]")) {
  const take = () => {
    if (input.files[0]) open(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  };
  input.addEventListener("change", take);
  setTimeout(take); // chosen while this script was loading
}
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) open(file);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
part("forget").addEventListener("click", () => {
  open(null);
  document.querySelector("input[type=file]").focus(); // the button is gone
});

// ---- the camera ------------------------------------------------------------------------------------------

const [lens, view] = [part("lens"), part("view")];
const closeCamera = () => {
  view.srcObject?.getTracks().forEach((track) => track.stop());
  view.srcObject = null;
  lens.hidden = true;
};
if (navigator.mediaDevices?.getUserMedia) {
  part("capture").hidden = true; // a phone's way, where a page may not open the camera itself
  part("camera").hidden = false;
  part("camera").addEventListener("click", async () => {
    try {
      view.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      lens.hidden = false;
      part("take").focus();
      await view.play();
    } catch (error) {
      closeCamera();
      status.textContent = `The camera cannot be used: ${error.message}`;
    }
  });
  part("take").addEventListener("click", () => {
    if (!view.videoWidth) return;
    const context = new OffscreenCanvas(view.videoWidth, view.videoHeight).getContext("2d");
    context.drawImage(view, 0, 0);
    open(context.getImageData(0, 0, view.videoWidth, view.videoHeight));
  });
  part("shut").addEventListener("click", () => {
    closeCamera();
    part("camera").focus();
  });
}

// ---- the pad: white on black, as the digits of MNIST are ----------------------------------------------------

const pad = part("pad");
const pen = pad.getContext("2d", { willReadFrequently: true });
Object.assign(pen, { lineWidth: 34, lineCap: "round", lineJoin: "round", strokeStyle: "#fff", fillStyle: "#000" });
pen.fillRect(0, 0, pad.width, pad.height);
const draw = (event) => {
  const frame = pad.getBoundingClientRect();
  pen.lineTo(((event.clientX - frame.left) * pad.width) / frame.width, ((event.clientY - frame.top) * pad.height) / frame.height);
  pen.stroke();
};
pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  pen.beginPath();
  draw(event);
});
pad.addEventListener("pointermove", (event) => {
  if (pad.hasPointerCapture(event.pointerId)) draw(event);
});
pad.addEventListener("pointerup", () => open(pen.getImageData(0, 0, pad.width, pad.height), { fromPad: true }));
part("clear").addEventListener("click", () => {
  pen.fillRect(0, 0, pad.width, pad.height);
  if (isPad) open(null);
});

// ---- the answer ------------------------------------------------------------------------------------------

const put = (canvas, bitmap) => {
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
  canvas.setAttribute("role", "img");
  return canvas;
};

function showImage({ preview: picture, width, height }) {
  const canvas = put(make("canvas"), picture);
  canvas.setAttribute("aria-label", `The image, ${width} by ${height} pixels`);
  canvas.classList.toggle("coarse", width < 100);
  preview.replaceChildren(canvas, make("figcaption", {}, `${width} × ${height} pixels${truth ? `; an example of “${truth}”` : ""}`));
  preview.hidden = false;
}

function showBusy({ words }) {
  status.textContent = words;
}

function softmax(values) {
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
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
  const made = make("table", {}, make("tbody", {}, ...rows));
  made.setAttribute("aria-label", `The answer of ${model.name}`);
  return made;
}

// What the network is given, as a picture; with `heat` for each pixel, grey, and red where it is largest.
function seen(pixels, [channels, height, width], heat = null) {
  const canvas = make("canvas", { width, height, className: "seen" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The image as the network sees it, ${width} by ${height} pixels`);
  const data = new ImageData(width, height);
  const most = heat ? heat.reduce((one, other) => Math.max(one, other), 0) : 0;
  for (let i = 0; i < height * width; i++) {
    const color = [0, 1, 2].map((c) => pixels[(c % channels) * height * width + i]);
    if (heat) {
      const [grey, share] = [(color[0] + color[1] + color[2]) / 3, most > 0 ? Math.max(heat[i] / most, 0) : 0];
      color.splice(0, 3, grey * (1 - share) + 255 * share, grey * (1 - share), grey * (1 - share));
    }
    data.data.set([...color, 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

let shown = []; // the answers by number of the network

function showAnswer({ number, pixels, values, places, layers }) {
  const model = chosen[number];
  shown[number] = { pixels, values };
  const sight = make("figure", { className: "sight" }, seen(pixels, model.preprocess.input_size), make("figcaption", {}, "What it sees"));
  const heads = [make("h2", {}, model.name), make("p", { className: "knows" }, model.knows)];
  const sights = make("div", { className: "sights" }, sight);
  if (wantsPlaces.checked && places) sights.append(marked(model, pixels, places, `Where it looked for “${bestOf(model, values)}”`));
  const parts = [...heads, sights, table(model, values)];
  for (const { name, dims, picture } of layers) {
    const canvas = put(make("canvas"), picture);
    canvas.setAttribute("aria-label", `The ${dims[1]} maps of ${name}`);
    parts.push(make("figure", { className: "maps" }, canvas, make("figcaption", {}, `${name}: ${dims.slice(1).join(" × ")}`)));
  }
  const section = make("section", { className: "card answer" }, ...parts);
  section.dataset.network = model.name;
  const before = [...results.children].find((one) => one.dataset.network === model.name);
  if (before) before.replaceWith(section);
  else results.append(section);
}

function showReasons({ number, reasons }) {
  const [model, { pixels, values }] = [chosen[number], shown[number]];
  const section = [...results.children].find((one) => one.dataset.network === model.name);
  section.querySelector(".sights").append(marked(model, pixels, reasons, `What “${bestOf(model, values)}” rests on`));
}

function bestOf(model, values) {
  const best = values.indexOf(Math.max(...values));
  return model.classes[best] ?? best;
}

function marked(model, pixels, heat, words) {
  const canvas = seen(pixels, model.preprocess.input_size, heat);
  canvas.setAttribute("aria-label", `${words}: the redder, the more`);
  return make("figure", { className: "sight" }, canvas, make("figcaption", {}, words));
}

function showEnd() {
  results.setAttribute("aria-busy", false);
  if (chosen.length) status.textContent = `Classified by ${chosen.length} of ${models.length} networks.`;
}

function showFailure({ place, words }) {
  results.replaceChildren();
  results.setAttribute("aria-busy", false);
  if (place === "image") open(null, { words: "This file is not an image that the browser can read." });
  else status.textContent = `The network could not be run: ${words}`;
}

[...sliders, wantsMaps, wantsReasons, wantsPlaces].forEach((control) => control.addEventListener("input", () => ask()));
part("upright").addEventListener("click", () => {
  sliders.forEach((slider) => (slider.value = 0));
  ask();
});

showChoice();
[part("needs").hidden, part("controls").hidden] = [true, false];
const firstChosen = choice.querySelector("input:checked")?.parentElement;
if (firstChosen) choice.scrollTop = firstChosen.offsetTop - choice.offsetTop - choice.clientHeight / 2;
ask();
