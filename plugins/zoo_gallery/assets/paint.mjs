// Draws values of 0 to 1 as a square of grey pixels.
export function paint(canvas, values, side) {
  [canvas.width, canvas.height] = [side, side];
  const picture = new ImageData(side, side);
  values.forEach((value, i) => picture.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
