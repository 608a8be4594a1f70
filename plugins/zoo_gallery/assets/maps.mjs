// Moves an image, and draws and enlarges what a layer makes of one.

const MOST = 1024;

// `image` with at most `most` pixels a side; itself if it is no larger.
export function reduced(image, most = MOST) {
  const share = most / Math.max(image.width, image.height);
  if (share >= 1) return image;
  const source = new OffscreenCanvas(image.width, image.height);
  source.getContext("2d").putImageData(image, 0, 0);
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(share * side)));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

// `image` turned by degrees and shifted by shares of its size, black where nothing is left; itself if nothing moves.
export function moved(image, { turn, right, down }) {
  if (!turn && !right && !down) return image;
  const { width, height } = image;
  const [source, target] = [0, 1].map(() => new OffscreenCanvas(width, height));
  source.getContext("2d").putImageData(image, 0, 0);
  const context = target.getContext("2d", { willReadFrequently: true });
  context.fillRect(0, 0, width, height);
  context.translate(width / 2 + right * width, height / 2 + down * height);
  context.rotate((turn / 180) * Math.PI);
  context.drawImage(source, -width / 2, -height / 2);
  return context.getImageData(0, 0, width, height);
}

// A map of `rows` x `columns` values at another size, bilinearly, as torch does without aligned corners.
export function enlarged(values, [rows, columns], [height, width]) {
  const between = (place, to, from) => {
    const at = Math.max(((place + 0.5) * from) / to - 0.5, 0);
    const low = Math.min(Math.floor(at), from - 1);
    return [low, Math.min(low + 1, from - 1), at - low];
  };
  const large = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    const [top, bottom, down] = between(y, height, rows);
    for (let x = 0; x < width; x++) {
      const [left, right, across] = between(x, width, columns);
      const along = (row) => (1 - across) * values[row * columns + left] + across * values[row * columns + right];
      large[y * width + x] = (1 - down) * along(top) + down * along(bottom);
    }
  }
  return large;
}

const COLUMNS = 8;

// All maps of a layer in one canvas, eight in a row: black is the smallest value of the layer, white the largest.
export function drawn(values, [, channels, height, width]) {
  const columns = Math.min(COLUMNS, channels);
  const canvas = new OffscreenCanvas(columns * (width + 1) - 1, Math.ceil(channels / columns) * (height + 1) - 1);
  const picture = new ImageData(canvas.width, canvas.height);
  const [least, most] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  values.forEach((value, i) => {
    const [channel, row, column] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
    const x = (channel % columns) * (width + 1) + column;
    const y = Math.floor(channel / columns) * (height + 1) + row;
    const grey = (255 * (value - least)) / (most - least || 1);
    picture.data.set([grey, grey, grey, 255], 4 * (y * canvas.width + x));
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
