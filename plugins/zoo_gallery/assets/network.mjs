// A small network with its gradients: 5 x 5 convolution with padding, ReLU, 2 x 2 maximum, linear layer. Its input is an
// image of `channels` maps of `side` x `side` values. Parameters are Float64Arrays in PyTorch's order.

const REACH = 2;
export const KERNEL = 2 * REACH + 1;
export const FILTERS = 12;
export const CLASSES = 10;

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

// What computes with a network for images of this shape: `initial`, `zeros`, `maps`, `predict`, `lossAndGradients`.
export function networkFor({ channels, side }) {
  const padding = side + 2 * REACH;
  const pooled = side / 2;
  const places = pooled * pooled;
  const features = FILTERS * places;
  const weights = channels * KERNEL * KERNEL; // of a filter

  const sizes = {
    "conv.weight": FILTERS * weights,
    "conv.bias": FILTERS,
    "linear.weight": CLASSES * features,
    "linear.bias": CLASSES,
  };
  const zeros = () => Object.fromEntries(Object.entries(sizes).map(([name, size]) => [name, new Float64Array(size)]));

  // PyTorch's default: uniform between plus and minus one over the root of a unit's inputs.
  function initial(random) {
    const parameters = zeros();
    for (const [name, values] of Object.entries(parameters)) {
      const bound = 1 / Math.sqrt(name.startsWith("conv") ? weights : features);
      for (let i = 0; i < values.length; i++) values[i] = (2 * random() - 1) * bound;
    }
    return parameters;
  }

  function pad(image) {
    const padded = new Float64Array(channels * padding * padding);
    for (let row = 0; row < channels * side; row++) {
      const [channel, y] = [Math.floor(row / side), row % side];
      padded.set(image.subarray(row * side, (row + 1) * side), (channel * padding + y + REACH) * padding + REACH);
    }
    return padded;
  }

  function convolve(padded, kernel, offset, bias, start) {
    let sum = bias;
    for (let channel = 0; channel < channels; channel++) {
      for (let y = 0; y < KERNEL; y++) {
        const [k, p] = [offset + (channel * KERNEL + y) * KERNEL, start + (channel * padding + y) * padding];
        for (let x = 0; x < KERNEL; x++) sum += kernel[k + x] * padded[p + x];
      }
    }
    return sum;
  }

  // The features, after the maximum and ReLU, and the place in the padded image that each comes from.
  function extract(parameters, padded) {
    const values = new Float64Array(features);
    const origins = new Int32Array(features);
    for (let filter = 0; filter < FILTERS; filter++) {
      const [offset, bias] = [filter * weights, parameters["conv.bias"][filter]];
      for (let cell = 0; cell < places; cell++) {
        const corner = 2 * Math.floor(cell / pooled) * padding + 2 * (cell % pooled);
        let best = 0; // ReLU: a maximum below zero is zero
        for (const start of [corner, corner + 1, corner + padding, corner + padding + 1]) {
          const value = convolve(padded, parameters["conv.weight"], offset, bias, start);
          if (value > best) [best, origins[filter * places + cell]] = [value, start];
        }
        values[filter * places + cell] = best;
      }
    }
    return { values, origins };
  }

  function classify(parameters, values) {
    const scores = Float64Array.from(parameters["linear.bias"]);
    for (let k = 0; k < CLASSES; k++) {
      for (let i = 0; i < features; i++) scores[k] += parameters["linear.weight"][k * features + i] * values[i];
    }
    return scores;
  }

  // The map of each filter after the maximum and ReLU, side / 2 wide.
  function maps(parameters, image) {
    const { values } = extract(parameters, pad(image));
    return Array.from({ length: FILTERS }, (_, filter) => values.subarray(filter * places, (filter + 1) * places));
  }

  const logits = (parameters, image) => classify(parameters, extract(parameters, pad(image)).values);

  function predict(parameters, image) {
    const scores = logits(parameters, image);
    return scores.indexOf(Math.max(...scores));
  }

  // The mean cross-entropy of `images` with `labels`, and its gradient in every parameter.
  function lossAndGradients(parameters, images, labels) {
    const gradients = zeros();
    let loss = 0;
    images.forEach((image, number) => {
      const padded = pad(image);
      const { values, origins } = extract(parameters, padded);
      const scores = classify(parameters, values);
      const largest = Math.max(...scores);
      const powers = scores.map((score) => Math.exp(score - largest));
      const sum = powers.reduce((total, power) => total + power, 0);
      loss += (Math.log(sum) + largest - scores[labels[number]]) / images.length;

      const byFeature = new Float64Array(features);
      for (let k = 0; k < CLASSES; k++) {
        const error = (powers[k] / sum - (k === labels[number])) / images.length;
        gradients["linear.bias"][k] += error;
        for (let i = 0; i < features; i++) {
          gradients["linear.weight"][k * features + i] += error * values[i];
          byFeature[i] += error * parameters["linear.weight"][k * features + i];
        }
      }
      for (let i = 0; i < features; i++) {
        if (values[i] === 0) continue;
        const filter = Math.floor(i / places);
        gradients["conv.bias"][filter] += byFeature[i];
        for (let weight = 0; weight < weights; weight++) {
          const [row, x] = [Math.floor(weight / KERNEL), weight % KERNEL];
          const place = origins[i] + (Math.floor(row / KERNEL) * padding + (row % KERNEL)) * padding + x;
          gradients["conv.weight"][filter * weights + weight] += byFeature[i] * padded[place];
        }
      }
    });
    return { loss, gradients };
  }

  return { channels, side, initial, zeros, logits, maps, predict, lossAndGradients };
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
