// Sorts and filters tables, moves between the points of a chart, copies code. Without it, everything is still readable.
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

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // Of numbers, people look for the largest first.
      const isDescending = before ? before === "ascending" : head.classList.contains("n");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
      sort(table, column, isDescending);
    });
  });
}

for (const form of document.querySelectorAll("form.filters")) {
  const rows = [...document.getElementById(form.dataset.for).tBodies[0].rows];
  const status = form.querySelector("[role=status]");
  const things = status.textContent.trim().split(" ").pop();
  const filter = () => {
    const asked = Object.fromEntries(new FormData(form));
    const text = (asked.text ?? "").trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const year = Number(row.dataset.year);
      row.hidden = !(
        row.cells[0].textContent.toLowerCase().includes(text) &&
        ["data", "family", "licence"].every((key) => !asked[key] || row.dataset[key] === asked[key]) &&
        (!asked.from || year >= Number(asked.from)) &&
        (!asked.to || (year && year <= Number(asked.to)))
      );
      shown += !row.hidden;
    }
    status.textContent = `${shown} of ${rows.length} ${things}`;
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(); // a browser restores the fields of a page that is shown again
}

// One stop of the tab key for each chart; the arrow keys move between its points, from left to right.
for (const figure of document.querySelectorAll("figure:has(.points)")) {
  const points = [...figure.querySelectorAll(".points a")];
  const readout = figure.querySelector(".readout");
  points.forEach((point, number) => {
    point.tabIndex = number === 0 ? 0 : -1;
    const show = () => (readout.textContent = point.getAttribute("aria-label"));
    point.addEventListener("focus", show);
    point.addEventListener("pointerenter", show);
    point.addEventListener("keydown", (event) => {
      const last = points.length - 1;
      const next = {
        ArrowRight: Math.min(number + 1, last), ArrowUp: Math.min(number + 1, last),
        ArrowLeft: Math.max(number - 1, 0), ArrowDown: Math.max(number - 1, 0), Home: 0, End: last,
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      point.tabIndex = -1;
      points[next].tabIndex = 0;
      points[next].focus();
    });
  });
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
