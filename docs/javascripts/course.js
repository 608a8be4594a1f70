// The pages of the course: a field that checks the answer of a chapter's exercise, the drawings that a reader can move,
// and the words of the search in Japanese.
(() => {
  const folder = new URL(".", document.currentScript.src);
  const isJapanese = document.documentElement.lang === "ja";

  // Makes an element: make("p", { className: "note" }, "text", child).
  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const pick = (english, japanese) => (isJapanese ? japanese : english);
  window.zooCourse = { make, pick, isJapanese, folder };

  // ---- the exercise ----

  // The number that `zoo course check` reads: 27/49, 0.55 or 55% (as 55); NaN for anything else.
  function readAnswer(text) {
    const parts = text.normalize("NFKC").trim().replace(/%$/, "").replaceAll(" ", "").split("/");
    const isNumber = (part) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(part);
    if (parts.length > 2 || !parts.every(isNumber)) return NaN;
    const answer = Number(parts[0]) / (parts.length === 2 ? Number(parts[1]) : 1);
    return Number.isFinite(answer) ? answer : NaN;
  }

  function verdict(text, rule) {
    const answer = readAnswer(text);
    if (Number.isNaN(answer)) return pick("Write a number: 27/49, 0.55 or 13.9.", "数を書いてください。例: 27/49、0.55、13.9");
    const difference = answer - rule.answer;
    if (Math.abs(difference) <= rule.within + 1e-9) return pick("Right.", "正解です。");
    const size = difference > 0 ? pick("large", "大きすぎます") : pick("small", "小さすぎます");
    return pick(`Not right: your answer is too ${size}. ${rule.hint.en}`, `不正解です。答えが${size}。${rule.hint.ja}`);
  }

  function addExercise() {
    const chapter = location.pathname.match(/\/\d\d-(\w+)\.html$/)?.[1];
    const rule = window.zooExercises?.[chapter];
    if (!rule) return;
    const outcome = make("output", { className: "zoo-outcome" });
    const field = make("input", { type: "text", name: "answer", size: 10, autocomplete: "off", required: true });
    const form = make("form", { className: "zoo-exercise" },
      make("label", {}, `${pick("Your answer", "あなたの答え")} `, field),
      make("button", { type: "submit", className: "md-button md-button--primary" }, pick("Check", "確かめる")), outcome);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      outcome.textContent = verdict(field.value, rule);
    });
    document.querySelector("article").append(form);
  }

  // ---- the search, whose words the theme has in English only ----

  const WORDS = {
    Search: "検索", "Close search": "検索を閉じる", "Search results": "検索結果", "No results": "見つかりませんでした",
    Filters: "絞り込み",
    "Search is unavailable. Reload the page to try again.": "検索を使えません。ページを読み込み直してください。",
  };
  const translated = (text) => WORDS[text] ?? text.replace(/^([\d,]+) results?$/, "$1件");

  function translate(root) {
    for (const element of root.querySelectorAll("[aria-label], [placeholder]")) {
      for (const name of ["aria-label", "placeholder"]) {
        const text = element.getAttribute(name);
        if (text !== null && translated(text) !== text) element.setAttribute(name, translated(text));
      }
    }
    for (const status of root.querySelectorAll("[role=status], h3, h4, button")) {
      for (const node of status.childNodes) {
        const isOther = node.nodeType === Node.TEXT_NODE && translated(node.data) !== node.data;
        if (isOther) node.data = translated(node.data);
      }
    }
  }

  function translateSearch() {
    const root = [...document.body.children].map((element) => element.shadowRoot).find(Boolean);
    if (!root) return false;
    const watch = { subtree: true, childList: true, characterData: true, attributes: true };
    new MutationObserver(() => translate(root)).observe(root, watch);
    translate(root);
    return true;
  }

  if (isJapanese && !translateSearch()) {
    const observer = new MutationObserver(() => translateSearch() && observer.disconnect());
    observer.observe(document.body, { childList: true });
  }

  // ---- parts of drawings ----

  // A labelled slider; `read` gives its number. `show` turns a number into text.
  function slider(title, [least, most, step, value], show = String) {
    const input = make("input", { type: "range", min: least, max: most, step, value });
    const output = make("span", { className: "zoo-value" }); // said by the slider, too
    const label = make("label", { className: "zoo-slider" }, make("span", {}, title), input, output);
    const write = () => {
      output.textContent = show(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", write);
    write();
    return { label, input, write, read: () => Number(input.value) };
  }

  // A labelled choice among [value, text] pairs.
  function choice(title, options) {
    const input = make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
    return { label: make("label", { className: "zoo-slider" }, make("span", {}, title), input), input, read: () => input.value };
  }

  // A picture with its caption.
  function picture(caption, about = caption) {
    const canvas = make("canvas", {});
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", about);
    return { canvas, figure: make("figure", {}, canvas, make("figcaption", {}, caption)) };
  }

  // Draws values of 0 to 1 as grey pixels, or through `colour`, which gives red, green and blue.
  function paint(canvas, values, side, colour = (value) => [255 * value, 255 * value, 255 * value]) {
    [canvas.width, canvas.height] = [side, side];
    const image = new ImageData(side, side);
    values.forEach((value, i) => image.data.set([...colour(value), 255], 4 * i));
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // Draws `values` from left to right as a line, from 0 below to `top` above, over `length` steps.
  function curve(canvas, values, length, top) {
    const side = 240;
    [canvas.width, canvas.height] = [side, side];
    const context = canvas.getContext("2d");
    [context.strokeStyle, context.lineWidth] = ["#8886", 1]; // both are seen on light and on dark
    context.beginPath();
    for (const share of [0.25, 0.5, 0.75]) {
      context.moveTo(0, share * side);
      context.lineTo(side, share * side);
    }
    context.stroke();
    [context.strokeStyle, context.lineWidth] = ["#4c80e0", 2];
    context.beginPath();
    values.forEach((value, n) => context.lineTo((n / Math.max(length, 1)) * side, (1 - Math.min(value / top, 1)) * side));
    context.stroke();
  }

  // The bar of an answer and its probability in per cent; one that is not the first answer has another colour.
  function answerBar(name, percent, isOther) {
    const bar = make("span", { className: isOther ? "zoo-bar zoo-other" : "zoo-bar" });
    bar.style.inlineSize = `${percent.toFixed(1)}%`;
    return make("div", {}, make("b", {}, name), make("span", { className: "zoo-track" }, bar), make("span", {}, `${percent.toFixed(1)}%`));
  }

  // Keeps the values of controls in the address, as ?name=30,8, so that a link shows what its sender saw.
  function remember(name, controls) {
    const kept = new URLSearchParams(location.search).get(name)?.split(",") ?? [];
    controls.forEach(({ input, write }, i) => {
      if (kept[i] === undefined) return;
      const before = input.value;
      input.value = kept[i];
      if (input.tagName === "SELECT" && input.selectedIndex < 0) input.value = before;
      write?.();
    });
    return () => {
      const address = new URL(location.href);
      address.searchParams.set(name, controls.map(({ input }) => input.value).join(","));
      history.replaceState(history.state, "", address.href.replaceAll("%2C", ","));
    };
  }

  const place = (name) => document.querySelector(`[data-explorable=${name}]`);
  Object.assign(window.zooCourse, { slider, choice, picture, paint, curve, answerBar, remember, place });

  // ---- drawings ----

  addExercise();
  for (const place of document.querySelectorAll("[data-explorable]")) {
    const source = new URL(`${place.dataset.explorable}.js`, folder).href;
    if (![...document.scripts].some((script) => script.src === source)) document.head.append(make("script", { src: source }));
  }
})();
