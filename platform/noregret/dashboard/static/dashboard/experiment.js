// The page of an experiment: draws its charts, and keeps what it shows fresh. Without it the page still shows everything.
"use strict";
(() => {
  const page = document.getElementById("experiment");
  const REFRESH_MS = 3000;
  const FORECAST_MS = 600_000;
  let charts = JSON.parse(document.getElementById("charts").textContent);
  let tag = "";

  const drawAll = () => {
    for (const chart of charts) {
      const section = page.querySelector(`[data-chart="${CSS.escape(chart.id)}"]`);
      if (section) NoregretCharts.draw(section, chart);
    }
  };

  const write = (element, text) => {
    if (element && element.textContent !== text) element.textContent = text;
  };

  // A part is replaced where it says something else, and not while somebody is in it with the keyboard.
  const parts = {};
  const replace = (told) => {
    for (const [name, html] of Object.entries(told)) {
      const part = page.querySelector(`[data-part="${CSS.escape(name)}"]`);
      if (!part || parts[name] === html) continue;
      if (part.contains(document.activeElement) && document.activeElement.matches(":focus-visible")) continue;
      const open = [...part.querySelectorAll("details")].map((details) => details.open);
      const scrolled = [...part.querySelectorAll(".nr-scroll")].map((box) => box.scrollLeft);
      part.innerHTML = html;
      part.querySelectorAll("details").forEach((details, i) => { details.open = Boolean(open[i]); });
      part.querySelectorAll(".nr-scroll").forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
      NoregretCharts.localTimes(part);
      parts[name] = html;
    }
  };

  const refreshOnce = async () => {
    try {
      const headers = { Accept: "application/json", ...(tag ? { "If-None-Match": tag } : {}) };
      const answer = await fetch(page.dataset.figures, { headers, redirect: "manual" });
      if (answer.status === 304) return "";
      if (answer.ok) {
        const figures = await answer.json();
        // Another status brings other parts of the page: those come from the server.
        if (figures.status !== page.dataset.status) {
          window.location.reload();
          return "";
        }
        tag = answer.headers.get("ETag") || "";
        charts = figures.charts;
        replace(figures.parts);
        drawAll();
        return "";
      }
      if (answer.type === "opaqueredirect") {
        window.location.reload(); // logged out: log in, and come back here
        return "";
      }
      if (answer.status === 403) return "It is no longer refreshed: you may not see it any more.";
      return "The service can't compute newer figures at the moment; trying again.";
    } catch (error) {
      return "The service can't be reached; trying again.";
    }
  };

  const show = async () => write(document.getElementById("trouble"), await refreshOnce());

  const refresh = async () => {
    if (!document.hidden) await show();
    window.setTimeout(refresh, REFRESH_MS);
  };

  // When it may be decided is simulated: not while the page is made, but once it stands.
  const askForecast = async () => {
    if (!document.hidden) {
      try {
        if ((await fetch(page.dataset.forecast, { redirect: "manual" })).ok) await show();
      } catch (error) {
        return;
      }
    }
    window.setTimeout(askForecast, FORECAST_MS);
  };

  NoregretCharts.localTimes(page);
  drawAll();
  new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["class"] });
  document.getElementById("refresh").addEventListener("click", (event) => {
    event.preventDefault();
    tag = "";
    show();
  });
  if (page.dataset.live === "1") {
    document.getElementById("live").hidden = false;
    window.setTimeout(refresh, REFRESH_MS);
  }
  if (page.dataset.forecast) window.setTimeout(askForecast, 500);
})();
