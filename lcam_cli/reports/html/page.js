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

  /* Say above a wide table how many of its columns are out of sight on either side. */
  function showBeyond(wide) {
    const table = wide.querySelector("table");
    const line = Object.assign(document.createElement("p"), { className: "beyond", hidden: true });
    const buttons = [-1, 1].map((way) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.addEventListener("click", () => wide.scrollBy({ left: way * 0.8 * (wide.clientWidth - pinned()) }));
      line.append(button);
      return button;
    });
    wide.before(line);
    const heads = () => [...table.tHead.rows[0].cells].filter((head) => !head.hidden);
    /* The width of a first column that stays in sight. */
    const pinned = () => (getComputedStyle(heads()[0]).position === "sticky" ? heads()[0].offsetWidth : 0);

    function count() {
      const box = wide.getBoundingClientRect();
      const others = heads().slice(pinned() ? 1 : 0).map((head) => head.getBoundingClientRect());
      const left = others.filter((head) => head.left < box.left + pinned() - 2).length;
      const right = others.filter((head) => head.right > box.right + 2).length;
      const words = (many) => `${many} more column${many === 1 ? "" : "s"}`;
      buttons[0].textContent = `\u2190 ${words(left)}`;
      buttons[1].textContent = `${words(right)} \u2192`;
      buttons[0].hidden = !left;
      buttons[1].hidden = !right;
      line.hidden = !left && !right;
    }
    wide.addEventListener("scroll", count, { passive: true });
    const sizes = new ResizeObserver(count);
    sizes.observe(wide);
    sizes.observe(table);
  }

  addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".wide").forEach(showBeyond);
    offerTheme();
    document.querySelectorAll("table[data-sortable]").forEach(sortable);
  });
})();
