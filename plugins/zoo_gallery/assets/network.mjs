// A small network with its gradients: 5 x 5 convolution with padding, ReLU, 2 x 2 maximum, linear layer. Its input is an
// image of 8 x 8 values in 0 to 1. Parameters are Float64Arrays in PyTorch's order.

const SIDE = 8;
const REACH = 2;
const KERNEL = 2 * REACH + 1;
const PADDED = SIDE + 2 * REACH;
const POOLED = SIDE / 2;
export const FILTERS = 12;
export const CLASSES = 10;
const PLACES = POOLED * POOLED;
const FEATURES = FILTERS * PLACES;

export const SIZES = {
  "conv.weight": FILTERS * KERNEL * KERNEL,
  "conv.bias": FILTERS,
  "linear.weight": CLASSES * FEATURES,
  "linear.bias": CLASSES,
};

export const zeros = () =>
  Object.fromEntries(Object.entries(SIZES).map(([name, size]) => [name, new Float64Array(size)]));

// Random numbers in 0 to 1 that a seed repeats (mulberry32).
export function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

// PyTorch's default: uniform between plus and minus one over the root of a unit's inputs.
export function initial(random) {
  const parameters = zeros();
  for (const [name, values] of Object.entries(parameters)) {
    const bound = 1 / Math.sqrt(name.startsWith("conv") ? KERNEL * KERNEL : FEATURES);
    for (let i = 0; i < values.length; i++) values[i] = (2 * random() - 1) * bound;
  }
  return parameters;
}

function pad(image) {
  const padded = new Float64Array(PADDED * PADDED);
  for (let y = 0; y < SIDE; y++) padded.set(image.subarray(y * SIDE, (y + 1) * SIDE), (y + REACH) * PADDED + REACH);
  return padded;
}

function convolve(padded, kernel, offset, bias, start) {
  let sum = bias;
  for (let y = 0; y < KERNEL; y++) {
    for (let x = 0; x < KERNEL; x++) sum += kernel[offset + y * KERNEL + x] * padded[start + y * PADDED + x];
  }
  return sum;
}

// The features, after the maximum and ReLU, and the place in the padded image that each comes from.
function extract(parameters, padded) {
  const values = new Float64Array(FEATURES);
  const places = new Int32Array(FEATURES);
  for (let filter = 0; filter < FILTERS; filter++) {
    const [offset, bias] = [filter * KERNEL * KERNEL, parameters["conv.bias"][filter]];
    for (let cell = 0; cell < PLACES; cell++) {
      const corner = 2 * Math.floor(cell / POOLED) * PADDED + 2 * (cell % POOLED);
      let best = 0; // ReLU: a maximum below zero is zero
      for (const start of [corner, corner + 1, corner + PADDED, corner + PADDED + 1]) {
        const value = convolve(padded, parameters["conv.weight"], offset, bias, start);
        if (value > best) [best, places[filter * PLACES + cell]] = [value, start];
      }
      values[filter * PLACES + cell] = best;
    }
  }
  return { values, places };
}

function classify(parameters, features) {
  const scores = Float64Array.from(parameters["linear.bias"]);
  for (let k = 0; k < CLASSES; k++) {
    for (let i = 0; i < FEATURES; i++) scores[k] += parameters["linear.weight"][k * FEATURES + i] * features[i];
  }
  return scores;
}

export const logits = (parameters, image) => classify(parameters, extract(parameters, pad(image)).values);

export function predict(parameters, image) {
  const scores = logits(parameters, image);
  return scores.indexOf(Math.max(...scores));
}

// The mean cross-entropy of `images` with `labels`, and its gradient in every parameter.
export function lossAndGradients(parameters, images, labels) {
  const gradients = zeros();
  let loss = 0;
  images.forEach((image, number) => {
    const padded = pad(image);
    const { values, places } = extract(parameters, padded);
    const scores = classify(parameters, values);
    const largest = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(score - largest));
    const sum = powers.reduce((total, power) => total + power, 0);
    loss += (Math.log(sum) + largest - scores[labels[number]]) / images.length;

    const byFeature = new Float64Array(FEATURES);
    for (let k = 0; k < CLASSES; k++) {
      const error = (powers[k] / sum - (k === labels[number])) / images.length;
      gradients["linear.bias"][k] += error;
      for (let i = 0; i < FEATURES; i++) {
        gradients["linear.weight"][k * FEATURES + i] += error * values[i];
        byFeature[i] += error * parameters["linear.weight"][k * FEATURES + i];
      }
    }
    for (let i = 0; i < FEATURES; i++) {
      if (values[i] === 0) continue;
      const filter = Math.floor(i / PLACES);
      gradients["conv.bias"][filter] += byFeature[i];
      for (let y = 0; y < KERNEL; y++) {
        for (let x = 0; x < KERNEL; x++) {
          gradients["conv.weight"][(filter * KERNEL + y) * KERNEL + x] += byFeature[i] * padded[places[i] + y * PADDED + x];
        }
      }
    }
  });
  return { loss, gradients };
}

// A step of stochastic gradient descent, as torch.optim.SGD takes it; changes `parameters` and `velocities`.
export function descend(parameters, velocities, gradients, rate, momentum) {
  for (const [name, values] of Object.entries(parameters)) {
    const velocity = velocities[name];
    for (let i = 0; i < values.length; i++) {
      velocity[i] = momentum * velocity[i] + gradients[name][i];
      values[i] -= rate * velocity[i];
    }
  }
}
