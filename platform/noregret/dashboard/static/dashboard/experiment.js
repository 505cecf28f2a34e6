// The page of an experiment: draws its charts, and keeps its figures fresh. Without it the page still shows its tables.
"use strict";
(() => {
  const page = document.getElementById("experiment");
  const charts = {};
  const REFRESH_MS = 3000;
  // Okabe and Ito's palette, made to be told apart by colour-blind eyes: its dark tones on white, its light ones on dark.
  // Dashes tell lines apart where colour does not.
  const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#AA4C86", "#8A6D00", "#2A8CC4", "#555555"];
  const DARK = ["#56B4E9", "#F0874A", "#2FC79B", "#E39AC4", "#F0E442", "#9AD0F5", "#BBBBBB"];
  const DASHES = [[], [8, 3], [3, 2], [9, 3, 2, 3]];
  let shown = JSON.parse(document.getElementById("figures").textContent);

  const isDark = () => document.documentElement.classList.contains("dark");
  const two = (number) => String(number).padStart(2, "0");

  // Every time on the page is UTC, as in the API and the logs.
  const clock = (ms, spanMs) => {
    const at = new Date(ms);
    const time = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
    const day = `${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
    if (spanMs > 2 * 86400e3) return day;
    if (spanMs > 20 * 3600e3) return `${day} ${time}`;
    return spanMs < 600e3 ? `${time}:${two(at.getUTCSeconds())}` : time;
  };

  const series = (arms, x, values) => arms.map((arm, i) => {
    const colour = (isDark() ? DARK : LIGHT)[i % LIGHT.length];
    const data = values(arm).map((y, j) => ({ x: x[j], y }));
    return {
      label: arm.name,
      data,
      borderColor: colour,
      backgroundColor: colour,
      borderDash: DASHES[i % DASHES.length],
      borderWidth: 2,
      pointRadius: data.filter((point) => point.y !== null).length < 3 ? 3 : 0,
      pointHitRadius: 8,
      spanGaps: true,
    };
  }).filter((line) => line.data.some((point) => point.y !== null)); // an arm that serves nobody has no line

  const axis = ({ title, ...options }, ink, line) => ({
    type: "linear",
    ...options,
    title: { display: true, text: title, color: ink },
    grid: { color: line },
    ticks: { color: ink, maxTicksLimit: 6, maxRotation: 0, includeBounds: false, ...options.ticks },
  });

  const draw = (id, datasets, x, y, label) => {
    // A strategy has the charts that say something of it.
    if (!document.getElementById(id)) return;
    const ink = isDark() ? "#d1d5db" : "#4b5563";
    const line = isDark() ? "#374151" : "#e5e7eb";
    const scales = { x: axis(x, ink, line), y: axis(y, ink, line) };
    const legend = { position: "bottom", labels: { color: ink, usePointStyle: true, pointStyle: "line", pointStyleWidth: 28 } };
    if (charts[id]) {
      Object.assign(charts[id].options, { scales });
      charts[id].options.plugins.legend = legend;
      charts[id].data = { datasets };
      charts[id].update("none");
      return;
    }
    charts[id] = new Chart(document.getElementById(id), {
      type: "line",
      data: { datasets },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        parsing: false,
        normalized: true,
        interaction: { mode: "index", intersect: false },
        plugins: { legend, tooltip: { callbacks: label } },
        scales,
      },
    });
  };

  const drawAll = () => {
    const time = shown.over_time;
    const empty = !shown.results.decisions;
    document.getElementById("no-data").hidden = !empty;
    document.getElementById("charts").hidden = empty;
    if (empty) return;
    const at = time.at.map((iso) => Date.parse(iso));
    const span = at.length > 1 ? at[at.length - 1] - at[0] : 0;
    // A single interval gets a minute around it: an axis without a width would be drawn days wide.
    const margin = span ? 0 : 30_000;
    const x = {
      title: "time of decision, UTC",
      min: at.length ? at[0] - margin : undefined,
      max: at.length ? at[at.length - 1] + margin : undefined,
      ticks: { callback: (ms) => clock(ms, span) },
    };
    const percent = (value) => `${(value * 100).toFixed(1)} %`;
    const when = (items) => (items.length ? `from ${clock(items[0].parsed.x, span)} UTC` : "");
    draw("share", series(time.arms, at, (arm) => arm.share), x,
      { title: "share of decisions", min: 0, max: 1, ticks: { callback: (value) => `${Math.round(value * 100)} %` } },
      { title: when, label: (item) => `${item.dataset.label}: ${percent(item.parsed.y)}` });
    draw("mean", series(time.arms, at, (arm) => arm.mean), x, { title: "mean reward" },
      { title: when, label: (item) => `${item.dataset.label}: ${item.parsed.y.toFixed(4)}` });
    const grid = shown.densities.x;
    draw("density", series(shown.densities.arms, grid, (arm) => arm.density),
      { title: "mean reward", min: grid[0], max: grid[grid.length - 1] }, { title: "density", min: 0 },
      { title: (items) => (items.length ? `mean reward ${items[0].parsed.x.toFixed(4)}` : ""), label: (item) => `${item.dataset.label}: ${item.parsed.y.toPrecision(3)}` });
  };

  const write = (element, text) => {
    if (element && element.textContent !== text) element.textContent = text;
  };

  const show = (figures) => {
    shown = figures;
    for (const [name, cells] of Object.entries(figures.cells)) {
      const row = page.querySelector(`tr[data-arm="${CSS.escape(name)}"]`);
      for (const [key, value] of Object.entries(cells)) write(row && row.querySelector(`[data-cell="${key}"]`), value);
    }
    for (const [key, value] of Object.entries(figures.facts)) write(page.querySelector(`[data-fact="${key}"]`), value);
    for (const [key, on] of Object.entries(figures.alarms)) {
      const element = page.querySelector(`[data-alarm="${key}"]`);
      if (element) element.classList.toggle("nr-alarm", on);
    }
    const progress = page.querySelector("[data-progress]");
    progress.hidden = figures.progress === null;
    if (figures.progress !== null) progress.querySelector("progress").value = figures.progress;
    drawAll();
  };

  const refresh = async () => {
    let trouble = "";
    if (!document.hidden) {
      try {
        const answer = await fetch(page.dataset.figures, { headers: { Accept: "application/json" }, redirect: "manual" });
        if (answer.ok) {
          const figures = await answer.json();
          // Another status brings other buttons: those come from the server.
          if (figures.status !== page.dataset.status) {
            window.location.reload();
            return;
          }
          show(figures);
        } else if (answer.type === "opaqueredirect" || answer.status === 403) {
          trouble = "They are no longer refreshed: log in again.";
        } else {
          trouble = "The service can't compute newer ones at the moment; trying again.";
        }
      } catch (error) {
        trouble = "The service can't be reached; trying again.";
      }
      write(document.getElementById("trouble"), trouble);
    }
    window.setTimeout(refresh, REFRESH_MS);
  };

  drawAll();
  new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["class"] });
  if (page.dataset.live === "1") {
    document.getElementById("live").hidden = false;
    window.setTimeout(refresh, REFRESH_MS);
  }
})();
