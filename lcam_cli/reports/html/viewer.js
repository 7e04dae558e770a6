/* One image of an entry, enlarged, with its map: a dialog. */
"use strict";

const lcamViewer = (() => {
  const element = (id) => document.getElementById(id);
  const dialog = element("viewer");
  const image = element("viewer-image");
  const canvas = element("viewer-map");
  let shown = null; // {title, link, views: [{label, caption, source, paint}]}
  let at = 0;

  function draw() {
    if (!dialog.open) return;
    const { label, caption, source, paint } = shown.views[at];
    if (image.getAttribute("src") !== source) image.src = source;
    image.alt = paint ? "" : shown.title;
    canvas.hidden = !paint;
    // Its levels may still be on their way: then nothing is drawn, and this is called again.
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    if (paint) {
      canvas.setAttribute("aria-label", `${label}: map of ${shown.title}`);
      paint(canvas);
    }
    element("viewer-caption").textContent = caption ? `${label}: ${caption}` : label;
    element("viewer-place").textContent = `${at + 1} of ${shown.views.length}`;
  }

  function step(by) {
    at = (at + by + shown.views.length) % shown.views.length;
    draw();
  }

  /* Show a view of an entry; the others are a step away. */
  function open(entry, view, { width, height }) {
    [shown, at] = [entry, view];
    Object.assign(canvas, { width, height });
    const frame = element("viewer-frame");
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.setProperty("--shape", width / height);
    element("viewer-title").textContent = entry.title;
    const link = element("viewer-original");
    link.hidden = !entry.link;
    link.href = entry.link || "#";
    element("viewer-no-original").hidden = Boolean(entry.link);
    dialog.showModal();
    draw();
  }

  element("viewer-previous").addEventListener("click", () => step(-1));
  element("viewer-next").addEventListener("click", () => step(1));
  element("viewer-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", ({ key, target }) => {
    if (target.type === "range") return; // moves by the same keys
    if (key === "ArrowLeft") step(-1);
    if (key === "ArrowRight") step(1);
  });
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog) dialog.close(); // beside it
  });

  return { open, draw };
})();
