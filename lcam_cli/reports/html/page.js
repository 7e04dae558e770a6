/* What all pages share: the theme, and tables that are sorted by their heads. */
"use strict";

(() => {
  const root = document.documentElement;
  const KEY = "lcam-theme";

  // A browser may refuse storage to files; the theme then lasts as long as the page.
  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  }

  function store(theme) {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      /* as said */
    }
  }

  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const before = stored();
  if (before === "dark" || before === "light") root.dataset.theme = before;

  function offerTheme() {
    const button = document.getElementById("theme");
    const label = () => {
      button.textContent = isDark() ? "Light theme" : "Dark theme";
    };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      store(root.dataset.theme);
      label();
    });
    system.addEventListener("change", label);
    label();
    button.hidden = false;
  }

  /* A cell's data-value is what it is sorted by: a number, or text in the first column. */
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const value = (row, column) => row.cells[column].dataset.value;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const numbers = head.dataset.kind === "number";
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [value(a, column), value(b, column)];
          if (numbers && (x === "" || y === "")) return (x === "") - (y === ""); // unknown: last
          const order = numbers ? x - y : x.localeCompare(y);
          return up ? order : -order;
        });
        body.append(...rows);
      });
    });
  }

  addEventListener("DOMContentLoaded", () => {
    offerTheme();
    document.querySelectorAll("table[data-sortable]").forEach(sortable);
  });
})();
