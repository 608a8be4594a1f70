// Gabor filters as zoo.look.gabor makes them, and the responses of cells that have them as receptive fields.

// The Gaussian's width for a bandwidth of one octave.
export const sigmaOf = (wavelength) => (wavelength / Math.PI) * Math.sqrt(Math.LN2 / 2) * 3;

// The even and the odd part (the wave's cosine and sine), size x size values each, and the sum of the Gaussian. Lengths
// are in pixels, angles in radians; x points right and y down. `removeDc` makes the filter blind to brightness.
export function gaborFilter({ wavelength, orientation, phase, size, gamma = 0.5, removeDc = true }) {
  const sigma = sigmaOf(wavelength);
  const [cos, sin] = [Math.cos(orientation), Math.sin(orientation)];
  const [envelope, even, odd] = Array.from({ length: 3 }, () => new Float64Array(size * size));
  for (let i = 0; i < size * size; i++) {
    const [x, y] = [(i % size) - (size - 1) / 2, Math.floor(i / size) - (size - 1) / 2];
    const [along, across] = [x * cos + y * sin, y * cos - x * sin];
    envelope[i] = Math.exp(-(along ** 2 + (gamma * across) ** 2) / (2 * sigma ** 2));
    even[i] = envelope[i] * Math.cos((2 * Math.PI * along) / wavelength + phase);
    odd[i] = envelope[i] * Math.sin((2 * Math.PI * along) / wavelength + phase);
  }
  const total = envelope.reduce((sum, value) => sum + value, 0);
  for (const part of removeDc ? [even, odd] : []) {
    const mean = part.reduce((sum, value) => sum + value, 0) / total;
    for (let i = 0; i < part.length; i++) part[i] -= mean * envelope[i];
  }
  return { even, odd, total };
}

// A simple cell's response: the part of the match with the even filter that is above zero. A complex cell's: the energy
// of the even and the odd filter, which the phase does not change. `image` has side x side values; its border is repeated.
export function responses(image, side, { even, odd }) {
  const size = Math.sqrt(even.length);
  const reach = (size - 1) / 2;
  const wide = side + 2 * reach;
  const within = (value) => Math.min(Math.max(value - reach, 0), side - 1);
  const padded = Float64Array.from({ length: wide * wide }, (_, i) =>
    image[within(Math.floor(i / wide)) * side + within(i % wide)]);
  const [simple, complex] = [new Float64Array(side * side), new Float64Array(side * side)];
  for (let i = 0; i < side * side; i++) {
    const start = Math.floor(i / side) * wide + (i % side);
    let [cosine, sine] = [0, 0];
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const value = padded[start + y * wide + x];
        cosine += even[y * size + x] * value;
        sine += odd[y * size + x] * value;
      }
    }
    simple[i] = Math.max(cosine, 0);
    complex[i] = Math.hypot(cosine, sine);
  }
  return { simple, complex };
}

// Rings whose wavelength is 240 pixels divided by the distance from the centre: each place has its own orientation and
// wavelength.
export const rings = (side) =>
  Float64Array.from({ length: side * side }, (_, i) => {
    const [x, y] = [(i % side) - (side - 1) / 2, Math.floor(i / side) - (side - 1) / 2];
    return 0.5 + 0.5 * Math.cos((Math.PI / 240) * (x * x + y * y));
  });
