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

  /* Which pixels stay: the highest; of equal ones at the limit, the first in reading order. */
  function kept(levels, nu) {
    const many = new Uint32Array(256);
    for (const level of levels) many[level] += 1;
    let room = keptPixels(nu, levels.length);
    let limit = 256;
    while (limit > 0 && many[limit - 1] <= room) {
      limit -= 1;
      room -= many[limit];
    }
    const stays = new Uint8Array(levels.length);
    for (let i = 0; i < levels.length; i += 1) {
      if (levels[i] >= limit) stays[i] = 1;
      else if (levels[i] === limit - 1 && room > 0) {
        stays[i] = 1;
        room -= 1;
      }
    }
    return stays;
  }

  function paint(canvas, levels, pixel) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const out = new Uint32Array(image.data.buffer); // A B G R from the high byte down
    for (let i = 0; i < levels.length; i += 1) out[i] = pixel(levels[i], i);
    context.putImageData(image, 0, 0);
  }

  const packed = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

  /* A painter of overlays: 256 colours, each as opaque as its level, at most `alpha`. */
  function overlay(colours, alpha) {
    const byte = (k) => parseInt(colours.slice(2 * k, 2 * k + 2), 16);
    const table = new Uint32Array(256);
    for (let v = 0; v < 256; v += 1) {
      table[v] = packed(byte(3 * v), byte(3 * v + 1), byte(3 * v + 2), Math.round(alpha * v));
    }
    return (canvas, levels) => paint(canvas, levels, (level) => table[level]);
  }

  /* A painter of what hides the rest: over a picture X it shows X·V where a pixel stays. */
  function left([r, g, b]) {
    return (canvas, levels, nu) => {
      const stays = kept(levels, nu);
      paint(canvas, levels, (level, i) => packed(r, g, b, stays[i] ? 255 - level : 255));
    };
  }

  /* A grey PNG in base64 as its levels. */
  async function decoded(base64, side) {
    const image = new Image();
    image.src = `data:image/png;base64,${base64}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, side, side);
    return Uint8Array.from({ length: side * side }, (_, i) => data[4 * i]);
  }

  return { keptPixels, kept, overlay, left, decoded };
})();
