/* Files that the page makes itself: nothing is fetched, so it works from a disk. */
"use strict";

const lcamDownloads = (() => {
  const FORMULA = /^\s*[=+\-@＝＋－＠]/u;

  /* A cell of CSV. A name that a spreadsheet would run as a formula gets a quotation mark first. */
  function cell(value) {
    if (value === null || value === undefined) return "";
    const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  /* Rows, each a list of cells, as CSV. */
  const csv = (rows) => rows.map((row) => `${row.map(cell).join(",")}\n`).join("");

  function save(name, text) {
    const type = name.endsWith(".csv") ? "text/csv" : "application/json";
    const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
    const link = Object.assign(document.createElement("a"), { href: address, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  /* Let the button of this id save what `text` returns when it is pressed. */
  function offer(id, name, text) {
    document.getElementById(id)?.addEventListener("click", () => save(name, text()));
  }

  return { csv, offer };
})();
