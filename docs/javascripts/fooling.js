// Chapter 15: the fast gradient sign method on a digit, in closed form: the network is a softmax over a linear map.
(() => {
  const { make, pick, slider, choice, picture, paint, answerBar, remember, place, folder } = window.zooCourse;

  function start({ weights, biases, accuracy, images }) {
    const logits = (pixels) => weights.map((row, k) => row.reduce((sum, weight, i) => sum + weight * pixels[i], biases[k]));

    function probabilities(pixels) {
      const scores = logits(pixels);
      const largest = Math.max(...scores);
      const powers = scores.map((score) => Math.exp(score - largest));
      const sum = powers.reduce((total, power) => total + power, 0);
      return powers.map((power) => power / sum);
    }

    // The sign of the gradient of the cross-entropy: the weights, each class's times its probability less the label's.
    function pattern(pixels, label) {
      const errors = probabilities(pixels).map((share, k) => share - (k === label));
      return pixels.map((_, i) => Math.sign(errors.reduce((sum, error, k) => sum + error * weights[k][i], 0)));
    }

    const digit = choice(pick("Digit", "数字"), images.map((_, label) => [String(label), String(label)]));
    const epsilon = slider(pick("Epsilon ε", "イプシロン ε"), [0, 64, 1, 0], (value) => `${value}/255`);
    const controls = [digit, epsilon];
    const pictures = {
      before: picture(pick("Image x", "画像 x")),
      sign: picture(pick("sign(∂J/∂x): white brightens, black darkens", "sign(∂J/∂x)（白は明るく、黒は暗くする）")),
      after: picture(pick("Attacked image x'", "攻撃後の画像 x'")),
    };
    const bars = make("div", { className: "zoo-bars" });
    const status = make("p", { className: "zoo-status" });
    status.setAttribute("role", "status");
    const keep = remember("fooling", controls);

    function show() {
      const label = Number(digit.read());
      const before = images[label].map((value) => value / 255);
      const signs = pattern(before, label);
      const after = before.map((value, i) => Math.min(Math.max(value + (epsilon.read() / 255) * signs[i], 0), 1));
      paint(pictures.before.canvas, before, 8);
      paint(pictures.sign.canvas, signs.map((value) => 0.5 + value / 2), 8);
      paint(pictures.after.canvas, after, 8);
      const shares = probabilities(after);
      const answer = shares.indexOf(Math.max(...shares));
      const percent = (share) => `${(100 * share).toFixed(1)}%`;
      bars.replaceChildren(...shares.map((share, k) => answerBar(String(k), 100 * share, k !== label)));
      status.textContent = answer === label
        ? pick(`Read as ${answer}, with ${percent(shares[answer])}: right.`, `${percent(shares[answer])}の確率で${answer}と読みました。正解です。`)
        : pick(`Read as ${answer}, with ${percent(shares[answer])}: wrong, it is ${label}.`, `${percent(shares[answer])}の確率で${answer}と読みました。正しくは${label}です。`);
    }

    for (const { input } of controls) {
      input.addEventListener("input", () => {
        show();
        keep();
      });
    }
    place("fooling").replaceChildren(
      make("p", {}, pick(
        `Attack a digit: raise epsilon until the answer changes. The network is the simplest there is, one linear layer with a softmax; it reads ${accuracy}% of the test images right.`,
        `数字の画像を攻撃してみましょう。答えが変わるまでイプシロンを上げてください。ネットワークは最も単純な、線形層一つとソフトマックスです。テスト画像の${accuracy}%を正しく読みます。`)),
      make("div", { className: "zoo-controls" }, ...controls.map(({ label }) => label)),
      make("div", { className: "zoo-pictures" }, ...Object.values(pictures).map(({ figure }) => figure), bars),
      status);
    place("fooling").classList.add("zoo-explorable");
    show();
  }

  document.head.append(make("script", { src: new URL("digits.js", folder).href, onload: () => start(window.zooDigits) }));
})();
