// Chapter 15: the fast gradient sign method on a photograph. The signs of the gradient and the network's answers are
// stored, as docs/course/photograph.py computed them; the attacked image is computed here.
(async () => {
  const { make, pick, isJapanese, slider, choice, picture, answerBar, remember, place, folder } = window.zooCourse;
  const [SIDE, MOST] = [224, 16];
  const { answers, ja } = await (await fetch(new URL("photograph.json", folder))).json();
  const named = (name) => (isJapanese ? ja[name] : name);

  const photograph = choice(pick("Photograph", "写真"), [["coffee", pick("Coffee", "コーヒー")], ["cat", pick("Cat", "猫")]]);
  const way = choice(pick("Change", "変化"), [
    ["signs", pick("Along the gradient", "勾配に沿って")], ["noise", pick("Random signs", "ランダムな符号")],
  ]);
  const epsilon = slider(pick("Epsilon ε", "イプシロン ε"), [0, MOST, 1, 0], (value) => `${value}/255`);
  const controls = [photograph, way, epsilon];
  const keep = remember("photograph", controls);
  const pictures = {
    after: picture(pick("Attacked photograph x'", "攻撃後の写真 x'")),
    signs: picture(pick("The change, made visible", "変化（見えるように強めたもの）")),
  };
  const bars = make("div", { className: "zoo-bars zoo-named" });
  const status = make("p", { className: "zoo-status" });
  status.setAttribute("role", "status");

  const kept = {};
  const read = (name) => (kept[name] ??= (async () => {
    const image = make("img", { src: new URL(`photograph-${name}.webp`, folder).href });
    await image.decode();
    const canvas = make("canvas", { width: SIDE, height: SIDE });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, SIDE, SIDE).data;
  })());

  function draw({ canvas }, value) {
    [canvas.width, canvas.height] = [SIDE, SIDE];
    const image = new ImageData(SIDE, SIDE);
    for (let i = 0; i < image.data.length; i++) image.data[i] = i % 4 === 3 ? 255 : value(i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  let asked = 0;

  async function show() {
    const turn = ++asked;
    const [name, kind, size] = [photograph.read(), way.read(), epsilon.read()];
    const [before, signs] = await Promise.all([read(name), read(kind === "noise" ? "noise" : `${name}-signs`)]);
    if (turn !== asked) return; // the reader has moved on
    draw(pictures.after, (i) => before[i] + size * Math.sign(signs[i] - 128));
    draw(pictures.signs, (i) => (size ? signs[i] : 128));
    const said = answers[name][kind][size];
    const [[first], [[answer, percent]]] = [answers[name][kind][0][0], said];
    bars.replaceChildren(...said.map(([other, share]) => answerBar(named(other), share, other !== first)));
    status.textContent = answer === first
      ? pick(`Still “${answer}”, with ${percent.toFixed(1)}%.`, `「${named(answer)}」のままです（${percent.toFixed(1)}%）。`)
      : pick(`No longer “${first}” but “${answer}”, with ${percent.toFixed(1)}%.`, `「${named(first)}」ではなく「${named(answer)}」になりました（${percent.toFixed(1)}%）。`);
  }

  for (const { input } of controls) {
    input.addEventListener("input", () => {
      show();
      keep();
    });
  }
  place("photograph").replaceChildren(
    make("p", {}, pick(
      "Now a photograph, and a network that learned ImageNet, efficientnet_lite0: 1/255 is enough. Signs at random change its answer for the cat from 7/255 on, and for the coffee not even at 16/255.",
      "次は写真と、ImageNetを学習したネットワーク efficientnet_lite0 です。1/255で足ります。ランダムな符号では、猫の答えが変わるのは7/255からで、コーヒーの答えは16/255でも変わりません。")),
    make("div", { className: "zoo-controls" }, ...controls.map(({ label }) => label)),
    make("div", { className: "zoo-pictures zoo-wide" }, ...Object.values(pictures).map(({ figure }) => figure), bars),
    status,
    make("p", {}, pick(
      "Photographs: coffee by Rachel Michetti, courtesy of Pikolo Espresso Bar; Chelsea by Stéfan van der Walt; both CC0.",
      "写真: コーヒー（Rachel Michetti、Pikolo Espresso Bar の厚意による）、猫のChelsea（Stéfan van der Walt）。どちらもCC0。")));
  place("photograph").classList.add("zoo-explorable");
  show();
})();
