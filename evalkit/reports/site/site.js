"use strict";
// Shows the numbers whose name has the words asked for, of the task chosen.
(() => {
  const filters = document.querySelector(".series-filters");
  if (!filters) return;
  const blocks = [...document.querySelectorAll("article.series")];
  const [input, select, told] = ["input", "select", "output"].map((name) => filters.querySelector(name));
  let asked = [];
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const apply = () => {
    const every = [...words(input.value), ...asked];
    let shown = 0;
    for (const block of blocks) {
      const name = block.dataset.name.toLowerCase();
      block.hidden = Boolean(select.value && block.dataset.task !== select.value) || !every.every((word) => name.includes(word));
      shown += !block.hidden;
    }
    told.textContent = `${shown.toLocaleString("en")} of ${blocks.length.toLocaleString("en")} shown`;
    return shown;
  };
  filters.addEventListener("input", apply);
  filters.addEventListener("change", apply);
  document.addEventListener("page:search", (event) => {
    asked = event.detail.words;
    event.detail.hits("history", apply());
  });
  apply();
})();
