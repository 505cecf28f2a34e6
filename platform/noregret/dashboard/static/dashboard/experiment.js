// The page of an experiment: draws its charts, and keeps its figures fresh. Without it the page still shows the table.
"use strict";
(() => {
  const page = document.getElementById("experiment");
  const first = JSON.parse(document.getElementById("figures").textContent);
  const REFRESH_MS = 3000;
  // Okabe and Ito's palette, made to be told apart by colour-blind eyes; dashes tell apart what comes after it.
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888"];
  const dark = document.documentElement.classList.contains("dark");
  const ink = dark ? "#d1d5db" : "#4b5563";
  const line = dark ? "#374151" : "#e5e7eb";
  const charts = {};

  const clock = (iso, seconds) => {
    const at = new Date(iso);
    const day = at.toISOString().slice(5, 10);
    const time = at.toISOString().slice(11, seconds < 60 ? 19 : 16);
    return seconds >= 3600 ? `${day} ${time}` : time;
  };

  const series = (arms, values) => arms.map((arm, i) => ({
    label: arm.name,
    data: values(arm),
    borderColor: COLOURS[i % COLOURS.length],
    backgroundColor: COLOURS[i % COLOURS.length],
    borderDash: i < COLOURS.length ? [] : [6, 3],
    borderWidth: 2,
    pointRadius: 0,
    spanGaps: true,
    tension: 0,
  }));

  const draw = (id, labels, datasets, x, y, percent) => {
    if (charts[id]) {
      charts[id].data = { labels, datasets };
      charts[id].update("none");
      return;
    }
    const tick = (value) => (percent ? `${Math.round(value * 100)} %` : value);
    charts[id] = new Chart(document.getElementById(id), {
      type: "line",
      data: { labels, datasets },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        plugins: { legend: { position: "bottom", labels: { color: ink, boxWidth: 14, boxHeight: 2 } } },
        scales: {
          x: { title: { display: true, text: x, color: ink }, ticks: { color: ink, maxTicksLimit: 6, maxRotation: 0 }, grid: { color: line } },
          y: { title: { display: true, text: y, color: ink }, min: 0, max: percent ? 1 : undefined, ticks: { color: ink, maxTicksLimit: 6, callback: tick }, grid: { color: line } },
        },
      },
    });
  };

  const show = (figures) => {
    const time = figures.over_time;
    const labels = time.at.map((iso) => clock(iso, time.seconds));
    document.getElementById("no-data").hidden = figures.results.decisions > 0;
    draw("share", labels, series(time.arms, (arm) => arm.share), "time of decision (UTC)", "share of decisions", true);
    draw("mean", labels, series(time.arms, (arm) => arm.mean), "time of decision (UTC)", "mean reward", false);
    const x = figures.densities.x.map((value) => value.toPrecision(3));
    draw("density", x, series(figures.densities.arms, (arm) => arm.density), "mean reward", "density", false);
    for (const [name, cells] of Object.entries(figures.cells)) {
      const row = page.querySelector(`tr[data-arm="${CSS.escape(name)}"]`);
      for (const [key, value] of Object.entries(cells)) {
        const cell = row && row.querySelector(`[data-cell="${key}"]`);
        if (cell) cell.textContent = value;
      }
    }
    for (const [key, value] of Object.entries(figures.facts)) {
      const fact = page.querySelector(`[data-fact="${key}"]`);
      if (fact) fact.textContent = value;
    }
  };

  const refresh = async () => {
    try {
      const answer = await fetch(page.dataset.figures, { headers: { Accept: "application/json" } });
      if (answer.ok) {
        const figures = await answer.json();
        // Another status brings other buttons: those come from the server.
        if (figures.status !== page.dataset.status) {
          window.location.reload();
          return;
        }
        show(figures);
      }
    } catch (error) {
      // The service may be restarting: the next round tries again.
    }
    window.setTimeout(refresh, REFRESH_MS);
  };

  show(first);
  if (page.dataset.live === "1") window.setTimeout(refresh, REFRESH_MS);
})();
