// What a point of a chart tells, by pointer and by keyboard; tables that sort; dark and light. The page says all of it without
// this script too, in its tables.
"use strict";
(() => {
  const tip = document.getElementById("tip");
  const pointOf = (event) => event.target.closest ? event.target.closest(".pt[data-tip]") : null;

  const show = (point) => {
    const [name, ...lines] = point.dataset.tip.split("\n");
    const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    tip.replaceChildren(line("b", name), ...lines.map((text) => line("span", text)));
    tip.hidden = false;
    const at = point.querySelector(".hit").getBoundingClientRect();
    const box = tip.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const left = at.left + at.width / 2 - box.width / 2;
    const above = at.top - box.height - 6;
    tip.style.left = `${Math.max(6, Math.min(left, wide - box.width - 6))}px`;
    tip.style.top = `${above > 6 ? above : at.bottom + 6}px`;
  };
  const hide = () => { tip.hidden = true; };

  for (const name of ["pointerover", "focusin"]) {
    document.addEventListener(name, (event) => { const point = pointOf(event); if (point) show(point); });
  }
  for (const name of ["pointerout", "focusout"]) {
    document.addEventListener(name, (event) => { if (pointOf(event)) hide(); });
  }
  document.addEventListener("scroll", hide, { capture: true, passive: true });

  // One stop of the tab key a chart; the arrows go from point to point, from left to right.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const point = pointOf(event);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!point || !step) return;
    event.preventDefault();
    const points = [...point.ownerSVGElement.querySelectorAll(".pt")];
    const next = points[(points.indexOf(point) + step + points.length) % points.length];
    point.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const sort = (column) => {
      const down = heads[column].getAttribute("aria-sort") === "ascending";
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...body.rows].map((row) => {
        const cell = row.cells[column];
        const order = cell.dataset.order;
        return { row, text: cell.textContent, number: order === undefined ? NaN : Number(order) };
      });
      const empty = (a) => Number.isNaN(a.number) && a.text === "";
      keyed.sort((a, b) => {
        if (empty(a) !== empty(b)) return empty(a) ? 1 : -1;
        const numbers = !Number.isNaN(a.number) && !Number.isNaN(b.number);
        const sign = numbers ? a.number - b.number : a.text.localeCompare(b.text);
        return down ? -sign : sign;
      });
      body.append(...keyed.map((entry) => entry.row));
    };
    if (body.rows.length > 2) {
      heads.forEach((head, column) => {
        head.classList.add("sorts");
        head.tabIndex = 0;
        head.addEventListener("click", () => sort(column));
        head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(column); });
      });
    }
  }

  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const set = document.documentElement.dataset.theme;
    const dark = set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });
})();
