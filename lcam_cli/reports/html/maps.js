/* Maps as pixels: the overlay, and what the classifier was left with. No page elements here. */
"use strict";

const lcamPixels = (() => {
  /* The nearest whole number, a half to the even one: as the measures count. */
  function keptPixels(nu, pixels) {
    const exact = (nu * pixels) / 100;
    const below = Math.floor(exact);
    const rest = exact - below;
    return below + (rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? 1 : 0);
  }

  /*
   * Which pixels stay: the highest; of equal ones at the limit, the first in reading order.
   * All at `limit` and above stay, and of those just below it the first `room`.
   */
  function limitOf(levels, nu) {
    const many = new Uint32Array(256);
    for (let i = 0; i < levels.length; i += 1) many[levels[i]] += 1;
    let room = keptPixels(nu, levels.length);
    let limit = 256;
    while (limit > 0 && many[limit - 1] <= room) {
      limit -= 1;
      room -= many[limit];
    }
    return [limit, room];
  }

  let image = null; // one for all canvases, which are of one size

  /* Paint each level in its colour of `table`, and in `hidden` where it does not stay. */
  function paint(canvas, levels, table, hidden, limit, room) {
    const context = canvas.getContext("2d");
    image ??= context.createImageData(canvas.width, canvas.height);
    const out = new Uint32Array(image.data.buffer);
    const edge = limit - 1;
    for (let i = 0; i < levels.length; i += 1) {
      const level = levels[i];
      if (level >= limit) out[i] = table[level];
      else if (level === edge && room > 0) {
        out[i] = table[level];
        room -= 1;
      } else out[i] = hidden;
    }
    context.putImageData(image, 0, 0);
  }

  // A B G R from the high byte down, as memory has it on every machine that runs a browser.
  const packed = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

  /* The level that a percentage of the pixels do not exceed; 255 where that is 0. */
  function levelAt(levels, percentage) {
    const last = Math.floor(((levels.length - 1) * percentage) / 100);
    const sorted = levels.slice().sort();
    return sorted[last] || 255;
  }

  /*
   * A painter of overlays: 256 colours, each as opaque as its level, at most `alpha`. With a percentage, the last
   * colour is that of the level there and above.
   */
  function overlay(colours) {
    const byte = (k) => parseInt(colours.slice(2 * k, 2 * k + 2), 16);
    const tableOf = (alpha) =>
      Uint32Array.from({ length: 256 }, (_, v) =>
        packed(byte(3 * v), byte(3 * v + 1), byte(3 * v + 2), Math.round(alpha * v)),
      );
    let [last, table] = [null, null]; // all canvases have the same one
    return (canvas, levels, alpha, percentage) => {
      if (alpha !== last) [last, table] = [alpha, tableOf(alpha)];
      if (percentage === null) return paint(canvas, levels, table, 0, 0, 0);
      const limit = levelAt(levels, percentage);
      const spread = Uint32Array.from(table, (_, v) => table[Math.min(255, Math.round((255 * v) / limit))]);
      return paint(canvas, levels, spread, 0, 0, 0);
    };
  }

  /* A painter of what hides the rest: over an image X it shows X·V where a pixel stays, or X where `whole`. */
  function left([r, g, b], whole) {
    const table = Uint32Array.from({ length: 256 }, (_, v) => packed(r, g, b, whole ? 0 : 255 - v));
    const hidden = packed(r, g, b, 255);
    return (canvas, levels, nu) => paint(canvas, levels, table, hidden, ...limitOf(levels, nu));
  }

  /* A grey PNG in base64 as its levels. */
  async function decoded(base64, width, height) {
    const png = new Image();
    png.src = `data:image/png;base64,${base64}`;
    await png.decode();
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(png, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const levels = new Uint8Array(width * height);
    for (let i = 0; i < levels.length; i += 1) levels[i] = data[4 * i];
    return levels;
  }

  return { limitOf, overlay, left, decoded };
})();
