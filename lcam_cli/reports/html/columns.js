/* Which measures are shown, in the table and below the maps; the address remembers it. */
"use strict";

const lcamColumns = (() => {
  const table = document.getElementById("results");
  const heads = [...table.tHead.rows[0].cells];
  const boxes = [...document.querySelectorAll("#columns input[type=checkbox]")];
  const shownBy = { measure: new Set(), nu: new Set() };
  const listeners = [];

  /* Whether a measure is shown, at a ν where it has one. */
  function shows(measure, nu) {
    return shownBy.measure.has(measure) && (nu === null || !shownBy.nu.size || shownBy.nu.has(String(nu)));
  }

  function apply() {
    for (const box of boxes) {
      if (box.checked) shownBy[box.name].add(box.value);
      else shownBy[box.name].delete(box.value);
    }
    const hidden = heads.map(({ dataset }) => dataset.measure !== "" && !shows(dataset.measure, dataset.nu || null));
    for (const row of table.rows) hidden.forEach((one, k) => (row.cells[k].hidden = one));
    const away = boxes.filter((box) => !box.checked).length;
    document.getElementById("columns-hidden").textContent = away ? `(${away} left out)` : "(all shown)";
    listeners.forEach((listener) => listener());
  }

  function remember() {
    const words = boxes.filter((box) => !box.checked).map((box) => encodeURIComponent(`${box.name} ${box.value}`));
    lcamAddress.set("hide", words.length ? words.join(",") : null);
  }

  function remembered() {
    try {
      return new Set((lcamAddress.get("hide") ?? "").split(",").map(decodeURIComponent));
    } catch {
      return new Set(); // somebody else's
    }
  }

  const away = remembered();
  for (const box of boxes) {
    box.checked = !away.has(`${box.name} ${box.value}`);
    box.addEventListener("change", () => {
      apply();
      remember();
    });
  }
  for (const button of document.querySelectorAll("#columns button")) {
    button.addEventListener("click", () => {
      const all = button.value === "all";
      // "None" leaves the ν be: a measure that is then chosen is shown.
      for (const box of boxes) if (all || box.name === "measure") box.checked = all;
      apply();
      remember();
    });
  }
  document.getElementById("methods").addEventListener("input", ({ target }) => {
    const words = target.value.trim().toLowerCase();
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(words);
    document.getElementById("no-method").textContent = rows.every((row) => row.hidden) ? "No method has this in its name." : "";
  });
  apply();
  return { shows, changed: (listener) => listeners.push(listener) };
})();
