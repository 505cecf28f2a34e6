// Draws the chart documents of a page. Times are the viewer's, with UTC where one points; without it the tables tell the same.
"use strict";
const NoregretCharts = (() => {
  // Okabe and Ito's palette, made to be told apart by colour-blind eyes: its dark tones on white, its light ones on dark.
  // Dashes tell lines apart where colour does not.
  const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#AA4C86", "#8A6D00", "#2A8CC4", "#555555"];
  const DARK = ["#56B4E9", "#F0874A", "#2FC79B", "#E39AC4", "#F0E442", "#9AD0F5", "#BBBBBB"];
  const DASHES = [[], [8, 3], [3, 2], [9, 3, 2, 3]];
  const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
  const STEPS = [1, 2, 5, 10, 30].map((n) => n * SECOND).concat([1, 2, 5, 10, 30].map((n) => n * MINUTE),
    [1, 2, 3, 6, 12].map((n) => n * HOUR), [1, 2, 7, 14, 28, 91, 182, 364].map((n) => n * DAY));
  const SCALES = [[1e12, " tn"], [1e9, " bn"], [1e6, " M"]]; // as the page's texts have them
  const TICK_FIGURES = 12; // a tick's value is round: more would be the error of its sum
  const drawn = {};

  const isDark = () => document.documentElement.classList.contains("dark");
  const colour = (i) => (isDark() ? DARK : LIGHT)[i % LIGHT.length];
  const local = (options) => new Intl.DateTimeFormat("en-GB", options);
  const zone = () => local({ timeZoneName: "short" }).formatToParts(new Date()).find((part) => part.type === "timeZoneName").value;
  const utc = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const clock = local({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" });

  const tickText = (ms, step) => {
    if (step >= DAY) return local({ day: "numeric", month: "short" }).format(ms);
    const time = { hour: "2-digit", minute: "2-digit", ...(step < MINUTE ? { second: "2-digit" } : {}) };
    const at = new Date(ms);
    const isMidnight = at.getHours() === 0 && at.getMinutes() === 0;
    return local(isMidnight && step >= HOUR ? { day: "numeric", month: "short" } : time).format(at);
  };
  const timeTicks = (min, max) => {
    const step = STEPS.find((one) => (max - min) / one <= 6) || STEPS[STEPS.length - 1];
    const offset = new Date(min).getTimezoneOffset() * MINUTE;
    const ticks = [];
    for (let at = Math.ceil((min - offset) / step) * step + offset; at <= max; at += step) ticks.push({ value: at });
    return { step, ticks };
  };

  const number = (value, chart) => {
    if (chart.kind === "logarithmic" && value >= 1e15) return "over 1,000 tn";
    if (chart.percent) return `${Number((value * 100).toPrecision(4))}%`;
    if (chart.form) { // one unit and as many decimals for all values, as the tables have them
      const decimals = { minimumFractionDigits: chart.form.decimals, maximumFractionDigits: chart.form.decimals };
      return (value / chart.form.scale).toLocaleString("en-GB", decimals) + chart.form.unit;
    }
    const [scale, unit] = SCALES.find(([least]) => Math.abs(value) >= least) || [1, ""];
    return Number((value / scale).toPrecision(3)).toLocaleString("en-GB", { maximumSignificantDigits: 3 }) + unit;
  };
  const tick = (value, chart) => (chart.form
    ? Number((value / chart.form.scale).toPrecision(TICK_FIGURES)).toLocaleString("en-GB", { maximumSignificantDigits: TICK_FIGURES }) + chart.form.unit
    : number(value, chart));

  const points = (chart, values) => values.map((y, i) => ({ x: Date.parse(chart.at[i]), y }));

  // Of a time in which nothing was decided there are no shares, and no arm had 0 % of it.
  const isKnown = (chart) => (_, i) => chart.series.some((one) => one.values[i] !== null);
  const stretch = (chart) => (chart.seconds || 30) * SECOND;
  // A single stretch has no area: drawn as two dots, the upper one at 100%, it reads as if that arm got all.
  const asBar = (chart, data) => (data.length === 1 ? [...data, { ...data[0], x: data[0].x + stretch(chart), from: data[0].x }] : data);

  const lines = (chart) => chart.series.flatMap((series) => {
    const stacked = chart.kind === "stacked";
    const ink = colour(series.colour);
    const data = stacked
      ? asBar(chart, points(chart, series.values.map((value) => value ?? 0)).filter(isKnown(chart)))
      : points(chart, series.values);
    const known = data.filter((point) => point.y !== null).length;
    if (!known) return []; // an arm of which nothing is known has no line
    const line = {
      label: series.name,
      data,
      borderColor: ink,
      backgroundColor: stacked ? `${ink}B0` : ink,
      borderDash: stacked ? [] : DASHES[series.colour % DASHES.length],
      borderWidth: stacked ? 1 : 2,
      pointRadius: known < 3 && !stacked ? 3 : 0,
      pointHitRadius: 8,
      spanGaps: true,
      fill: stacked ? "stack" : false,
      order: 0,
    };
    const band = series.band.some((ends) => ends !== null) ? [0, 1].map((end) => ({
      label: series.name,
      isBand: true,
      data: points(chart, series.band.map((ends) => (ends === null ? null : ends[end]))),
      borderWidth: 0,
      pointRadius: 0,
      pointHitRadius: 0,
      spanGaps: true,
      backgroundColor: `${ink}26`,
      fill: end === 1 ? "-1" : false,
      order: 1,
    })) : [];
    return [line, ...band];
  });

  const threshold = (chart, x) => (chart.threshold === null ? [] : [{
    label: `needed: ${number(chart.threshold, chart)}`,
    data: [{ x: x.min, y: chart.threshold }, { x: x.max, y: chart.threshold }],
    borderColor: isDark() ? "#e5e7eb" : "#1f2937",
    borderDash: [2, 3],
    borderWidth: 1.5,
    pointRadius: 0,
    pointHitRadius: 0,
    isThreshold: true,
  }]);

  // What happened, as lines through the chart; texts where there is room for them.
  const events = {
    id: "events",
    afterDatasetsDraw: (canvas) => {
      const { ctx, chartArea: area, scales: { x } } = canvas;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = isDark() ? "#9ca3af" : "#6b7280";
      ctx.setLineDash([3, 3]);
      ctx.font = "11px sans-serif";
      let free = area.left;
      for (const event of canvas.options.happened || []) {
        const at = Date.parse(event.at);
        if (at < x.min || at > x.max) continue;
        const place = x.getPixelForValue(at);
        ctx.beginPath();
        ctx.moveTo(place, area.top);
        ctx.lineTo(place, area.bottom);
        ctx.stroke();
        const width = ctx.measureText(event.text).width;
        if (place + 3 >= free && place + 3 + width <= area.right) {
          ctx.fillText(event.text, place + 3, area.top + 10);
          free = place + 9 + width;
        }
      }
      ctx.restore();
    },
  };

  const xRange = (chart) => {
    const at = chart.at.map((iso) => Date.parse(iso));
    const last = at[at.length - 1];
    // A single stretch gets a width: an axis without one would be drawn days wide.
    const margin = at.length > 1 ? 0 : Math.max(chart.seconds, 30) * SECOND;
    const isBar = chart.kind === "stacked" && at.filter(isKnown(chart)).length === 1;
    return { min: at[0] - margin, max: last + (isBar ? Math.max(margin, stretch(chart)) : margin) };
  };

  const began = (item) => item.raw.from ?? item.parsed.x;
  const tooltip = (chart) => ({
    filter: (item) => !item.dataset.isBand && !item.dataset.isThreshold,
    callbacks: {
      title: (items) => (items.length ? [`${chart.seconds ? "from " : ""}${clock.format(began(items[0]))}`, utc(began(items[0]))] : []),
      label: (item) => {
        const series = chart.series.find((one) => one.name === item.dataset.label);
        const band = series && series.band[item.dataIndex];
        const ends = band ? ` (${number(band[0], chart)} to ${number(band[1], chart)})` : "";
        const value = chart.kind === "stacked" ? item.raw.y : item.parsed.y;
        return `${item.dataset.label}: ${number(value, chart)}${ends}`;
      },
      footer: (items) => {
        if (!items.length) return [];
        const from = began(items[0]);
        const next = chart.at.map((iso) => Date.parse(iso)).find((at) => at > from) || Infinity;
        return chart.events.filter((event) => Date.parse(event.at) >= from && Date.parse(event.at) < next).map((event) => `${event.text}, ${clock.format(Date.parse(event.at))}`);
      },
    },
  });

  // No axis of rates goes below 0% or above 100% where its lines come near.
  const rateEnds = (chart) => {
    const known = chart.series.flatMap((series) => [...series.values, ...series.band.flatMap((ends) => ends || [])]).filter((value) => value !== null);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const near = 0.3 * (high - low);
    return { ...(low >= 0 && low <= near ? { min: 0 } : {}), ...(high <= 1 && 1 - high <= near ? { max: 1 } : {}) };
  };

  const options = (chart, x) => {
    const ink = isDark() ? "#d1d5db" : "#4b5563";
    const grid = isDark() ? "#374151" : "#e5e7eb";
    const stacked = chart.kind === "stacked";
    const { step, ticks } = timeTicks(x.min, x.max);
    const y = {
      type: chart.kind === "logarithmic" ? "logarithmic" : "linear",
      stacked,
      title: { display: true, text: chart.axis, color: ink },
      grid: { color: grid },
      ticks: { color: ink, maxTicksLimit: 6, callback: (value) => tick(value, chart) },
    };
    if (stacked) Object.assign(y, { min: 0, max: 1 });
    if (chart.percent && !stacked) Object.assign(y, rateEnds(chart));
    if (chart.kind === "logarithmic") Object.assign(y, { min: 0.1, suggestedMax: (chart.threshold || 10) * 2 });
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      parsing: false,
      normalized: true,
      happened: chart.events,
      interaction: { mode: "index", intersect: false },
      plugins: {
        legend: {
          position: "bottom",
          labels: { color: ink, usePointStyle: true, pointStyle: stacked ? "rect" : "line", pointStyleWidth: 28, filter: (item, data) => !data.datasets[item.datasetIndex].isBand },
          onClick: (event, item, legend) => {
            const name = legend.chart.data.datasets[item.datasetIndex].label;
            const show = !legend.chart.isDatasetVisible(item.datasetIndex);
            legend.chart.data.datasets.forEach((one, i) => { if (one.label === name) legend.chart.setDatasetVisibility(i, show); });
            legend.chart.update("none");
          },
        },
        tooltip: tooltip(chart),
      },
      scales: {
        x: {
          type: "linear",
          ...x,
          title: { display: true, text: `${chart.seconds ? "time of decision" : "time"}, ${zone()}`, color: ink },
          grid: { color: grid },
          afterBuildTicks: (axis) => { axis.ticks = ticks; },
          ticks: { color: ink, maxRotation: 0, callback: (ms) => tickText(ms, step) },
        },
        y,
      },
    };
  };

  // Below 0.1 evidence only says that the other way round is likelier.
  const shaped = (chart) => (chart.kind !== "logarithmic" ? chart : {
    ...chart,
    series: chart.series.map((series) => ({ ...series, values: series.values.map((value) => (value === null || value === undefined ? null : Math.max(value, 0.1))) })),
  });

  const draw = (section, document_) => {
    const chart = shaped(document_);
    const missing = section.querySelector("[data-missing]");
    const holder = section.querySelector(".nr-chart");
    missing.hidden = !chart.missing;
    if (missing.textContent !== chart.missing) missing.textContent = chart.missing;
    holder.hidden = Boolean(chart.missing) || !chart.at.length;
    if (holder.hidden) return;
    const x = xRange(chart);
    const datasets = [...lines(chart), ...threshold(chart, x)];
    const held = drawn[chart.id];
    if (held) {
      held.options = options(chart, x);
      held.data = { datasets };
      held.update("none");
      return;
    }
    drawn[chart.id] = new Chart(holder.querySelector("canvas"), { type: "line", data: { datasets }, options: options(chart, x), plugins: [events] });
  };

  // Times in the page's text: the viewer's, with UTC where one points at them.
  const localTimes = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const ms = Date.parse(time.dateTime);
      if (Number.isNaN(ms)) continue;
      time.title = utc(ms);
      time.textContent = clock.format(ms);
    }
  };

  return { draw, localTimes };
})();
