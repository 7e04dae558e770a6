/* The gallery: which pictures, in which order, a page at a time, with their maps drawn near the screen. */
"use strict";

(() => {
  const PAGE = 24;
  const { run } = lcamReport;
  const one = run.methods.length - (run.floor === null ? 0 : 1) === 1;
  const rivals = run.methods.map((_, m) => m).filter((m) => m !== run.floor);

  // As gallery.py writes an entry.
  const entries = lcamReport.entries.map(([path, picture, index, name, predicted, full, masked, numbers], id) => ({
    id, path, picture, index, name, predicted, full, masked, numbers,
    words: `${path}\n${name}`.toLowerCase(),
    disagree: Math.max(...run.nus.map((_, n) => spread(masked, n))),
    drop: Math.max(...rivals.map((m) => full - Math.min(...masked[m]))),
  }));

  function spread(masked, n) {
    const scores = rivals.map((m) => masked[m][n]);
    return Math.max(...scores) - Math.min(...scores);
  }

  const ORDERS = {
    given: ["as they came", (a, b) => a.id - b.id],
    ...(one
      ? { drop: ["score drops most", (a, b) => b.drop - a.drop] }
      : { disagree: ["methods disagree most", (a, b) => b.disagree - a.disagree] }),
    high: ["highest score first", (a, b) => b.full - a.full],
    low: ["lowest score first", (a, b) => a.full - b.full],
    name: ["by file name", (a, b) => a.path.localeCompare(b.path)],
    worst: ["worst by a measure", (a, b) => byMeasure(b, a)],
    best: ["best by a measure", (a, b) => byMeasure(a, b)],
  };

  const element = (id) => document.getElementById(id);
  const titles = run.measured.map(({ measure, nu }) => (nu === null ? measure : `${measure}(${nu})`));

  /* What pictures are ordered by: a number of one method, or by how much it is more than another's. */
  function chosen() {
    const [quantity, method, less] = ["by-measure", "by-method", "by-less"].map((id) => element(id).value);
    return { quantity: Number(quantity), method: Number(method), less: less === "" ? null : Number(less) };
  }

  function numberOf(entry, { quantity, method, less }) {
    const [number, other] = [entry.numbers[method][quantity], less === null ? 0 : entry.numbers[less][quantity]];
    return number === null || other === null ? null : number - other;
  }

  /* Negative where `a` is better than `b`, which both have a number. */
  function byMeasure(a, b) {
    const sign = run.measured[state.by.quantity].lower ? 1 : -1;
    return sign * (numberOf(a, state.by) - numberOf(b, state.by));
  }
  const list = element("entries");
  const slider = element("nu");
  const state = { look: "overlay", nu: Math.min(...run.nus), page: 0, found: entries, by: null };
  const percent = (score) => `${(100 * score).toFixed(score < 0.01 ? 2 : 1)}%`;

  function make(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  // ---- Maps: a script an entry, asked for when its card comes near the screen.

  const waiting = new Map();
  window.lcamMaps = (id, maps) => {
    waiting.get(id)?.(Promise.all(maps.map((map) => lcamPixels.decoded(map, run.width, run.height))));
    waiting.delete(id);
  };

  function loaded(id) {
    return new Promise((resolve, reject) => {
      waiting.set(id, resolve);
      const script = make("script", { src: `lcam-files/maps/${String(id).padStart(6, "0")}.js` });
      script.addEventListener("error", () => reject(new Error("missing")));
      script.addEventListener("load", () => script.remove());
      document.head.append(script);
    });
  }

  const painters = {
    overlay: lcamPixels.overlay(run.colours, run.alpha),
    left: lcamPixels.left(run.hidden, run.keep === "whole"),
  };

  const near = new Set(); // cards
  const watch = new IntersectionObserver(
    (changes) => {
      for (const { target: card, isIntersecting } of changes) {
        if (!isIntersecting) {
          near.delete(card.lcam);
          continue;
        }
        near.add(card.lcam);
        if (!card.lcam.asked) ask(card.lcam);
        draw(card.lcam);
      }
    },
    { rootMargin: "300px 0px" },
  );

  async function ask(card) {
    card.asked = true;
    try {
      card.maps = await loaded(card.id);
    } catch {
      card.note.textContent = "Its maps cannot be read: is the report's folder complete?";
      return;
    }
    draw(card);
  }

  function draw(card) {
    const wanted = `${state.look} ${state.look === "left" ? state.nu : ""}`;
    if (!card.maps || card.drawn === wanted) return;
    card.canvases.forEach((canvas, m) => painters[state.look](canvas, card.maps[m], state.nu));
    card.drawn = wanted;
  }

  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      near.forEach(draw);
    });
  }

  // ---- Cards

  function scores(pairs) {
    return make(
      "dl",
      { className: "scores" },
      ...pairs.map(([what, score, nu, rose]) => {
        const line = make("div", {}, make("dt", { textContent: what }), make("dd", {}, percent(score)));
        if (rose) line.lastChild.append(" ", make("span", { title: "higher than on the whole picture", textContent: "▲" }));
        if (nu !== undefined) line.dataset.nu = nu;
        return line;
      }),
    );
  }

  /* The picture's own numbers of one method, those that are chosen. */
  function measures(numbers, method) {
    return make(
      "dl",
      { className: "scores measures" },
      ...numbers.map((number, q) => {
        const shown = number === null ? "\u2013" : number.toFixed(run.measured[q].digits);
        const line = make("div", {}, make("dt", { textContent: titles[q] }), make("dd", { textContent: shown }));
        line.dataset.quantity = q;
        line.dataset.method = method;
        return line;
      }),
    );
  }

  function markMeasures() {
    list.querySelectorAll("[data-quantity]").forEach((line) => {
      const q = Number(line.dataset.quantity);
      const sorted = state.by?.quantity === q && [state.by.method, state.by.less].includes(Number(line.dataset.method));
      line.toggleAttribute("data-now", sorted);
      line.hidden = !sorted && !lcamColumns.shows(run.measured[q].measure, run.measured[q].nu);
    });
  }

  function tile(entry, name, pairs, canvas, method) {
    const source = `lcam-files/pictures/${String(entry.picture).padStart(6, "0")}.jpg`;
    const alt = canvas ? "" : entry.path;
    const picture = make("img", { alt, width: run.width, height: run.height, loading: "lazy", decoding: "async", src: source });
    const frame = make("div", { className: "picture" }, picture);
    frame.style.aspectRatio = `${run.width} / ${run.height}`;
    if (canvas) frame.append(canvas);
    const made = make("li", {}, frame, make("span", { className: "method", textContent: name }), scores(pairs));
    if (canvas) made.append(measures(entry.numbers[method], method));
    return made;
  }

  /* The number that pictures are ordered by, in words. */
  function orderedBy(entry) {
    const { quantity, method, less } = state.by;
    const number = numberOf(entry, state.by);
    const shown = number === null ? "not defined" : number.toFixed(run.measured[quantity].digits).replace("-", "\u2212");
    const than = less === null ? "" : ` less ${run.methods[less]}`;
    return `${titles[quantity]} of ${run.methods[method]}${than}: ${shown}`;
  }

  function cardOf(entry) {
    const canvases = run.methods.map((method) => {
      const canvas = make("canvas", { width: run.width, height: run.height });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${method}: map of ${entry.path} for ${entry.name}`);
      return canvas;
    });
    const note = make("span");
    const about = make(
      "p",
      { className: "about" },
      make("span", {}, "explained: ", make("b", { textContent: entry.name })),
      ...(entry.predicted === null ? [] : [make("span", {}, "predicted: ", make("b", { textContent: entry.predicted }))]),
      ...(one ? [] : [make("span", { className: "number", textContent: `methods differ by ${(100 * entry.disagree).toFixed(1)} points` })]),
      ...(state.by === null ? [] : [make("span", { className: "number", textContent: orderedBy(entry) })]),
      note,
    );
    const tiles = make(
      "ul",
      { className: "tiles" },
      tile(entry, "picture", [["whole", entry.full]], null),
      ...run.methods.map((method, m) =>
        tile(entry, method, run.nus.map((nu, n) => [`${nu}%`, entry.masked[m][n], nu, entry.masked[m][n] > entry.full]), canvases[m], m),
      ),
    );
    const item = make("li", { className: "entry" }, make("h3", { textContent: entry.path }), about, tiles);
    item.lcam = { id: entry.id, canvases, note, maps: null, asked: false, drawn: "" };
    return item;
  }

  // ---- Pages

  function show() {
    watch.disconnect();
    near.clear();
    waiting.clear();
    const pages = Math.max(1, Math.ceil(state.found.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const cards = state.found.slice(state.page * PAGE, (state.page + 1) * PAGE).map(cardOf);
    list.replaceChildren(...cards);
    cards.forEach((card) => watch.observe(card));
    markNu();
    markMeasures();
    document.querySelectorAll("nav.pages").forEach((nav) => {
      nav.replaceChildren(...(pages === 1 ? [] : turners(pages)));
    });
  }

  function turners(pages) {
    const turn = (label, by) => {
      const to = state.page + by;
      const button = make("button", { type: "button", textContent: label, disabled: to < 0 || to >= pages });
      button.addEventListener("click", () => {
        state.page = to;
        show();
        element("pictures").focus({ preventScroll: true });
        element("found").scrollIntoView();
      });
      return button;
    };
    const where = make("span", { className: "number", textContent: `page ${state.page + 1} of ${pages}` });
    return [turn("Previous", -1), where, turn("Next", 1)];
  }

  function find() {
    const words = element("search").value.trim().toLowerCase();
    const name = element("class").value;
    const order = element("order").value;
    const ordered = order === "worst" || order === "best";
    element("by").hidden = !ordered;
    state.by = ordered ? chosen() : null;
    const found = entries.filter(
      (entry) => (name === "" || entry.index === Number(name)) && entry.words.includes(words),
    );
    const lacks = (entry) => ordered && numberOf(entry, state.by) === null;
    state.found = [
      ...found.filter((entry) => !lacks(entry)).sort(ORDERS[order][1]),
      ...found.filter(lacks), // last, in either order
    ];
    state.page = 0;
    const [some, all] = [state.found.length, entries.length].map((count) => count.toLocaleString("en"));
    element("found").textContent = some === all ? `${all} shown` : `${some} of ${all} shown`;
    show();
  }

  // ---- Controls

  function setNu(nu) {
    state.nu = nu;
    slider.value = nu;
    markNu();
    redraw();
  }

  function setLook(look) {
    state.look = look;
    document.querySelector(`input[name="look"][value="${look}"]`).checked = true;
    markNu();
    redraw();
  }

  function markNu() {
    element("nu-value").textContent = `${state.nu}%`;
    slider.setAttribute("aria-valuetext", `${state.nu}% of the map kept`);
    const measured = run.nus.includes(state.nu);
    element("explained").textContent =
      state.look === "overlay"
        ? "Under each map: the score of the class with the highest ν% of the map kept, ▲ where it rose; then this picture's own numbers."
        : `What the classifier is left with at ν = ${state.nu}%` +
          (measured ? "." : `. No score was measured there, only at ${run.nus.map((nu) => `${nu}%`).join(", ")}.`);
    element("measured").querySelectorAll("button").forEach((button) => {
      button.setAttribute("aria-pressed", String(Number(button.value) === state.nu));
    });
    list.querySelectorAll("[data-nu]").forEach((line) => {
      line.toggleAttribute("data-now", state.look === "left" && Number(line.dataset.nu) === state.nu);
    });
  }

  titles.forEach((textContent, value) => element("by-measure").append(make("option", { value, textContent })));
  run.methods.forEach((textContent, value) => {
    for (const id of ["by-method", "by-less"]) element(id).append(make("option", { value, textContent }));
  });
  for (const [value, [label]] of Object.entries(ORDERS)) {
    if (!titles.length && (value === "worst" || value === "best")) continue;
    element("order").append(make("option", { value, textContent: label }));
  }
  const counts = new Map();
  for (const { index, name } of entries) {
    const known = counts.get(index) ?? { name, count: 0 };
    known.count += 1;
    counts.set(index, known);
  }
  [...counts]
    .sort(([, a], [, b]) => a.name.localeCompare(b.name))
    .forEach(([value, { name, count }]) => {
      element("class").append(make("option", { value, textContent: `${name} (${count})` }));
    });
  for (const nu of run.nus) {
    const button = make("button", { type: "button", value: nu, textContent: `${nu}%`, title: "measured" });
    button.addEventListener("click", () => {
      setNu(nu);
      setLook("left");
    });
    element("measured").append(button);
  }
  slider.addEventListener("input", () => {
    setNu(Number(slider.value));
    if (state.look !== "left") setLook("left");
  });
  document.querySelectorAll('input[name="look"]').forEach((radio) => {
    radio.addEventListener("change", () => setLook(radio.value));
  });
  element("search").addEventListener("input", find);
  element("class").addEventListener("change", find);
  for (const id of ["order", "by-measure", "by-method", "by-less"]) element(id).addEventListener("change", find);
  lcamColumns.changed(markMeasures);
  setNu(state.nu);
  find();
})();
