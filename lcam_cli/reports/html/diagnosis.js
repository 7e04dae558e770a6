/* The page of lcam diagnose: which of the misclassified images are shown, and what stands below their maps. */
"use strict";

(() => {
  const { run } = lcamReport;
  const make = lcamMake;
  const form = document.querySelector(".filters");
  const SELECTS = ["group", "class", "true", "predicted", "moves"].filter((name) => form.elements[name]);
  const NUMBERS = ["true_score", "predicted_score", "overlap", "true_kept", "predicted_kept"];
  const percent = (share) => `${(100 * share).toFixed(1)}%`;

  // As diagnosis_page.py writes an entry.
  const entries = lcamReport.entries.map(([image, link, path, truth, predicted, group, numbers, second], id) => ({
    id, image, link, path, true: truth, predicted, group, second,
    ...Object.fromEntries(NUMBERS.map((name, k) => [name, numbers[k]])),
    moves: second !== null && second !== group,
    words: path.toLowerCase(),
  }));
  let shown = entries;

  function cardOf(entry, frame) {
    const [trueName, predictedName] = [run.classes[entry.true], run.classes[entry.predicted]];
    const views = [
      { label: "image", caption: `true ${trueName}, predicted ${predictedName}`, map: null },
      { label: `true: ${trueName}`, caption: percent(entry.true_score), map: 0 },
      { label: `predicted: ${predictedName}`, caption: percent(entry.predicted_score), map: 1 },
    ];
    const named = (what, name, score) => [`${what}: `, make("b", { textContent: name }), ` ${percent(score)}`];
    const captions = [["image"], named("true", trueName, entry.true_score), named("predicted", predictedName, entry.predicted_score)];
    const figures = views.map((view, k) => make("figure", {}, frame(view), make("figcaption", {}, ...captions[k])));
    const why = make(
      "p",
      { className: "why" },
      make("b", { textContent: run.groups[entry.group] }),
      `: regions overlap ${entry.overlap.toFixed(2)}; on the true class's region alone, ` +
        `${trueName} ${percent(entry.true_kept)}, ${predictedName} ${percent(entry.predicted_kept)}`,
      ...(entry.moves ? [`. By ${run.second}: `, make("b", { textContent: run.groups[entry.second] })] : []),
    );
    const item = make("li", { className: "entry" }, make("h3", { textContent: entry.path }), make("div", { className: "views" }, ...figures), why);
    return { item, views, link: entry.link };
  }

  const painter = lcamPixels.overlay(run.colours);
  const gallery = lcamEntries({ run, cardOf, paint: painter, look: () => "", changed: () => {}, reset: () => filter({}) });

  function find() {
    const value = Object.fromEntries(SELECTS.map((name) => [name, form.elements[name].value]));
    const words = form.elements.text.value.trim().toLowerCase();
    const is = (chosen, index) => !chosen || Number(chosen) === index;
    shown = entries.filter(
      (entry) =>
        (!value.group || entry.group === value.group) &&
        (is(value.class, entry.true) || is(value.class, entry.predicted)) &&
        is(value.true, entry.true) &&
        is(value.predicted, entry.predicted) &&
        (!value.moves || entry.moves === (value.moves === "yes")) &&
        entry.words.includes(words),
    );
    gallery.find(shown, entries.length);
  }

  /* Show what these filters let through, and no others. */
  function filter(values) {
    form.reset();
    for (const name of SELECTS) if (values[name] !== undefined) form.elements[name].value = values[name];
    find();
  }

  // ---- Files, as --format csv and json write them

  const nameOf = (index) => run.classes[index];

  function table() {
    const rows = shown.map((entry) =>
      run.csv.map((column) => {
        if (column === "true" || column === "predicted") return nameOf(entry[column]);
        if (column === "second_group") return entry.second;
        return NUMBERS.includes(column) ? entry[column].toFixed(4) : entry[column];
      }),
    );
    return lcamDownloads.csv([run.csv, ...rows]);
  }

  function objects() {
    const pictures = shown.map((entry) => ({
      path: entry.path,
      true: nameOf(entry.true),
      true_index: entry.true,
      predicted: nameOf(entry.predicted),
      predicted_index: entry.predicted,
      group: entry.group,
      ...Object.fromEntries(NUMBERS.map((name) => [name, entry[name]])),
      ...(run.second ? { second_group: entry.second } : {}),
    }));
    return JSON.stringify({ ...run.summary, pictures }, null, 2);
  }

  function classes() {
    const groups = Object.keys(run.groups);
    const plain = ["index", "suspicion", "signs", "involved", "pictures", "recall", "errors"];
    const head = ["class", ...plain, ...groups, "false_alarms", "lured"];
    const rows = run.summary.classes.map((one) => [
      nameOf(one.index),
      ...plain.map((name) => one[name]),
      ...groups.map((group) => one.groups[group]),
      one.false_alarms,
      one.lured,
    ]);
    return lcamDownloads.csv([head, ...rows]);
  }

  function pairs() {
    const rows = run.summary.classes.flatMap((one) =>
      one.mistaken_for.map((other) => [nameOf(one.index), one.index, nameOf(other.index), other.index, other.pictures]),
    );
    rows.sort((a, b) => b[4] - a[4]);
    return lcamDownloads.csv([["true", "true_index", "predicted", "predicted_index", "images"], ...rows]);
  }

  lcamDownloads.offer("images-csv", "misclassified.csv", table);
  lcamDownloads.offer("images-json", "misclassified.json", objects);
  lcamDownloads.offer("classes-csv", "classes.csv", classes);
  lcamDownloads.offer("pairs-csv", "pairs.csv", pairs);

  // ---- Controls

  form.addEventListener("input", find);
  form.addEventListener("change", find);
  form.addEventListener("submit", (event) => event.preventDefault());
  /* A name or a number in a table shows its images. */
  document.querySelectorAll('a[href="#images"]').forEach((link) => {
    link.addEventListener("click", (event) => {
      event.preventDefault(); // the address stays as it is
      filter({ ...link.dataset });
      const heading = document.getElementById("images");
      heading.focus({ preventScroll: true });
      heading.scrollIntoView();
    });
  });
  form.hidden = false;
  find();
  gallery.goToAddress();
})();
