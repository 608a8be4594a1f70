// Sorts and filters tables, moves between the points of a chart and filters them, copies code. Without it, everything is still readable.
"use strict";

const valueOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.v ?? cell.textContent.trim();
  const number = Number.parseFloat(text);
  return text === "" ? null : cell.classList.contains("n") ? number : text;
};

const compare = (a, b) =>
  typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });

// Rows without a value come last in both directions.
function sort(table, column, isDescending) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return isDescending ? compare(b, a) : compare(a, b);
  });
  body.append(...rows.map(([, row]) => row));
}

// The address holds what a reader has filtered and sorted: a link to it shows the same.
const address = new URL(location.href);

function remember(key, value) {
  if (value) address.searchParams.set(key, value);
  else address.searchParams.delete(key);
  address.hash = location.hash;
  history.replaceState(null, "", address);
}

const formOf = (table) => table.id && document.querySelector(`form.filters[data-for="${table.id}"]`);

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const by = (head, isDescending) => {
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    sort(table, heads.indexOf(head), isDescending);
  };
  heads.forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // Of numbers, people look for the largest first.
      const isDescending = before ? before === "ascending" : head.classList.contains("n");
      by(head, isDescending);
      if (formOf(table)) remember("sort", (isDescending ? "-" : "") + head.textContent);
    });
  });
  const wished = formOf(table) && address.searchParams.get("sort");
  const head = wished && heads.find((one) => one.textContent === wished.replace(/^-/, ""));
  if (head) by(head, wished.startsWith("-"));
}

// Every word of the search begins one of what a channel prefers; a number is one: "45" finds 45 degrees, "4" does not.
function search(text) {
  const asked = wordsOf(text);
  return (item) => {
    const own = [...item.querySelectorAll("small, .prefers")].flatMap((part) => wordsOf(part.textContent));
    return asked.every((word) => own.some((one) => (Number.isNaN(Number(word)) ? one.startsWith(word) : one === word)));
  };
}

const wordsOf = (text) => text.toLowerCase().replaceAll("°", " degrees").match(/[\w.]+/g) ?? [];

for (const form of document.querySelectorAll("form.filters[data-for]")) {
  const list = document.getElementById(form.dataset.for);
  const rows = [...(list.tBodies ? list.tBodies[0].rows : list.children)];
  const status = form.querySelector("[role=status]");
  const things = status.textContent.trim().split(" ").pop();
  const fields = [...form.elements].filter((field) => field.name);
  const filter = () => {
    const asked = Object.fromEntries(new FormData(form));
    const text = (asked.text ?? "").trim().toLowerCase();
    let shown = 0;
    const fits = list.tBodies ? (row) => row.cells[0].textContent.toLowerCase().includes(text) : search(text);
    for (const row of rows) {
      const year = Number(row.dataset.year);
      row.hidden = !(
        fits(row) &&
        ["data", "family", "licence"].every((key) => !asked[key] || row.dataset[key] === asked[key]) &&
        (!asked.from || year >= Number(asked.from)) &&
        (!asked.to || (year && year <= Number(asked.to)))
      );
      shown += !row.hidden;
    }
    status.textContent = shown
      ? `${shown} of ${rows.length} ${things}`
      : `None of the ${rows.length} ${things} fits all of these at once. “Show all” removes them.`;
    fields.forEach((field) => remember(field.name, field.value));
  };
  fields.forEach((field) => {
    if (address.searchParams.has(field.name)) field.value = address.searchParams.get(field.name);
  });
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(); // a browser restores the fields of a page that is shown again
}

// One stop of the tab key for each chart; the arrow keys move between its points, from left to right.
const TOGETHER = 12; // pixels between markers that a pointer cannot tell apart

for (const figure of document.querySelectorAll("figure:has(.points)")) {
  const every = [...figure.querySelectorAll(".points a")];
  const readout = figure.querySelector(".readout");
  const visible = () => every.filter((point) => !point.classList.contains("off"));
  let isPinned = false; // the readout lists markers that lie together
  const place = (point) => {
    const { x, y, width, height } = point.querySelector("path:last-of-type").getBoundingClientRect();
    return [x + width / 2, y + height / 2];
  };
  const near = (point) => {
    const [x, y] = place(point);
    return visible().filter((other) => {
      const [right, down] = place(other);
      return Math.hypot(right - x, down - y) < TOGETHER;
    });
  };
  every.forEach((point, number) => {
    point.tabIndex = number === 0 ? 0 : -1;
    const show = () => {
      isPinned = false;
      readout.setAttribute("aria-hidden", true);
      readout.textContent = point.getAttribute("aria-label");
    };
    point.addEventListener("focus", show);
    point.addEventListener("pointerenter", () => isPinned || show());
    point.addEventListener("click", (event) => {
      const together = near(point);
      if (event.detail === 0 || together.length < 2) return; // by the keyboard, which reaches each
      event.preventDefault();
      isPinned = true;
      readout.removeAttribute("aria-hidden");
      readout.replaceChildren(`${together.length} lie here:`, ...together.map((other) => {
        const link = document.createElement("a");
        link.href = other.getAttribute("href");
        link.textContent = other.getAttribute("aria-label").split(",")[0];
        return link;
      }));
    });
    point.addEventListener("keydown", (event) => {
      const points = visible();
      const [at, last] = [points.indexOf(point), points.length - 1];
      const next = {
        ArrowRight: Math.min(at + 1, last), ArrowUp: Math.min(at + 1, last),
        ArrowLeft: Math.max(at - 1, 0), ArrowDown: Math.max(at - 1, 0), Home: 0, End: last,
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      point.tabIndex = -1;
      points[next].tabIndex = 0;
      points[next].focus();
    });
  });
}

// The points that no other beats at lower or equal x, from left to right; each has its place, with y downwards.
function frontier(points) {
  const places = points.map((point) => [...point.dataset.place.split(" ").map(Number), point]);
  places.sort(([x, y], [right, down]) => x - right || y - down);
  let least = Infinity;
  return places.filter(([, y]) => y < least && ((least = y), true));
}

// The line, its names and their list follow what is shown; with all points they are those of the page.
function redraw(figure) {
  const [line, list] = [figure.querySelector(".pareto"), figure.querySelector(".frontier")];
  line.dataset.all ??= line.getAttribute("points");
  list.whole ??= [...list.childNodes];
  const every = [...figure.querySelectorAll(".points a")];
  const shown = every.filter((point) => !point.classList.contains("off"));
  const best = frontier(shown);
  const isWhole = shown.length === every.length;
  line.setAttribute("points", isWhole ? line.dataset.all : best.map(([x, y]) => `${x},${y}`).join(" "));
  const names = best.map(([, , point]) => point.getAttribute("aria-label").split(":")[0]);
  for (const name of figure.querySelectorAll(".names text")) name.classList.toggle("beaten", !isWhole && !names.includes(name.textContent));
  if (isWhole) return list.replaceChildren(...list.whole);
  const links = best.map(([, , point], number) => {
    const link = document.createElement("a");
    link.href = point.getAttribute("href");
    link.textContent = names[number];
    return link;
  });
  list.replaceChildren("On the line, of those shown: ", ...links.flatMap((link, number) => (number ? [", ", link] : [link])));
}

// The legend hides and shows the points of a family.
for (const legend of document.querySelectorAll(".legend[data-shows]")) {
  const charts = document.getElementById(legend.dataset.shows);
  for (const item of legend.children) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", true);
    button.append(...item.childNodes);
    item.append(button);
    button.addEventListener("click", () => {
      const isShown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", isShown);
      charts.querySelectorAll(`[data-group="${item.dataset.group}"]`).forEach((part) => part.classList.toggle("off", !isShown));
      for (const figure of charts.querySelectorAll("figure")) {
        const points = [...figure.querySelectorAll(".points a")];
        const first = points.find((point) => !point.classList.contains("off"));
        points.forEach((point) => (point.tabIndex = point === first ? 0 : -1));
        redraw(figure);
      }
    });
  }
}

// A slider over the columns of a table whose cells are pictures and predictions.
for (const series of document.querySelectorAll(".series")) {
  const slider = series.querySelector("input[type=range]");
  const heads = [...series.querySelectorAll("thead th")].slice(1);
  const rows = [...series.querySelectorAll("tbody tr")];
  const shown = [...series.querySelectorAll(".pictures li")];
  const show = () => {
    const column = Number(slider.value);
    const head = heads[column].textContent;
    series.querySelector(".value").textContent = head;
    slider.setAttribute("aria-valuetext", head);
    rows.forEach((row, number) => {
      const cell = row.cells[column + 1];
      shown[number].querySelector("svg").setAttribute("viewBox", cell.querySelector("svg").getAttribute("viewBox"));
      shown[number].querySelector("span").textContent = cell.textContent;
      shown[number].classList.toggle("wrong", cell.textContent.startsWith("✗"));
    });
  };
  slider.addEventListener("input", show);
  series.querySelectorAll(".slider, .pictures").forEach((part) => (part.hidden = false));
  series.querySelector("details").open = false;
  show();
}

if (navigator.clipboard) {
  for (const block of document.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${block.getAttribute("aria-label")}`);
    const text = block.textContent;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    block.append(button);
  }
}
