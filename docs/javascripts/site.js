// The index of the search is a megabyte: it is asked for at the reader's first key, click or touch, not with the page.
const first = new Promise((resolve) => {
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, resolve, { once: true, capture: true });
});
const { open, send } = XMLHttpRequest.prototype;
XMLHttpRequest.prototype.open = function (method, address, ...others) {
  this.isIndex = `${address}`.endsWith("/search.json");
  return open.call(this, method, address, ...others);
};
XMLHttpRequest.prototype.send = function (body) {
  if (this.isIndex) first.then(() => send.call(this, body));
  else send.call(this, body);
};

// What is wider than its column scrolls: then a key can reach it, and a reader of screens can name it.
function reach() {
  const names = new Map();
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    if (wide.scrollWidth <= wide.clientWidth) {
      for (const name of ["tabindex", "role", "aria-label"]) wide.removeAttribute(name);
      continue;
    }
    const name = `${wide.tagName === "CODE" ? "Code" : "Table"}: ${title(wide)}`;
    const key = name.toLowerCase(); // a class and a function may differ in case alone
    names.set(key, (names.get(key) ?? 0) + 1);
    wide.tabIndex = 0;
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", names.get(key) > 1 ? `${name}, ${names.get(key)}` : name);
  }
  for (const buttons of document.querySelectorAll("nav.md-code__nav")) buttons.setAttribute("role", "none");
}

// The heading above an element.
function title(element) {
  const headings = [...document.querySelectorAll(".md-content :is(h1, h2, h3, h4)")];
  const above = headings.filter((it) => it.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING);
  return (above.at(-1)?.textContent ?? document.title).replace("¶", "").trim();
}

addEventListener("load", () => {
  const content = document.querySelector(".md-content");
  reach();
  new ResizeObserver(reach).observe(content);
  new MutationObserver(reach).observe(content, { childList: true, subtree: true }); // the theme adds buttons later
});
