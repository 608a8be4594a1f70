// Chapter 3: a convolutional network that learns digits or small photographs, its filters and its maps while it learns.
(async () => {
  const { make, pick, slider, choice, picture, curve, remember, place, folder } = window.zooCourse;
  const { CLASSES, FILTERS, KERNEL, descend, generator, networkFor } = await import(new URL("network.mjs", folder).href);
  const [BATCH, MOMENTUM, MOST_EPOCHS, FRAME_MS] = [32, 0.9, 30, 30];
  const CLASS_NAMES = {
    digits: Array.from({ length: CLASSES }, (_, label) => String(label)),
    cifar10: pick(
      ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
      ["飛行機", "自動車", "鳥", "猫", "鹿", "犬", "カエル", "馬", "船", "トラック"]),
  };

  // ---- data: images of values 0 to 1, channel by channel, those for training first ----

  async function readDigits() {
    const bytes = new Uint8Array(await (await fetch(new URL("digits.bin", folder))).arrayBuffer());
    const images = Array.from({ length: 1797 }, (_, n) => Float64Array.from(bytes.subarray(64 * n, 64 * (n + 1)), (value) => value / 255));
    return { images, labels: bytes.subarray(64 * images.length), training: 1437, channels: 1, side: 8 };
  }

  // A sheet of 40 x 40 images. Their classes take turns.
  async function readPhotographs() {
    const [side, across] = [16, 40];
    const sheet = make("img", { src: new URL("cifar10.webp", folder).href });
    await sheet.decode();
    const canvas = make("canvas", { width: side * across, height: side * across });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(sheet, 0, 0);
    const images = Array.from({ length: across * across }, (_, n) => {
      const { data } = context.getImageData(side * (n % across), side * Math.floor(n / across), side, side);
      return Float64Array.from({ length: 3 * side * side }, (_, i) => data[4 * (i % (side * side)) + Math.floor(i / (side * side))] / 255);
    });
    return { images, labels: images.map((_, n) => n % CLASSES), training: 1280, channels: 3, side };
  }

  const kept = {};
  const read = (name) => (kept[name] ??= name === "digits" ? readDigits() : readPhotographs());

  // The images less the mean of each channel over those for training.
  function centred({ images, training, channels, side }) {
    const [area, means] = [side * side, new Float64Array(channels)];
    for (const image of images.slice(0, training)) image.forEach((value, i) => (means[Math.floor(i / area)] += value / (area * training)));
    return images.map((image) => image.map((value, i) => value - means[Math.floor(i / area)]));
  }

  // ---- controls ----

  const data = choice(pick("Images", "画像"), [
    ["cifar10", pick("CIFAR-10 at 16 x 16", "CIFAR-10（16 x 16）")], ["digits", pick("Digits at 8 x 8", "数字（8 x 8）")],
  ]);
  const mean = choice(pick("Mean", "平均"), [["yes", pick("subtracted", "引く")], ["no", pick("left in", "引かない")]]);
  const rate = slider(pick("Learning rate", "学習率"), [-3, 0, 0.25, -1.75], (value) => (10 ** value).toPrecision(2));
  const shown = slider(pick("Image shown", "表示する画像"), [1, 320, 1, 1]);
  const controls = [data, mean, rate, shown];
  const keep = remember("training", controls);
  const begin = make("button", { type: "button", className: "md-button md-button--primary" });
  const again = make("button", { type: "button", className: "md-button" }, pick("Reset", "最初から"));
  const pictures = {
    loss: picture(pick("Training loss by step, 0 to 3", "ステップごとの訓練損失（0から3まで）")),
    accuracy: picture(pick("Right of the other images by epoch, 0 to 100%", "エポックごとの、ほかの画像の正解率（0から100%まで）")),
    filters: picture(pick("The 12 filters", "12個のフィルタ")),
    image: picture(pick("An image that it does not learn from", "学習に使わない画像")),
    maps: picture(pick("Its 12 maps: the answers of the filters", "その12枚の特徴マップ（フィルタの応答）")),
  };
  const status = make("p", { className: "zoo-status" });
  status.setAttribute("role", "status");

  // ---- training ----

  let run = null;
  let isRunning = false;
  let asked = 0;

  async function reset() {
    isRunning = false;
    begin.disabled = true;
    const turn = ++asked;
    const set = await read(data.read());
    if (turn !== asked) return; // another choice since
    const [random, network] = [generator(0), networkFor(set)];
    const inputs = mean.read() === "yes" ? centred(set) : set.images;
    run = { set, inputs, network, random, parameters: network.initial(random), velocities: network.zeros(), losses: [], accuracy: [] };
    shown.input.max = set.images.length - set.training;
    shown.write();
    score();
    show();
  }

  const epochSteps = () => Math.ceil(run.set.training / BATCH);

  function step() {
    const { set, inputs, network, random, parameters, velocities, losses } = run;
    const place = losses.length % epochSteps();
    if (place === 0) {
      run.order = Array.from({ length: set.training }, (_, n) => n);
      for (let last = set.training - 1; last > 0; last--) {
        const other = Math.floor(random() * (last + 1));
        [run.order[last], run.order[other]] = [run.order[other], run.order[last]];
      }
    }
    const batch = run.order.slice(place * BATCH, (place + 1) * BATCH);
    const { loss, gradients } = network.lossAndGradients(parameters, batch.map((n) => inputs[n]), batch.map((n) => set.labels[n]));
    descend(parameters, velocities, gradients, 10 ** rate.read(), MOMENTUM);
    losses.push(loss);
  }

  function score() {
    const { set, inputs, network, parameters, accuracy } = run;
    const right = inputs.slice(set.training).filter((image, n) => network.predict(parameters, image) === set.labels[set.training + n]);
    accuracy.push(right.length / (inputs.length - set.training));
  }

  const hasDiverged = () => run.losses.length > 0 && !Number.isFinite(run.losses.at(-1));
  const isOver = () => hasDiverged() || run.losses.length >= MOST_EPOCHS * epochSteps();

  function frame() {
    if (!isRunning) return;
    const end = performance.now() + FRAME_MS;
    do step(); while (performance.now() < end && run.losses.length % epochSteps() !== 0);
    if (run.losses.length % epochSteps() === 0) score();
    if (isOver()) isRunning = false;
    show();
    if (isRunning) requestAnimationFrame(frame);
  }

  // ---- pictures ----

  // Draws tiles of values 0 to 1, each `channels` maps of side x side, four in a row.
  function drawTiles(canvas, tiles, side, channels) {
    const across = Math.min(tiles.length, 4);
    [canvas.width, canvas.height] = [across * (side + 1) - 1, Math.ceil(tiles.length / across) * (side + 1) - 1];
    const context = canvas.getContext("2d");
    tiles.forEach((values, number) => {
      const image = new ImageData(side, side);
      for (let i = 0; i < side * side; i++) {
        for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * values[(channels === 3 ? c * side * side : 0) + i];
        image.data[4 * i + 3] = 255;
      }
      context.putImageData(image, (number % across) * (side + 1), Math.floor(number / across) * (side + 1));
    });
  }

  function show() {
    const { set, inputs, network, parameters, losses, accuracy } = run;
    const steps = epochSteps();
    const smooth = losses.map((_, n) => {
      const last = losses.slice(Math.max(0, n - 9), n + 1);
      return last.reduce((sum, loss) => sum + loss, 0) / last.length;
    });
    curve(pictures.loss.canvas, smooth, 5 * steps * Math.ceil(Math.max(losses.length, 1) / steps / 5), 3);
    curve(pictures.accuracy.canvas, accuracy, 5 * Math.ceil(Math.max(accuracy.length - 1, 1) / 5), 1);

    const weights = parameters["conv.weight"];
    const size = weights.length / FILTERS;
    const largest = weights.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
    const filters = Array.from({ length: FILTERS }, (_, n) => weights.slice(n * size, (n + 1) * size).map((value) => 0.5 + value / largest / 2));
    drawTiles(pictures.filters.canvas, filters, KERNEL, set.channels);
    const number = set.training + shown.read() - 1;
    drawTiles(pictures.image.canvas, [set.images[number]], set.side, set.channels);
    const maps = network.maps(parameters, inputs[number]);
    const strongest = Math.max(...maps.map((map) => Math.max(...map)), 1e-9);
    drawTiles(pictures.maps.canvas, maps.map((map) => map.map((value) => value / strongest)), set.side / 2, 1);

    begin.textContent = isRunning ? pick("Pause", "一時停止") : pick("Start", "学習を始める");
    begin.disabled = isOver();
    if (hasDiverged()) {
      status.textContent = pick("The values have grown beyond all bounds. Try a smaller rate.", "値が際限なく大きくなりました。学習率を下げてみましょう。");
      return;
    }
    const names = CLASS_NAMES[data.read()];
    const [label, answer] = [names[set.labels[number]], names[network.predict(parameters, inputs[number])]];
    const loss = losses.length ? smooth.at(-1).toFixed(3) : "–";
    const percent = `${(100 * accuracy.at(-1)).toFixed(1)}%`;
    const others = set.images.length - set.training;
    status.textContent = pick(
      `Epoch ${accuracy.length - 1}: loss ${loss}; ${percent} of ${others} other images are right. The image shown, of the class ${label}, is called ${answer}.`,
      `エポック${accuracy.length - 1}: 損失は${loss}、ほかの${others}枚の正解率は${percent}です。表示した画像は「${label}」で、答えは「${answer}」です。`);
  }

  for (const control of controls) {
    control.input.addEventListener("input", () => {
      if (control === data || control === mean) reset();
      else if (run) show();
      keep();
    });
  }
  begin.addEventListener("click", () => {
    isRunning = !isRunning;
    show();
    if (isRunning) requestAnimationFrame(frame);
  });
  again.addEventListener("click", reset);
  place("training").replaceChildren(
    make("p", {}, pick(
      "Train a small convolutional network here: 12 filters of 5 x 5, ReLU, the maximum of each 2 x 2, a linear layer. Find the highest rate at which CIFAR-10 is learned with the mean subtracted, and with the mean left in.",
      "ここで小さな畳み込みネットワークを学習できます。5 x 5 のフィルタ12個、ReLU、2 x 2 の最大値、線形層からなります。CIFAR-10を学習できる最も高い学習率を、平均を引いた場合と引かない場合で探してみましょう。")),
    make("div", { className: "zoo-controls" }, ...controls.map(({ label }) => label), begin, again),
    status,
    make("div", { className: "zoo-pictures zoo-wide" }, ...Object.values(pictures).map(({ figure }) => figure)),
    make("p", {}, pick(
      "CIFAR-10 (Krizhevsky 2009, “Learning Multiple Layers of Features from Tiny Images”): the first 160 training images of each class, made smaller; 128 of them are learned, the accuracy is of the other 32.",
      "CIFAR-10（Krizhevsky、2009、“Learning Multiple Layers of Features from Tiny Images”）の各クラスの最初の訓練画像160枚を縮小したものです。128枚で学習し、残りの32枚で正解率を測ります。")));
  place("training").classList.add("zoo-explorable");
  reset();
})();
