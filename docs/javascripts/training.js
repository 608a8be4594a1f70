// Chapter 8: the gallery's page with a network that learns, opened here when asked for.
(() => {
  const { make, pick, folder, place } = window.zooCourse;
  const address = new URL("../networks/train.html", folder).href;
  const open = make("button", { type: "button", className: "md-button md-button--primary" }, pick("Train a network here", "ここでネットワークを学習させる"));
  const link = make("a", { href: address }, pick("a page of its own", "別のページ"));
  open.addEventListener("click", () => {
    const frame = make("iframe", { src: address, title: pick("A network that learns in this page", "ページの中で学習するネットワーク") });
    open.replaceWith(frame);
    frame.focus();
  });
  place("training").replaceChildren(
    make("p", {}, ...pick(
      ["A small network can learn in the page, and you choose the learning rate: too large a rate makes the loss jump, too small a rate makes it creep. It also has ", link, "."],
      ["小さなネットワークを、このページの中で学習させられます。学習率を選んでみましょう。大きすぎると損失が暴れ、小さすぎるとなかなか下がりません。", link, "（英語）でも開けます。"])),
    open);
  place("training").classList.add("zoo-explorable");
})();
