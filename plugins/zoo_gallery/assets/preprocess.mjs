// Images as a network's input, equal to zoo.data.preprocess: Pillow's resampling, then the crop. Pixels are equal, except
// with crop_mode squash: there Pillow may resample columns before rows, and they differ by 1 at most.

// What lays an image of w x h upright on a canvas, by its EXIF orientation.
const TURNS = {
  1: () => [1, 0, 0, 1, 0, 0],
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w) => [0, -1, 1, 0, 0, w],
};

// The pixels of an image file as RGBA. Like zoo, it turns photographs as their EXIF says, lays transparent images on
// white, takes the upper 8 of 16 bits, and ignores colour profiles.
export async function decode(blob) {
  const [file, orientation] = await withoutOrientation(blob);
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };
  const bitmap = await createImageBitmap(file, options);
  const { width, height } = bitmap;
  const canvas = orientation > 4 ? new OffscreenCanvas(height, width) : new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.setTransform(...TURNS[orientation](width, height));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// A WebP file without the orientation in its EXIF, and the orientation; of other files, which browsers turn, 1.
// Chromium does not turn WebP. Where a browser does, it must not be turned twice.
async function withoutOrientation(blob) {
  const letters = String.fromCharCode(...new Uint8Array(await blob.slice(0, 12).arrayBuffer()));
  if (!/^RIFF[^]{4}WEBP$/.test(letters)) return [blob, 1];
  const view = new DataView(await blob.arrayBuffer());
  try {
    const [place, isLittle] = orientationIn(view, ...exifOf(view));
    const orientation = view.getUint16(place, isLittle);
    if (!(orientation in TURNS)) return [blob, 1];
    view.setUint16(place, 1, isLittle);
    return [new Blob([view.buffer]), orientation];
  } catch (error) {
    if (error instanceof RangeError) return [blob, 1]; // it has none, or it ends early
    throw error;
  }
}

const name = (view, place) => view.getUint32(place); // of four letters
const [EXIF, EXIF_HEAD, LITTLE, BIG] = [0x45584946, 0x45786966, 0x49492a00, 0x4d4d002a];

// Where the EXIF of a WebP file begins, and where it ends.
function exifOf(view) {
  for (let place = 12; ; ) {
    const [begin, size] = [place + 8, view.getUint32(place + 4, true)];
    if (name(view, place) === EXIF) return [name(view, begin) === EXIF_HEAD ? begin + 6 : begin, begin + size];
    place = begin + size + (size % 2);
  }
}

// Where the value of the orientation stands, and whether its least byte comes first.
function orientationIn(view, begin, end) {
  const order = name(view, begin);
  const isLittle = order === LITTLE;
  if (!isLittle && order !== BIG) throw new RangeError("no EXIF");
  const directory = begin + view.getUint32(begin + 4, isLittle);
  const count = view.getUint16(directory, isLittle);
  for (let entry = directory + 2; entry < directory + 2 + 12 * count && entry + 10 <= end; entry += 12) {
    if (view.getUint16(entry, isLittle) !== 0x0112) continue;
    const isShort = view.getUint16(entry + 2, isLittle) === 3 && view.getUint32(entry + 4, isLittle) === 1;
    if (isShort) return [entry + 8, isLittle];
    break;
  }
  throw new RangeError("no orientation");
}

const MOST_PIXELS = 67_108_864; // zoo's limit

// uint8 C H W of an image (width, height, data as RGBA), as `preprocess` of a model states it.
export function prepare(image, preprocess) {
  const [channels, height, width] = preprocess.input_size;
  const [tall, wide] = resizedTo(image.height, image.width, preprocess);
  if (!(tall * wide > 0 && tall * wide <= MOST_PIXELS)) {
    throw new Error(`an image of ${image.width} x ${image.height} would be resized to one of ${wide} x ${tall}`);
  }
  const planes = split(image, channels).map((plane) =>
    resize(plane, image.width, image.height, wide, tall, preprocess.interpolation),
  );
  const pixels = new Uint8Array(channels * height * width);
  planes.forEach((plane, channel) => {
    const fill = preprocess.crop_mode === "border" ? roundHalfEven(255 * preprocess.mean[channel]) : 0;
    cut(plane, wide, tall, pixels.subarray(channel * height * width), width, height, fill);
  });
  return pixels;
}

// Python's round: halves go to the even number.
function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

function resizedTo(height, width, { input_size, crop_pct, crop_mode }) {
  const tall = Math.floor(input_size[1] / crop_pct);
  const wide = Math.floor(input_size[2] / crop_pct);
  if (crop_mode === "squash") return [tall, wide];
  if (tall === wide && crop_mode !== "border") {
    const long = Math.trunc((tall * Math.max(height, width)) / Math.min(height, width));
    return height <= width ? [tall, long] : [long, tall];
  }
  const ratio = (crop_mode === "border" ? Math.max : Math.min)(height / tall, width / wide);
  return [roundHalfEven(height / ratio), roundHalfEven(width / ratio)];
}

// A plane for each channel; colour becomes grey with Pillow's integers.
function split({ data }, channels) {
  const count = data.length / 4;
  const planes = Array.from({ length: channels }, () => new Uint8Array(count));
  for (let i = 0; i < count; i++) {
    const [red, green, blue] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    if (channels === 1) planes[0][i] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    else [planes[0][i], planes[1][i], planes[2][i]] = [red, green, blue];
  }
  return planes;
}

const FILTERS = {
  bilinear: [1, (x) => Math.max(1 - Math.abs(x), 0)],
  bicubic: [
    2,
    (value) => {
      const [a, x] = [-0.5, Math.abs(value)];
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    },
  ],
};

function resize(plane, width, height, wide, tall, interpolation) {
  if (interpolation === "nearest") return nearest(plane, width, height, wide, tall);
  let [now, nowWide] = [plane, width];
  if (wide !== width) {
    now = resample(now, height, width, 1, wide, interpolation);
    nowWide = wide;
  }
  return tall === height ? now : resample(now, nowWide, height, nowWide, tall, interpolation);
}

// Along one axis: `lines` lines of `size` values, `step` apart, become lines of `target` values.
function resample(plane, lines, size, step, target, interpolation) {
  const [support, weight] = FILTERS[interpolation];
  const scale = size / target;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  const result = new Uint8Array(lines * target);
  for (let out = 0; out < target; out++) {
    const centre = (out + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const count = Math.min(Math.trunc(centre + reach + 0.5), size) - first;
    const weights = Array.from({ length: count }, (_, i) => weight((i + first - centre + 0.5) * (1 / stretch)));
    const sum = weights.reduce((total, value) => total + value, 0);
    // Fixed point with 22 bits, as Pillow has it.
    const fixed = weights.map((value) => Math.trunc((value / sum) * 4194304 + (value / sum < 0 ? -0.5 : 0.5)));
    for (let line = 0; line < lines; line++) {
      const begin = step === 1 ? line * size : line;
      let total = 2097152;
      for (let i = 0; i < count; i++) total += fixed[i] * plane[begin + (first + i) * step];
      const place = step === 1 ? line * target + out : out * step + line;
      result[place] = Math.min(Math.max(Math.floor(total / 4194304), 0), 255);
    }
  }
  return result;
}

function nearest(plane, width, height, wide, tall) {
  const places = (size, target) => {
    const found = [];
    for (let i = 0, place = (size / target) * 0.5; i < target; i++, place += size / target) {
      found.push(Math.min(Math.trunc(place), size - 1));
    }
    return found;
  };
  const [columns, rows] = [places(width, wide), places(height, tall)];
  const result = new Uint8Array(wide * tall);
  rows.forEach((row, y) => columns.forEach((column, x) => (result[y * wide + x] = plane[row * width + column])));
  return result;
}

// The centre, with `fill` around a smaller image.
function cut(plane, wide, tall, target, width, height, fill) {
  const begin = (have, want) =>
    have < want ? -Math.floor((want - have) / 2) : roundHalfEven((have - want) / 2);
  const [left, top] = [begin(wide, width), begin(tall, height)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [column, row] = [x + left, y + top];
      const isInside = column >= 0 && column < wide && row >= 0 && row < tall;
      target[y * width + x] = isInside ? plane[row * wide + column] : fill;
    }
  }
}
