/* The gallery: which images, in which order, and what stands below their maps. */
"use strict";

(() => {
  const { run } = lcamReport;
  const one = run.methods.length - (run.floor === null ? 0 : 1) === 1;
  const rivals = run.methods.map((_, m) => m).filter((m) => m !== run.floor);

  // As gallery.py writes an entry.
  const entries = lcamReport.entries.map(([path, image, index, name, predicted, full, masked, numbers, predictedIndex, link, truth], id) => ({
    id, path, image, index, name, predicted, full, masked, numbers, predictedIndex, link,
    true: truth === null ? null : { index: truth[0], name: truth[1] },
    right: truth !== null && truth[0] === predictedIndex,
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

  /* What images are ordered by: a number of one method, or by how much it is more than another's. */
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
  const state = { look: "overlay", nu: Math.min(...run.nus), found: entries, by: null };
  const percent = (score) => `${(100 * score).toFixed(score < 0.01 ? 2 : 1)}%`;

  const make = lcamMake;

  const painters = {
    overlay: lcamPixels.overlay(run.colours),
    left: lcamPixels.left(run.hidden, run.keep === "whole"),
  };
  const paint = (canvas, levels, alpha, percentile) =>
    painters[state.look](canvas, levels, state.look === "left" ? state.nu : alpha, percentile);

  // ---- Cards

  function scores(pairs) {
    return make(
      "dl",
      { className: "scores" },
      ...pairs.map(([what, score, nu, rose]) => {
        const line = make("div", {}, make("dt", { textContent: what }), make("dd", {}, percent(score)));
        if (rose) line.lastChild.append(" ", make("span", { title: "higher than on the whole image", textContent: "▲" }));
        if (nu !== undefined) line.dataset.nu = nu;
        return line;
      }),
    );
  }

  /* The image's own numbers of one method, those that are chosen. */
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

  function tile(entry, frame, name, pairs, method) {
    const made = make("li", {}, frame, make("span", { className: "method", textContent: name }), scores(pairs));
    if (method !== null) made.append(measures(entry.numbers[method], method));
    return made;
  }

  /* The number that images are ordered by, in words. */
  function orderedBy(entry) {
    const { quantity, method, less } = state.by;
    const number = numberOf(entry, state.by);
    const shown = number === null ? "not defined" : number.toFixed(run.measured[quantity].digits).replace("-", "\u2212");
    const than = less === null ? "" : ` less ${run.methods[less]}`;
    return `${titles[quantity]} of ${run.methods[method]}${than}: ${shown}`;
  }

  function cardOf(entry, frame) {
    const about = make(
      "p",
      { className: "about" },
      make("span", {}, "explained: ", make("b", { textContent: entry.name })),
      ...(entry.predicted === null ? [] : [make("span", {}, "predicted: ", make("b", { textContent: entry.predicted }))]),
      ...(entry.true === null ? [] : [make("span", {}, "true: ", make("b", { textContent: entry.true.name }), entry.right ? " (right)" : " (wrong)")]),
      ...(one ? [] : [make("span", { className: "number", textContent: `methods differ by ${(100 * entry.disagree).toFixed(1)} points` })]),
      ...(state.by === null ? [] : [make("span", { className: "number", textContent: orderedBy(entry) })]),
    );
    const views = [
      { label: "image", caption: `${entry.name} ${percent(entry.full)}`, map: null },
      ...run.methods.map((method, m) => ({
        label: method,
        caption: run.nus.map((nu, n) => `${percent(entry.masked[m][n])} at ν = ${nu}%`).join(", "),
        map: m,
      })),
    ];
    const tiles = make(
      "ul",
      { className: "tiles" },
      tile(entry, frame(views[0]), "image", [["whole", entry.full]], null),
      ...run.methods.map((method, m) =>
        tile(entry, frame(views[m + 1]), method, run.nus.map((nu, n) => [`${nu}%`, entry.masked[m][n], nu, entry.masked[m][n] > entry.full]), m),
      ),
    );
    const item = make("li", { className: "entry" }, make("h3", { textContent: entry.path }), about, tiles);
    return { item, views, link: entry.link };
  }

  function find() {
    const words = element("search").value.trim().toLowerCase();
    const name = element("class").value;
    const [truth, right] = ["true-class", "right"].map((id) => element(id)?.value ?? "");
    const order = element("order").value;
    const ordered = order === "worst" || order === "best";
    element("by").hidden = !ordered;
    state.by = ordered ? chosen() : null;
    const found = entries.filter(
      (entry) =>
        (name === "" || entry.index === Number(name)) &&
        (truth === "" || entry.true?.index === Number(truth)) &&
        (right === "" || (entry.true !== null && entry.right === (right === "right"))) &&
        entry.words.includes(words),
    );
    const lacks = (entry) => ordered && numberOf(entry, state.by) === null;
    state.found = [
      ...found.filter((entry) => !lacks(entry)).sort(ORDERS[order][1]),
      ...found.filter(lacks), // last, in either order
    ];
    gallery.find(state.found, entries.length);
  }

  // ---- Files

  /* As --per-image writes them: a line an image, class and method. */
  function table() {
    const head = [
      ...["path", "class_index", "class_name", "predicted_index", "true_index", "method", "score"],
      ...run.nus.map((nu) => `score_${nu}`),
      ...run.measured.map(({ column }) => column),
    ];
    const rows = state.found.flatMap((entry) =>
      run.methods.map((method, m) => [
        ...[entry.path, entry.index, entry.name, entry.predictedIndex, entry.true?.index, method, entry.full],
        ...entry.masked[m],
        ...entry.numbers[m],
      ]),
    );
    return [head, ...rows];
  }

  function objects() {
    const [head, ...rows] = table();
    return JSON.stringify(rows.map((row) => Object.fromEntries(head.map((name, k) => [name, row[k] ?? null]))), null, 1);
  }

  lcamDownloads.offer("images-csv", "images.csv", () => lcamDownloads.csv(table()));
  lcamDownloads.offer("images-json", "images.json", objects);
  for (const [kind, text] of Object.entries(run.tables)) lcamDownloads.offer(`table-${kind}`, `table.${kind}`, () => text);

  // ---- Controls

  function setNu(nu) {
    state.nu = nu;
    slider.value = nu;
    markNu();
    gallery.redraw();
  }

  function setLook(look) {
    state.look = look;
    document.querySelector(`input[name="look"][value="${look}"]`).checked = true;
    markNu();
    gallery.redraw();
  }

  function markNu() {
    element("nu-value").textContent = `${state.nu}%`;
    slider.setAttribute("aria-valuetext", `${state.nu}% of the map kept`);
    const measured = run.nus.includes(state.nu);
    element("explained").textContent =
      state.look === "overlay"
        ? "Under each map: the score of the class with the highest ν% of the map kept, ▲ where it rose; then this image's own numbers."
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
  function offerClasses(id, classOf) {
    const counts = new Map();
    for (const entry of entries) {
      const one = classOf(entry);
      if (one === null) continue;
      const known = counts.get(one.index) ?? { name: one.name, count: 0 };
      known.count += 1;
      counts.set(one.index, known);
    }
    [...counts]
      .sort(([, a], [, b]) => a.name.localeCompare(b.name))
      .forEach(([value, { name, count }]) => {
        element(id)?.append(make("option", { value, textContent: `${name} (${count})` }));
      });
  }
  offerClasses("class", (entry) => entry);
  offerClasses("true-class", (entry) => entry.true);
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
  for (const id of ["class", "true-class", "right", "order", "by-measure", "by-method", "by-less"]) {
    element(id)?.addEventListener("change", find);
  }
  const gallery = lcamEntries({
    run,
    cardOf,
    paint,
    look: () => `${state.look} ${state.look === "left" ? state.nu : ""}`,
    changed: () => {
      markNu();
      markMeasures();
    },
    reset: () => {
      element("search").value = "";
      for (const id of ["class", "true-class", "right"]) if (element(id)) element(id).value = "";
      element("order").value = "given";
      find();
    },
  });
  lcamColumns.changed(markMeasures);
  setNu(state.nu);
  find();
  gallery.goToAddress();
})();
