/* Entries a page at a time: each a card whose maps are loaded and drawn when it comes near the screen. */
"use strict";

const lcamMake = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

/*
 * Returns what shows entries. A page gives it
 *   cardOf(entry, frame): a card {item, title, link, views}, whose tiles have `frame(view)` of
 *     each view {label, caption, source, map}; `map` is the place of a map among the entry's, or null;
 *   paint(canvas, levels, alpha, percentile): draws a map; the colours of some end at a percentile,
 *     which is null for others; and look(): words that change when drawings do;
 *   changed(): called after the cards are others;
 *   reset(): makes every entry be found.
 */
const lcamEntries = ({ run, cardOf, paint, look, changed, reset }) => {
  const PAGE = 24;
  const make = lcamMake;
  const element = (id) => document.getElementById(id);
  const list = element("entries");
  const state = { found: [], page: 0, alpha: run.alpha, current: null };
  const source = (image) => `lcam-files/images/${String(image).padStart(6, "0")}.jpg`;

  // ---- Maps: a script an entry.

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

  const near = new Set(); // cards
  const watch = new IntersectionObserver(
    (changes) => {
      for (const { target, isIntersecting } of changes) {
        if (!isIntersecting) {
          near.delete(target.lcam);
          continue;
        }
        near.add(target.lcam);
        ask(target.lcam);
        draw(target.lcam);
      }
    },
    { rootMargin: "300px 0px" },
  );

  async function ask(card) {
    if (card.asked) return;
    card.asked = true;
    try {
      card.maps = await loaded(card.id);
    } catch {
      card.note.textContent = "Its maps cannot be read: is the report's folder complete?";
      return;
    }
    draw(card);
    lcamViewer.draw();
  }

  function draw(card) {
    const wanted = `${look()} ${state.alpha}`;
    if (!card.maps || card.drawn === wanted) return;
    for (const [canvas, map] of card.canvases) paint(canvas, card.maps[map], state.alpha, run.percentiles[map]);
    card.drawn = wanted;
  }

  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      near.forEach(draw);
      lcamViewer.draw();
    });
  }

  // ---- Cards

  function build(entry) {
    const canvases = [];
    const frames = [];
    const frame = (view) => {
      const plain = view.map === null;
      const image = make("img", { alt: plain ? entry.path : "", width: run.width, height: run.height, loading: "lazy", decoding: "async", src: source(entry.image) });
      const made = make("div", { className: "frame" }, image);
      made.style.aspectRatio = `${run.width} / ${run.height}`;
      if (!plain) {
        const canvas = make("canvas", { width: run.width, height: run.height });
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `${view.label}: map of ${entry.path}`);
        canvases.push([canvas, view.map]);
        made.append(canvas);
      }
      frames.push(made);
      return made;
    };
    const note = make("span", { className: "problem" });
    const { item, views, link } = cardOf(entry, frame);
    const card = { id: entry.id, canvases, note, maps: null, asked: false, drawn: "" };
    const shown = {
      title: entry.path,
      link,
      views: views.map(({ label, caption, map }) => ({
        label,
        caption,
        source: source(entry.image),
        paint: map === null ? null : (canvas) => card.maps && paint(canvas, card.maps[map], state.alpha, run.percentiles[map]),
      })),
    };
    const enlarge = (k) => {
      ask(card);
      lcamViewer.open(shown, k, run);
    };
    frames.forEach((one, k) => one.addEventListener("click", () => enlarge(k)));
    const button = make("button", { type: "button", className: "enlarge", textContent: "Enlarge" });
    button.setAttribute("aria-label", `Enlarge ${entry.path}`);
    button.addEventListener("click", () => enlarge(Math.min(1, views.length - 1)));
    const here = make("a", { className: "address", href: `#${lcamAddress.withKey("entry", entry.id)}`, textContent: "Link", title: "This image's address in the report" });
    here.setAttribute("aria-label", `Link to ${entry.path} in this report`);
    here.addEventListener("click", (event) => {
      event.preventDefault();
      lcamAddress.set("entry", String(entry.id));
      mark(entry.id);
    });
    const actions = make("p", { className: "actions" }, button, here);
    if (link) {
      const original = make("a", { href: link, target: "_blank", rel: "noopener", textContent: "Original" });
      original.setAttribute("aria-label", `Open the original of ${entry.path}`);
      actions.append(original);
    }
    actions.append(note);
    item.querySelector("h3").after(actions);
    item.lcam = card;
    return item;
  }

  // ---- Pages

  function show() {
    watch.disconnect();
    near.clear();
    waiting.clear();
    const pages = Math.max(1, Math.ceil(state.found.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const cards = state.found.slice(state.page * PAGE, (state.page + 1) * PAGE).map(build);
    list.replaceChildren(...cards);
    cards.forEach((card) => watch.observe(card));
    mark(state.current);
    changed();
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
        element("images").focus({ preventScroll: true });
        element("found").scrollIntoView();
      });
      return button;
    };
    const where = make("span", { className: "number", textContent: `page ${state.page + 1} of ${pages}` });
    return [turn("Previous", -1), where, turn("Next", 1)];
  }

  /* Show these entries of all, from the first page on. */
  function find(found, all) {
    state.found = found;
    state.page = 0;
    const [some, many] = [found.length, all].map((count) => count.toLocaleString("en"));
    element("found").textContent = some === many ? `${many} shown` : `${some} of ${many} shown`;
    show();
  }

  // ---- The address of an entry

  function mark(id) {
    state.current = id;
    for (const item of list.children) item.toggleAttribute("data-current", item.lcam.id === id);
  }

  /* Bring the entry of the address into view, if there is one. */
  function goToAddress() {
    const words = lcamAddress.get("entry");
    if (words === null || !/^\d{1,9}$/.test(words)) return;
    const id = Number(words);
    let place = state.found.findIndex((entry) => entry.id === id);
    if (place < 0) {
      reset();
      place = state.found.findIndex((entry) => entry.id === id);
      if (place < 0) return; // of another report
    }
    state.page = Math.floor(place / PAGE);
    state.current = id;
    show();
    const item = list.children[place % PAGE];
    item.tabIndex = -1;
    item.focus({ preventScroll: true });
    item.scrollIntoView({ block: "center" });
  }

  addEventListener("hashchange", goToAddress);

  // ---- How strong the colours are

  const sliders = ["opacity", "viewer-opacity"].map(element);
  function setAlpha(percent) {
    state.alpha = percent / 100;
    for (const slider of sliders) {
      slider.value = percent;
      slider.setAttribute("aria-valuetext", `${percent}%`);
      element(`${slider.id}-value`).textContent = `${percent}%`;
    }
    redraw();
  }
  for (const slider of sliders) slider.addEventListener("input", () => setAlpha(Number(slider.value)));
  setAlpha(Math.round(100 * run.alpha));

  return { find, redraw, goToAddress };
};
