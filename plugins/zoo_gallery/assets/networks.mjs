// Runs the site's networks by ONNX Runtime Web, which is loaded with the first of them.

import { enlarged } from "./maps.mjs";
import { prepare } from "./preprocess.mjs";

const place = new URL("../try/", import.meta.url);
const kept = new Map();

// What `make` promises, once for each key; a failure is forgotten, so that it can be tried again.
function once(key, make) {
  if (!kept.has(key)) {
    const promise = make();
    kept.set(key, promise);
    promise.catch(() => kept.delete(key));
  }
  return kept.get(key);
}

const runtime = () =>
  once("runtime", async () => {
    const ort = await import("./runtime/ort.wasm.bundle.min.mjs");
    ort.env.wasm.numThreads = 1; // more would need headers that static hosts do not send
    return ort;
  });

const session = (file) =>
  once(file, async () => (await runtime()).InferenceSession.create(new URL(file, place).href, { executionProviders: ["wasm"] }));

async function run(file, pixels, size, count = 1) {
  const [ort, network] = [await runtime(), await session(file)];
  const input = new ort.Tensor("uint8", pixels, [count, ...size]);
  const output = await network.run({ [network.inputNames[0]]: input });
  return network.outputNames.map((name) => ({ name, data: output[name].data, dims: output[name].dims }));
}

// The logits of `model` for an image as decode() returns it, the pixels that the network is given, and, of networks
// that have it, the class activation map of the largest logit at the size of the pixels, its positive part.
export async function logits(model, image) {
  const pixels = prepare(image, model.preprocess);
  const [output, classMap] = await run(model.file, pixels, model.preprocess.input_size);
  const places = classMap && enlarged(classMap.data.map((value) => Math.max(value, 0)), classMap.dims.slice(1), model.preprocess.input_size.slice(1));
  return { pixels, values: [...output.data], places };
}

// The maps of the first layers: name, data and dims (1 C H W) of each.
export async function maps(model, image) {
  return run(model.maps.file, prepare(image, model.preprocess), model.preprocess.input_size);
}

const LARGE = 64; // pixels of a side, above which windows do not overlap: there would be four times as many
const AT_ONCE = 15;

// By how much the logit `target` falls, on average over the windows that hold a pixel, when a window is covered with
// the mean image: as zoo.look.attribute does for small images. `between` is called with the share that is done.
export async function occlusion(model, pixels, values, target, between = async () => {}) {
  const [channels, height, width] = model.preprocess.input_size;
  const side = Math.min(height, width);
  const window = Math.max(1, Math.floor(side / 8));
  const stride = side > LARGE ? window : Math.max(1, Math.floor(window / 2));
  const fill = Array.from({ length: channels }, (_, channel) => Math.round(255 * model.preprocess.mean[channel]));
  const places = [];
  for (let row = 0; row < height - window + stride; row += stride) {
    for (let column = 0; column < width - window + stride; column += stride) places.push([row, column]);
  }
  const within = ([row, column], visit) => {
    for (let y = row; y < Math.min(row + window, height); y++) {
      for (let x = column; x < Math.min(column + window, width); x++) visit(y * width + x);
    }
  };
  const [total, seen] = [new Float32Array(height * width), new Float32Array(height * width)];
  for (let first = 0; first < places.length; first += AT_ONCE) {
    await between(first / places.length);
    const chosen = places.slice(first, first + AT_ONCE);
    const covered = new Uint8Array(chosen.length * pixels.length);
    chosen.forEach((corner, number) => {
      const image = covered.subarray(number * pixels.length, (number + 1) * pixels.length);
      image.set(pixels);
      within(corner, (i) => fill.forEach((value, channel) => (image[channel * height * width + i] = value)));
    });
    const [output] = await run(model.file, covered, model.preprocess.input_size, chosen.length);
    chosen.forEach((corner, number) => {
      const fall = values[target] - output.data[number * values.length + target];
      within(corner, (i) => {
        total[i] += fall;
        seen[i] += 1;
      });
    });
  }
  return total.map((value, i) => value / seen[i]);
}
