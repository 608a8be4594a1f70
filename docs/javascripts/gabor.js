// Chapter 1: a Gabor filter that sliders describe, and what a simple and a complex cell with it respond to.
(() => {
  const { make, pick, slider, choice, picture, paint, remember, place } = window.zooCourse;
  const SIDE = 96;
  const GAMMA = 0.5;

  // The Gaussian's width for a bandwidth of one octave.
  const sigmaOf = (wavelength) => (wavelength / Math.PI) * Math.sqrt(Math.LN2 / 2) * 3;

  // The filter and the one a quarter of a wave later, size x size values each, blind to brightness, and the Gaussian's sum.
  function gaborFilter(degrees, wavelength, phase, size) {
    const sigma = sigmaOf(wavelength);
    const [cos, sin] = [Math.cos((degrees / 180) * Math.PI), Math.sin((degrees / 180) * Math.PI)];
    const [envelope, even, odd] = Array.from({ length: 3 }, () => new Float64Array(size * size));
    for (let i = 0; i < size * size; i++) {
      const [x, y] = [(i % size) - (size - 1) / 2, Math.floor(i / size) - (size - 1) / 2];
      const [along, across] = [x * cos + y * sin, y * cos - x * sin];
      const angle = (2 * Math.PI * along) / wavelength + (phase / 180) * Math.PI;
      envelope[i] = Math.exp(-(along ** 2 + (GAMMA * across) ** 2) / (2 * sigma ** 2));
      even[i] = envelope[i] * Math.cos(angle);
      odd[i] = envelope[i] * Math.sin(angle);
    }
    const total = envelope.reduce((sum, value) => sum + value, 0);
    for (const part of [even, odd]) {
      const mean = part.reduce((sum, value) => sum + value, 0) / total;
      for (let i = 0; i < part.length; i++) part[i] -= mean * envelope[i];
    }
    return { even, odd, total };
  }

  // A simple cell responds to what matches the filter; a complex cell, to either of the two, in any phase.
  function responses(image, size, { even, odd }) {
    const reach = (size - 1) / 2;
    const wide = SIDE + 2 * reach;
    const within = (value) => Math.min(Math.max(value - reach, 0), SIDE - 1);
    const padded = Float64Array.from({ length: wide * wide }, (_, i) =>
      image[within(Math.floor(i / wide)) * SIDE + within(i % wide)]);
    const [simple, complex] = [new Float64Array(SIDE * SIDE), new Float64Array(SIDE * SIDE)];
    for (let i = 0; i < SIDE * SIDE; i++) {
      const start = Math.floor(i / SIDE) * wide + (i % SIDE);
      let [cosine, sine] = [0, 0];
      for (let k = 0; k < size * size; k++) {
        const value = padded[start + Math.floor(k / size) * wide + (k % size)];
        cosine += even[k] * value;
        sine += odd[k] * value;
      }
      simple[i] = Math.max(cosine, 0);
      complex[i] = Math.hypot(cosine, sine);
    }
    return { simple, complex };
  }

  const drawn = (value) =>
    Float64Array.from({ length: SIDE * SIDE }, (_, i) => value((i % SIDE) - (SIDE - 1) / 2, Math.floor(i / SIDE) - (SIDE - 1) / 2));
  const IMAGES = {
    // Each place of the rings has another direction and wavelength.
    rings: drawn((x, y) => 0.5 + 0.5 * Math.cos((Math.PI / 160) * (x * x + y * y))),
    bar: drawn((x, y) => (Math.abs(x * Math.cos(Math.PI / 6) + y * Math.sin(Math.PI / 6)) < 3 && Math.hypot(x, y) < 36 ? 1 : 0)),
    square: drawn((x, y) => (Math.max(Math.abs(x), Math.abs(y)) < 26 ? 1 : 0)),
  };

  const degrees = (value) => `${value}°`;
  const pixels = (value) => pick(`${value} pixels`, `${value}画素`);
  const image = choice(pick("Image", "画像"), [
    ["rings", pick("Rings", "輪")], ["bar", pick("A bar of light", "光の棒")], ["square", pick("A square", "正方形")],
  ]);
  const controls = [
    slider(pick("Orientation θ", "向き θ"), [0, 175, 5, 30], degrees),
    slider(pick("Wavelength λ", "波長 λ"), [4, 16, 0.5, 8], pixels),
    slider(pick("Phase ψ", "位相 ψ"), [0, 360, 15, 0], degrees),
    slider(pick("Size", "大きさ"), [5, 33, 2, 25], pixels),
    image,
  ];
  const pictures = {
    filter: picture(pick("Filter: white is positive, black negative", "フィルタ（白は正、黒は負）")),
    image: picture(pick("Image", "画像")),
    simple: picture(pick("Simple cell at each place", "各位置での単純型細胞の反応")),
    complex: picture(pick("Complex cell at each place", "各位置での複雑型細胞の反応")),
  };
  const status = make("p", { className: "zoo-status" });
  status.setAttribute("role", "status");
  const keep = remember("gabor", controls);
  const largestOf = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  function show() {
    const [orientation, wavelength, phase, size] = controls.map((control) => control.read());
    const filter = gaborFilter(orientation, wavelength, phase, size);
    const { simple, complex } = responses(IMAGES[image.read()], size, filter);
    const weight = largestOf(filter.even) || 1;
    const most = largestOf(complex) || 1;
    paint(pictures.filter.canvas, filter.even.map((value) => 0.5 + value / weight / 2), size);
    paint(pictures.image.canvas, IMAGES[image.read()], SIDE);
    paint(pictures.simple.canvas, simple.map((value) => value / most), SIDE);
    paint(pictures.complex.canvas, complex.map((value) => value / most), SIDE);
    // A matching grating between black and white gives a quarter of the Gaussian's sum.
    const share = (values) => `${((100 * largestOf(values)) / (filter.total / 4)).toFixed(0)}%`;
    status.textContent = pick(
      `Strongest responses: simple cell ${share(simple)}, complex cell ${share(complex)} of that to a matching grating.`,
      `最も強い反応は、ぴったり合う縞への反応を100%として、単純型細胞が${share(simple)}、複雑型細胞が${share(complex)}です。`);
  }

  let isWaiting = false;
  for (const { input } of controls) {
    input.addEventListener("input", () => {
      if (isWaiting) return;
      isWaiting = true;
      requestAnimationFrame(() => {
        isWaiting = false;
        show();
        keep();
      });
    });
  }
  place("gabor").replaceChildren(
    make("p", {}, pick(
      "Turn the filter: the cells answer where the image has its direction and wavelength. Then move the phase: only the simple cell changes.",
      "フィルタを回すと、画像の中でその向きと波長を持つ場所に細胞が反応します。次に位相を動かしてください。変わるのは単純型細胞だけです。")),
    make("div", { className: "zoo-controls" }, ...controls.map(({ label }) => label)),
    make("div", { className: "zoo-pictures" }, ...Object.values(pictures).map(({ figure }) => figure)),
    status);
  place("gabor").classList.add("zoo-explorable");
  show();
})();
