/* What the page's address remembers: #hide=…&entry=12. Nothing is stored anywhere else. */
"use strict";

const lcamAddress = (() => {
  function parts() {
    const words = location.hash.slice(1).split("&").filter((word) => word.includes("="));
    return new Map(words.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]));
  }

  /* The value of a key as it was set; null where there is none. */
  const get = (key) => parts().get(key) ?? null;

  /* The fragment with a key set to a value without "&", or without the key. */
  function withKey(key, value) {
    const all = parts();
    if (value === null) all.delete(key);
    else all.set(key, value);
    return [...all].map(([name, one]) => `${name}=${one}`).join("&");
  }

  function set(key, value) {
    const fragment = withKey(key, value);
    try {
      history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
    } catch {
      /* A browser may refuse it to files; the choice then lasts as long as the page. */
    }
  }

  return { get, set, withKey };
})();
