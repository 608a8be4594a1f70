// A deep network on points of a plane: blocks of a linear layer, batch normalisation or none, and ReLU, with or without a
// shortcut. Gradients are by hand; the whole set of points is one batch.
window.zooPlayground = (() => {
  const WIDTH = 8;
  const EPS = 1e-5;

  // Random numbers in 0 to 1 that a seed repeats (mulberry32).
  function generator(seed) {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  // Layers of weights and biases in PyTorch's order and with its initial values, and of each block a scale and a shift.
  function create(depth, random) {
    const linear = (inputs, outputs) => {
      const values = (count) => Float64Array.from({ length: count }, () => (2 * random() - 1) / Math.sqrt(inputs));
      return { weight: values(outputs * inputs), bias: values(outputs), inputs, outputs };
    };
    const block = () => ({ ...linear(WIDTH, WIDTH), scale: new Float64Array(WIDTH).fill(1), shift: new Float64Array(WIDTH) });
    return [linear(2, WIDTH), ...Array.from({ length: depth }, block), linear(WIDTH, 1)];
  }

  function apply({ weight, bias, inputs, outputs }, x) {
    const count = x.length / inputs;
    const y = new Float64Array(count * outputs);
    for (let n = 0; n < count; n++) {
      for (let o = 0; o < outputs; o++) {
        let sum = bias[o];
        for (let i = 0; i < inputs; i++) sum += weight[o * inputs + i] * x[n * inputs + i];
        y[n * outputs + o] = sum;
      }
    }
    return y;
  }

  // Mean and standard deviation of each of the columns.
  function statistics(z) {
    const count = z.length / WIDTH;
    const [mean, deviation] = [new Float64Array(WIDTH), new Float64Array(WIDTH)];
    z.forEach((value, i) => (mean[i % WIDTH] += value / count));
    z.forEach((value, i) => (deviation[i % WIDTH] += (value - mean[i % WIDTH]) ** 2 / count));
    return { mean, deviation: deviation.map((variance) => Math.sqrt(variance + EPS)) };
  }

  // The logit of each point (x, y), and what the gradients need. `batches` are the statistics of another batch, if any.
  function forward(layers, points, { shortcuts, normalisation }, batches = null) {
    const traces = [];
    let h = apply(layers[0], points);
    for (const [d, layer] of layers.slice(1, -1).entries()) {
      const z = apply(layer, h);
      const batch = normalisation ? batches?.[d] ?? statistics(z) : null;
      const normal = batch ? z.map((value, i) => (value - batch.mean[i % WIDTH]) / batch.deviation[i % WIDTH]) : z;
      const before = batch ? normal.map((value, i) => value * layer.scale[i % WIDTH] + layer.shift[i % WIDTH]) : z;
      const input = h;
      h = before.map((value, i) => Math.max(value, 0) + (shortcuts ? input[i] : 0));
      traces.push({ input, normal, before, batch });
    }
    return { logits: apply(layers.at(-1), h), last: h, traces };
  }

  // Adds the gradients of a linear layer and gives that of its input.
  function back(layer, gradient, x, dy) {
    const { weight, inputs, outputs } = layer;
    const dx = new Float64Array(x.length);
    for (let n = 0; n < x.length / inputs; n++) {
      for (let o = 0; o < outputs; o++) {
        const error = dy[n * outputs + o];
        gradient.bias[o] += error;
        for (let i = 0; i < inputs; i++) {
          gradient.weight[o * inputs + i] += error * x[n * inputs + i];
          dx[n * inputs + i] += error * weight[o * inputs + i];
        }
      }
    }
    return dx;
  }

  const NAMES = ["weight", "bias", "scale", "shift"];
  const zeros = (layers) => layers.map((layer) =>
    Object.fromEntries(NAMES.filter((name) => layer[name]).map((name) => [name, new Float64Array(layer[name].length)])));

  // The mean logistic loss of points with labels 0 or 1, the gradients, and the statistics of the batch.
  function lossAndGradients(layers, points, labels, settings) {
    const { logits, last, traces } = forward(layers, points, settings);
    const count = labels.length;
    const gradients = zeros(layers);
    let loss = 0;
    const errors = logits.map((logit, n) => {
      loss += (Math.max(logit, 0) - logit * labels[n] + Math.log1p(Math.exp(-Math.abs(logit)))) / count;
      return (1 / (1 + Math.exp(-logit)) - labels[n]) / count;
    });
    let dh = back(layers.at(-1), gradients.at(-1), last, errors);
    for (let d = traces.length; d >= 1; d--) {
      const { input, normal, before, batch } = traces[d - 1];
      let dz = dh.map((value, i) => (before[i] > 0 ? value : 0));
      if (batch) {
        const gradient = gradients[d];
        dz.forEach((value, i) => {
          gradient.scale[i % WIDTH] += value * normal[i];
          gradient.shift[i % WIDTH] += value;
        });
        dz = dz.map((value, i) => {
          const c = i % WIDTH;
          const centred = value - (gradient.shift[c] + normal[i] * gradient.scale[c]) / count;
          return (centred * layers[d].scale[c]) / batch.deviation[c];
        });
      }
      const through = back(layers[d], gradients[d], input, dz);
      dh = settings.shortcuts ? through.map((value, i) => value + dh[i]) : through;
    }
    back(layers[0], gradients[0], points, dh);
    return { loss, gradients, batches: traces.map(({ batch }) => batch) };
  }

  // A step of gradient descent with momentum 0.9.
  function descend(layers, velocities, gradients, rate) {
    layers.forEach((layer, l) => {
      for (const [name, velocity] of Object.entries(velocities[l])) {
        for (let i = 0; i < velocity.length; i++) {
          velocity[i] = 0.9 * velocity[i] + gradients[l][name][i];
          layer[name][i] -= rate * velocity[i];
        }
      }
    });
  }

  const SETS = {
    circles: (t, label, noise) => [(0.35 + 0.45 * label) * Math.cos(6.283 * t) + noise(), (0.35 + 0.45 * label) * Math.sin(6.283 * t) + noise()],
    moons: (t, label, noise) => (label
      ? [0.3 + 0.6 * Math.cos(3.142 * t) + noise(), -0.15 + 0.6 * Math.sin(3.142 * t) + noise()]
      : [-0.3 + 0.6 * Math.cos(3.142 * t) + noise(), 0.15 - 0.6 * Math.sin(3.142 * t) + noise()]),
    spirals: (t, label, noise) => {
      const [radius, angle] = [0.1 + 0.8 * t, 7.5 * t + 3.142 * label];
      return [radius * Math.cos(angle) + noise() / 2, radius * Math.sin(angle) + noise() / 2];
    },
  };

  function sample(name, count, random) {
    const noise = () => 0.12 * (random() + random() - 1);
    const labels = Array.from({ length: count }, (_, n) => n % 2);
    return { points: Float64Array.from(labels.flatMap((label) => SETS[name](random(), label, noise))), labels };
  }

  return { create, forward, lossAndGradients, descend, zeros, sample, generator };
})();

(() => {
  const { make, pick, slider, choice, picture, curve, remember, place, folder } = window.zooCourse;
  const { create, forward, lossAndGradients, descend, zeros, sample, generator } = window.zooPlayground;
  const [POINTS, MOST_STEPS, SIDE, GRID] = [200, 2000, 240, 48];
  const yesNo = [["no", pick("without", "なし")], ["yes", pick("with", "あり")]];
  const data = choice(pick("Data", "データ"), [
    ["circles", pick("Circles", "円")], ["moons", pick("Moons", "三日月")], ["spirals", pick("Spirals", "渦巻き")],
  ]);
  const depth = slider(pick("Blocks", "ブロック数"), [1, 24, 1, 16]);
  const shortcuts = choice(pick("Shortcuts", "残差接続"), yesNo);
  const normalisation = choice(pick("Normalisation", "正規化"), yesNo);
  const rate = slider(pick("Learning rate", "学習率"), [-3, 0, 0.25, -1], (value) => (10 ** value).toPrecision(2));
  const controls = [data, depth, shortcuts, normalisation, rate];
  const keep = remember("playground", controls);
  const begin = make("button", { type: "button", className: "md-button md-button--primary" });
  const again = make("button", { type: "button", className: "md-button" }, pick("Reset", "最初から"));
  const plane = picture(pick("Points of two classes, and the answer at each place", "二つのクラスの点と、各位置での答え"));
  const descent = picture(pick("Training loss by step, on a scale of 0 to 1", "ステップごとの訓練損失（0から1まで）"));
  const status = make("p", { className: "zoo-status" });
  status.setAttribute("role", "status");
  let run = null;
  let isRunning = false;

  const settings = () => ({ shortcuts: shortcuts.read() === "yes", normalisation: normalisation.read() === "yes" });

  function reset() {
    isRunning = false;
    const random = generator(1);
    const [training, test] = [sample(data.read(), POINTS, random), sample(data.read(), POINTS, random)];
    const layers = create(depth.read(), generator(2));
    run = { training, test, layers, velocities: zeros(layers), losses: [] };
    show();
  }

  function step() {
    const { training, layers, velocities, losses } = run;
    const { loss, gradients } = lossAndGradients(layers, training.points, training.labels, settings());
    descend(layers, velocities, gradients, 10 ** rate.read());
    losses.push(loss);
  }

  function frame() {
    if (!isRunning) return;
    const end = performance.now() + 12;
    do step(); while (performance.now() < end && run.losses.length < MOST_STEPS);
    if (run.losses.length >= MOST_STEPS || !Number.isFinite(run.losses.at(-1))) isRunning = false;
    show();
    if (isRunning) requestAnimationFrame(frame);
  }

  function show() {
    const { training, test, layers, losses } = run;
    const { batches } = lossAndGradients(layers, training.points, training.labels, settings());
    const answers = (points) => forward(layers, points, settings(), batches).logits;
    drawPlane(answers, training);
    curve(descent.canvas, losses, Math.max(losses.length, 100), 1);
    const right = (set) => answers(set.points).filter((logit, n) => (logit > 0 ? 1 : 0) === set.labels[n]).length / POINTS;
    const [trained, tested] = [training, test].map((set) => `${(100 * right(set)).toFixed(0)}%`);
    const loss = losses.length ? losses.at(-1).toFixed(3) : "–";
    begin.textContent = isRunning ? pick("Pause", "一時停止") : pick("Start", "学習を始める");
    const hasDiverged = losses.length > 0 && !Number.isFinite(losses.at(-1));
    begin.disabled = losses.length >= MOST_STEPS || hasDiverged;
    if (hasDiverged) {
      status.textContent = pick(
        `Step ${losses.length}: the values have grown beyond all bounds. Try normalisation, or a smaller rate.`,
        `ステップ${losses.length}: 値が際限なく大きくなりました。正規化を加えるか、学習率を下げてみましょう。`);
      return;
    }
    status.textContent = pick(
      `Step ${losses.length}: loss ${loss}; right are ${trained} of the training points and ${tested} of others.`,
      `ステップ${losses.length}: 損失は${loss}、正解率は訓練の点で${trained}、ほかの点で${tested}です。`);
  }

  // Blue and orange are told apart by colour-blind readers, too; the points of one class are rings.
  function drawPlane(answers, { points, labels }) {
    const canvas = plane.canvas;
    [canvas.width, canvas.height] = [SIDE, SIDE];
    const context = canvas.getContext("2d");
    const places = Float64Array.from({ length: 2 * GRID * GRID }, (_, i) => {
      const n = i >> 1;
      return 2 * (((i % 2 ? Math.floor(n / GRID) : n % GRID) + 0.5) / GRID) - 1;
    });
    const cell = SIDE / GRID;
    answers(places).forEach((logit, n) => {
      const share = 1 / (1 + Math.exp(-logit));
      const mix = (from, to) => Math.round(from + (to - from) * share);
      context.fillStyle = `rgb(${mix(253, 165)}, ${mix(208, 200)}, ${mix(162, 240)})`;
      context.fillRect((n % GRID) * cell, Math.floor(n / GRID) * cell, cell, cell);
    });
    labels.forEach((label, n) => {
      context.beginPath();
      context.arc((points[2 * n] + 1) * SIDE / 2, (points[2 * n + 1] + 1) * SIDE / 2, 2.5, 0, 7);
      [context.fillStyle, context.strokeStyle, context.lineWidth] = ["#1b4f9c", "#b3380a", 1.5];
      if (label) context.fill();
      else context.stroke();
    });
  }

  for (const control of controls) {
    control.input.addEventListener("input", () => {
      if (control !== rate) reset();
      keep();
    });
  }
  begin.addEventListener("click", () => {
    isRunning = !isRunning;
    show();
    if (isRunning) requestAnimationFrame(frame);
  });
  again.addEventListener("click", reset);
  const link = make("a", { href: new URL("../networks/train.html", folder).href }, pick("Another page", "別のページ"));
  place("playground").replaceChildren(
    make("p", {}, pick(
      "Sixteen blocks without shortcuts learn nothing here. Add shortcuts, or take blocks away, and start again. Then compare 24 blocks with normalisation, with and without shortcuts: that is the degradation.",
      "残差接続のない16ブロックでは、何も学習できません。残差接続を加えたり、ブロックを減らしたりして、もう一度始めてみましょう。次に、正規化のある24ブロックを、残差接続のある場合とない場合で比べてください。これが劣化です。")),
    make("div", { className: "zoo-controls" }, ...controls.map(({ label }) => label), begin, again),
    status,
    make("div", { className: "zoo-pictures zoo-wide" }, plane.figure, descent.figure),
    make("p", {}, link, pick(" trains a convolutional network on handwritten digits.", "（英語）では、畳み込みネットワークが手書き数字を学習します。")));
  place("playground").classList.add("zoo-explorable");
  reset();
})();
