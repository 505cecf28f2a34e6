// htmx would write a style of its own into each page, and evaluate expressions: pages allow neither.
"use strict";
htmx.config.includeIndicatorStyles = false;
htmx.config.allowEval = false;
htmx.config.responseHandling.unshift({ code: "304", swap: false }); // what is shown is what there is
htmx.config.timeout = 10_000;

// A part that asks for itself every few seconds ([data-polled]) waits while nobody looks, and while somebody is in it.
// What was opened in it stays open.
(() => {
  let open = [];
  const isPolled = (event) => event.target.matches?.("[data-polled]");
  const isInHand = (part) => part.contains(document.activeElement);
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isPolled(event) && (document.hidden || isInHand(event.target))) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (!isPolled(event)) return;
    if (isInHand(event.target)) event.detail.shouldSwap = false;
    else open = [...event.target.querySelectorAll("details[open][id]")].map((details) => details.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open.splice(0)) document.getElementById(id)?.setAttribute("open", "");
  });
})();
