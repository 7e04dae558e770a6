/* The page of lcam diagnose: which of the misclassified pictures are shown. */
"use strict";

addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".filters");
  if (!form) return; // no misclassified picture
  const [group, chosen, text] = [form.elements.group, form.elements.class, form.elements.text];
  const pictures = [...document.querySelectorAll(".mistakes li")].map((item) => ({
    item,
    group: item.dataset.group,
    classes: item.dataset.classes.split(" "),
    text: item.dataset.text,
  }));

  function filter() {
    const wanted = text.value.trim().toLowerCase();
    let count = 0;
    for (const picture of pictures) {
      const fits =
        (!group.value || picture.group === group.value) &&
        (!chosen.value || picture.classes.includes(chosen.value)) &&
        picture.text.includes(wanted);
      picture.item.hidden = !fits;
      count += fits;
    }
    form.querySelector("output").textContent = `${count} of ${pictures.length} shown`;
  }

  /* A name in a table shows its pictures. */
  function show(link) {
    link.addEventListener("click", () => {
      form.reset();
      group.value = link.dataset.group ?? "";
      chosen.value = link.dataset.class ?? "";
      filter();
    });
  }

  form.addEventListener("input", filter);
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.querySelectorAll("a[data-group], a[data-class]").forEach(show);
  form.hidden = false;
  filter();
});
