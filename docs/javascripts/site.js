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
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    if (wide.scrollWidth <= wide.clientWidth) {
      for (const name of ["tabindex", "role", "aria-label"]) wide.removeAttribute(name);
      continue;
    }
    wide.tabIndex = 0;
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", wide.tagName === "CODE" ? "Code" : `Table: ${title(wide)}`);
  }
}

// The heading above an element.
function title(element) {
  const headings = [...document.querySelectorAll(".md-content :is(h1, h2, h3, h4)")];
  const above = headings.filter((it) => it.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING);
  return above.at(-1)?.firstChild?.textContent ?? document.title;
}

addEventListener("load", () => {
  reach();
  new ResizeObserver(reach).observe(document.querySelector(".md-content"));
});
