// What was typed into a form stands there again where sending it only led to the login: kept in this tab alone, for half an hour,
// without passwords and files, and gone as soon as the form has arrived.
"use strict";
(() => {
  const KEY = "noregret.typed";
  const HALF_AN_HOUR = 1_800_000;
  const forget = () => sessionStorage.removeItem(KEY);

  const kept = () => {
    const found = JSON.parse(sessionStorage.getItem(KEY) || "null");
    return found && Date.now() - found.at < HALF_AN_HOUR ? found : null;
  };

  const address = (url) => url.pathname + url.search;

  const isKept = (input) => input.name && !["password", "file", "hidden", "submit", "button"].includes(input.type);

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.id === "login-form") return;
    forget(); // also by whoever logs out
    if (!form.matches(".nr-form")) return;
    const values = [...form.elements].filter(isKept).map((input) => [
      input.name, input.value, input.type === "checkbox" || input.type === "radio" ? input.checked : null,
      input.multiple ? [...input.selectedOptions].map((option) => option.value) : null,
    ]);
    const sentTo = address(new URL(form.getAttribute("action") || "", location.href));
    sessionStorage.setItem(KEY, JSON.stringify({ sentTo, values, at: Date.now(), refused: false }));
  });

  // A row that a script had added is added again.
  const addUntil = (form, name) => {
    const rows = [...form.querySelectorAll("[data-rows]")].find((each) => name.startsWith(`${each.dataset.rows}[`));
    const add = rows && rows.querySelector("[data-add]");
    for (let tries = 0; add && tries < 100 && !form.elements[name]; tries += 1) add.click();
  };

  const restore = (form, values) => {
    for (const [name, value, checked, chosen] of values) {
      if (!form.elements[name]) addUntil(form, name);
      for (const input of form.querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
        if (checked !== null && input.value === value) input.checked = checked;
        else if (chosen) for (const option of input.options) option.selected = chosen.includes(option.value);
        else if (checked === null) input.value = value;
        input.dispatchEvent(new Event("change", { bubbles: true }));
      }
    }
    const told = document.createElement("p");
    told.className = "nr-again";
    told.setAttribute("role", "status");
    told.textContent = "You had been logged out, and nothing was done. What you had typed stands here again: look, and send it once more.";
    form.prepend(told);
  };

  window.addEventListener("load", () => {
    const typed = kept();
    if (!typed) return forget();
    if (document.querySelector("#login-form, [data-form-refused]")) {
      sessionStorage.setItem(KEY, JSON.stringify({ ...typed, refused: true }));
      return;
    }
    forget();
    const form = document.querySelector("form.nr-form");
    if (typed.refused && form && address(location) === typed.sentTo) restore(form, typed.values);
  });
})();
