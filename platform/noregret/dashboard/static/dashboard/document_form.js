// A form made from a document: adds and removes rows. Without it a few empty rows stand there.
"use strict";
(() => {
  const isEmpty = (row) => [...row.querySelectorAll("input, select, textarea")].every((input) => !input.value.trim());

  const manage = (rows) => {
    const blank = rows.querySelector("template");
    const add = rows.querySelector("[data-add]");
    const least = Number(rows.dataset.least || 0);
    const limit = Number(rows.dataset.limit || Infinity);
    const all = () => [...rows.querySelectorAll("[data-row]")];
    let next = 0;

    const count = () => {
      all().forEach((row, i) => {
        row.querySelector("[data-number]").textContent = i + 1;
        row.querySelector("[data-remove]").hidden = all().length <= least;
      });
      add.hidden = all().length >= limit;
    };
    for (const row of all().reverse()) {
      next = Math.max(next, Number(row.id.match(/\[(\d+)\]$/)[1]) + 1);
      if (isEmpty(row) && all().length > least) row.remove();
    }
    add.addEventListener("click", () => {
      const holder = document.createElement("template");
      holder.innerHTML = blank.innerHTML.replaceAll("__row__", String(next++));
      add.before(holder.content);
      count();
      all().at(-1).querySelector("input, select, textarea").focus();
    });
    rows.addEventListener("click", (event) => {
      const remove = event.target.closest("[data-remove]");
      if (!remove) return;
      remove.closest("[data-row]").remove();
      count();
      add.focus();
    });
    count();
  };

  for (const rows of document.querySelectorAll("[data-rows]")) manage(rows);

  // Of a time without its minutes the browser would send nothing, and nobody could tell it from none.
  for (const form of document.querySelectorAll("form.nr-form")) {
    form.addEventListener("submit", (event) => {
      const half = [...form.elements].find((input) => input.validity && input.validity.badInput);
      if (!half) return;
      event.preventDefault();
      half.reportValidity();
    });
  }
})();
