// Buttons [data-copy] put the text of the element with that id on the clipboard. Without a clipboard
// (a page that is not secure has none) they stay hidden: the text can be selected.
"use strict";

for (const button of navigator.clipboard ? document.querySelectorAll("[data-copy]") : []) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.firstChild.textContent = "Copied";
    setTimeout(() => (button.firstChild.textContent = "Copy"), 2000);
  });
}
