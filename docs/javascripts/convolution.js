// Chapter 3: a window that moves over a picture, step by step: convolution, maximum or mean.
(() => {
  const { make, pick, slider, choice, remember, place } = window.zooCourse;
  const PICTURE = [
    "0000000000", "0099999900", "0099999900", "0000009900", "0000099000",
    "0000990000", "0000990000", "0009900000", "0009900000", "0000000000",
  ].map((row) => [...row].map(Number));
  const SIDE = PICTURE.length;

  const KERNELS = {
    vertical: [pick("Vertical edges", "縦のエッジ"), (x) => Math.sign(x)],
    horizontal: [pick("Horizontal edges", "横のエッジ"), (_, y) => Math.sign(y)],
    blur: [pick("Sum (blur)", "和（ぼかし）"), () => 1],
    copy: [pick("Copy", "そのまま"), (x, y) => (x === 0 && y === 0 ? 1 : 0)],
  };
  const operation = choice(pick("Layer", "層"), [
    ["convolution", pick("Convolution", "畳み込み")],
    ["max", pick("Max pooling", "最大プーリング")],
    ["mean", pick("Average pooling", "平均プーリング")],
  ]);
  const filter = choice(pick("Filter", "フィルタ"), Object.entries(KERNELS).map(([name, [text]]) => [name, text]));
  const kernel = slider(pick("Kernel k", "カーネル k"), [1, 5, 1, 3]);
  const stride = slider(pick("Stride s", "ストライド s"), [1, 4, 1, 1]);
  const padding = slider(pick("Padding p", "パディング p"), [0, 2, 1, 0]);
  const controls = [operation, filter, kernel, stride, padding];
  const step = slider(pick("Step", "ステップ"), [1, 64, 1, 1], () => "");
  const next = make("button", { type: "button", className: "md-button md-button--primary" }, pick("Next step", "次のステップ"));
  const [input, output] = [make("div", { className: "zoo-grid" }), make("div", { className: "zoo-grid" })];
  for (const [grid, name] of [[input, pick("Input with padding", "入力とパディング")], [output, pick("Output", "出力")]]) {
    grid.setAttribute("role", "img");
    grid.setAttribute("aria-label", name);
  }
  const [size, sum] = [make("p", { className: "zoo-status" }), make("p", { className: "zoo-status" })];
  sum.setAttribute("role", "status");
  const keep = remember("convolution", controls);

  // The weights of the filter, its rows one after the other, centred.
  function weights(k) {
    const value = KERNELS[filter.read()][1];
    const middle = Math.floor((k - 1) / 2);
    return Array.from({ length: k * k }, (_, i) => value((i % k) - middle, Math.floor(i / k) - middle));
  }

  // The value of the padded picture; padding is null.
  const valueAt = (x, y, p) => PICTURE[y - p]?.[x - p] ?? null;

  function compute(kind, k, s, p) {
    const across = Math.floor((SIDE + 2 * p - k) / s) + 1;
    const filterWeights = weights(k);
    return Array.from({ length: across * across }, (_, i) => {
      const [left, top] = [(i % across) * s, Math.floor(i / across) * s];
      const window = Array.from({ length: k * k }, (_, j) => valueAt(left + (j % k), top + Math.floor(j / k), p));
      const inside = window.map((value) => value ?? 0);
      const total = inside.reduce((sum, value) => sum + value, 0);
      const value = {
        convolution: () => inside.reduce((sum, value, j) => sum + value * filterWeights[j], 0),
        max: () => Math.max(...window.filter((value) => value !== null)),
        mean: () => total / (k * k),
      }[kind]();
      return { value, left, top, inside, window, across };
    });
  }

  const rounded = (value) => String(Math.round(100 * value) / 100);

  function terms(kind, { inside, window, value }, k) {
    const result = rounded(value);
    if (kind === "max") return `max(${window.filter((one) => one !== null).join(", ")}) = ${result}`;
    if (kind === "mean") return `(${inside.join(" + ")}) / ${k * k} = ${result}`;
    const signed = (weight) => (weight < 0 ? `(${weight})` : weight);
    const products = weights(k).flatMap((weight, j) => (weight === 0 ? [] : [`${inside[j]}·${signed(weight)}`]));
    return `${products.join(" + ") || 0} = ${result}`;
  }

  function cell(text, shade, className) {
    const one = make("span", { className }, text);
    one.style.setProperty("--shade", shade.toFixed(3));
    return one;
  }

  function show() {
    const kind = operation.read();
    const [k, s] = [kernel.read(), stride.read()];
    // As in PyTorch, pools have no window that lies in the padding alone.
    const most = kind === "convolution" ? 2 : Math.floor(k / 2);
    if (padding.read() > most) padding.input.value = most;
    padding.input.max = Math.min(2, most);
    padding.write();
    filter.label.hidden = kind !== "convolution";
    const p = padding.read();
    const cells = compute(kind, k, s, p);
    step.input.max = cells.length;
    const current = step.read() - 1;
    const { left, top, across } = cells[current];
    step.input.setAttribute("aria-valuetext", pick(`${current + 1} of ${cells.length}`, `${cells.length}のうち${current + 1}`));
    step.label.querySelector(".zoo-value").textContent = `${current + 1} / ${cells.length}`;

    const wide = SIDE + 2 * p;
    input.style.setProperty("--columns", wide);
    input.replaceChildren(...Array.from({ length: wide * wide }, (_, i) => {
      const [x, y] = [i % wide, Math.floor(i / wide)];
      const value = valueAt(x, y, p);
      const isIn = x >= left && x < left + k && y >= top && y < top + k;
      return cell(value ?? 0, (value ?? 0) / 9, `${value === null ? "zoo-padding " : ""}${isIn ? "zoo-window" : ""}`);
    }));
    const largest = cells.reduce((sofar, { value }) => Math.max(sofar, Math.abs(value)), 0) || 1;
    output.style.setProperty("--columns", across);
    output.dataset.values = JSON.stringify(cells.map(({ value }) => value));
    output.replaceChildren(...cells.map(({ value }, i) => {
      if (i > current) return cell("", 0, "zoo-empty");
      const one = cell(rounded(value), Math.abs(value) / largest, `${i === current ? "zoo-window " : ""}${value < 0 ? "zoo-negative" : ""}`);
      return one;
    }));
    const exact = (SIDE + 2 * p - k) / s + 1;
    const rest = Number.isInteger(exact) ? "" : pick(`, rounded down: ${across}`, `、切り捨てて ${across}`);
    size.textContent = `(n + 2p - k) / s + 1 = (${SIDE} + 2·${p} - ${k}) / ${s} + 1 = ${rounded(exact)}${rest}`;
    sum.textContent = pick(
      `Row ${Math.floor(current / across) + 1}, column ${(current % across) + 1}: `,
      `${Math.floor(current / across) + 1}行${(current % across) + 1}列: `) + terms(kind, cells[current], k);
  }

  for (const control of controls) {
    control.input.addEventListener("input", () => {
      step.input.value = 1;
      show();
      keep();
    });
  }
  step.input.addEventListener("input", show);
  next.addEventListener("click", () => {
    const isLast = step.input.value === step.input.max;
    step.input.value = isLast ? 1 : step.read() + 1;
    show();
  });
  place("convolution").replaceChildren(
    make("p", {}, pick(
      "A picture of ten by ten pixels. The window moves over it; each of its places gives one number of the output.",
      "10 x 10 画素の画像です。窓を動かすと、窓の位置ごとに出力の数が一つ決まります。")),
    make("div", { className: "zoo-controls" }, ...controls.map(({ label }) => label)),
    size,
    make("div", { className: "zoo-controls" }, step.label, next),
    sum,
    make("div", { className: "zoo-grids" }, input, output));
  place("convolution").classList.add("zoo-explorable");
  show();
})();
