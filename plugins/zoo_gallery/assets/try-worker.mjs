// Does the page's work beside it, so that the page never waits: decodes images and runs networks on them.

import { drawn, moved, reduced } from "./maps.mjs";
import { logits, maps, occlusion } from "./networks.mjs";
import { decode } from "./preprocess.mjs";

class Overtaken extends Error {} // the reader wants something else by now

let source = null; // the image as the page sent it: a file or pixels
let image = null; // its pixels
let small = null; // at most 1,024 pixels high and wide: what the sliders move
let wanted = null;
let latest = 0;
let isBusy = false;

self.addEventListener("message", async ({ data }) => {
  if ("source" in data) [source, image, small] = [data.source, null, null];
  latest = data.id;
  wanted = data.source === null ? null : data;
  if (isBusy) return;
  isBusy = true;
  while (wanted) {
    const task = wanted;
    wanted = null;
    await answer(task);
  }
  isBusy = false;
});

// Lets messages arrive; gives up on question `id` if one did.
async function pause(id) {
  await new Promise((resolve) => setTimeout(resolve));
  if (id !== latest) throw new Overtaken();
}

async function answer({ id, models, move, wantsMaps, wantsReasons }) {
  const tell = (message, parts = []) => self.postMessage({ id, ...message }, parts);
  let place = "image";
  try {
    const shown = await opened(id, move);
    const preview = pictureOf(shown);
    tell({ kind: "opened", preview, width: image.width, height: image.height }, [preview]);
    place = "network";
    for (const [number, model] of models.entries()) {
      await pause(id);
      tell({ kind: "busy", words: `Computing: ${model.name} …` });
      const { pixels, values, places } = await logits(model, shown);
      const layers = [];
      for (const { name, data, dims } of wantsMaps && model.maps ? await maps(model, shown) : []) {
        layers.push({ name, dims, picture: drawn(data, dims).transferToImageBitmap() });
      }
      tell({ kind: "answer", number, pixels, values, places, layers }, layers.map((layer) => layer.picture));
    }
    for (const [number, model] of wantsReasons ? models.entries() : []) {
      await pause(id);
      const { pixels, values } = await logits(model, shown);
      const reasons = await occlusion(model, pixels, values, values.indexOf(Math.max(...values)), async (share) => {
        tell({ kind: "busy", words: `Covering parts of the image: ${model.name}, ${Math.round(100 * share)}% …` });
        await pause(id);
      });
      tell({ kind: "reasons", number, reasons });
    }
    tell({ kind: "done" });
  } catch (error) {
    if (!(error instanceof Overtaken)) tell({ kind: "failed", place, words: error.message });
  }
}

// The image, moved if the sliders say so.
async function opened(id, move) {
  if (image === null) {
    const from = source;
    const pixels = from instanceof Blob ? await decode(from) : from;
    if (source === from) image = pixels; // also if the question is another by now
    await pause(id);
  }
  if (!move.turn && !move.right && !move.down) return image;
  small ??= reduced(image);
  return moved(small, move);
}

const SIDE = 480;

// A picture for the page, of at most 480 pixels; small images keep their pixels.
function pictureOf(shown) {
  const picture = reduced(shown, SIDE);
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas.transferToImageBitmap();
}
