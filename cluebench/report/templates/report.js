// The report of a grid: its charts, from the JSON in the page, and the trials that the reader chooses.
"use strict";
(() => {
  const tasks = JSON.parse(document.getElementById("data").textContent);
  const titles = { learning_rate: "learning rate", batch_size: "batch size", dropout: "dropout", seed: "seed" };
  const colours = ["#4477dd", "#8a5cd6", "#cf4f8f", "#e07b2e", "#c9a000", "#4d9a4d"];
  const scale = share => `hsl(${250 - 215 * share} 70% 52%)`;  // low blue, high orange
  const levels = (trials, axis) => [...new Set(trials.map(trial => trial[axis]))].sort((a, b) => a - b);
  // 3e-05, as in file names.
  const rateText = rate => rate < 1e-4 ? rate.toExponential().replace(/e-(\d)$/, "e-0$1") : `${rate}`;
  const levelText = (axis, level) => axis === "learning_rate" ? rateText(level) : `${level}`;
  const about = trial => `lr ${rateText(trial.learning_rate)}, batch ${trial.batch_size}, dropout ${trial.dropout}, ` +
    `seed ${trial.seed}: ${trial.score.map(one => one.toFixed(2)).join("/") || t(trial.state)}`;
  const done = trials => trials.filter(trial => trial.state === "done");
  // Higher is better; equal ones go to the smaller learning rate, batch and dropout.
  const bestOf = trials => trials.reduce((best, trial) => !best || trial.score[0] > best.score[0] ? trial : best, null);
  const optionOf = (chart, name) => chart.closest("details").querySelector(`[data-option=${name}]`).value;
  const AXES = { step: () => 1, epoch: trial => trial.epoch, time: trial => trial.pace && trial.pace / 60 };
  const axisTitles = { step: "optimizer step", epoch: "epoch", time: "minutes, spread evenly over the steps" };

  function lines(trials, which, digits, chart) {
    const axis = optionOf(chart, "colour"), across = optionOf(chart, "axis"), best = bestOf(done(trials)), named = new Set();
    const values = levels(trials, axis), order = [...trials].sort((a, b) => a[axis] - b[axis] || (a === best) - (b === best));
    return order.filter(trial => trial[which][0].length && AXES[across](trial)).map(trial => {
      const first = !named.has(trial[axis]), place = values.indexOf(trial[axis]), factor = AXES[across](trial);
      named.add(trial[axis]);
      const hue = colours[Math.round(place * Math.min(1, (colours.length - 1) / (values.length - 1 || 1)))];
      const [steps, y] = trial[which], x = factor === 1 ? steps : steps.map(step => step * factor);
      return { x, y, mode: x.length > 1 ? "lines" : "markers", name: levelText(axis, trial[axis]), showlegend: first, uid: uidOf(trial.id),
               legendgroup: `${trial[axis]}`, opacity: trial === best ? 1 : 0.65, marker: { color: hue }, meta: trial.id,
               line: { color: hue, width: trial === best ? 3 : 1.2, dash: trial.state === "done" ? "solid" : "dash" },
               hovertemplate: `${about(trial)}<br>${t(across)} %{x}: %{y:.${digits}f}<extra></extra>` };
    });
  }

  // From what most curves have reached after their first steps to the best: so that the last points are far enough apart.
  function upperRange(traces) {
    const values = traces.flatMap(trace => trace.y).sort((a, b) => a - b);
    const low = values[Math.floor(values.length / 4)], high = values[values.length - 1];
    const margin = Math.max((high - low) * 0.08, 0.25);
    return [low - margin, high + margin];
  }

  const text = phrase => ({ title: { text: phrase } });
  const dev = metric => t("dev {metric}", { metric: [metric, {}] });
  const draw = {
    curves({ trials, metric }, chart) {
      const traces = lines(trials, "curve", 2, chart);
      return [traces, { yaxis: { ...text(dev(metric)), range: upperRange(traces) }, xaxis: text(t(axisTitles[optionOf(chart, "axis")])) }];
    },
    losses: ({ trials }, chart) => [lines(trials, "losses", 4, chart),
      { yaxis: { ...text(t("training loss")), rangemode: "tozero" }, xaxis: text(t(axisTitles[optionOf(chart, "axis")])) }],
    effects({ effects, metric }) {
      const traces = effects.map(({ axis, levels, means, lows, highs }, place) => ({
        x: levels.map(level => levelText(axis, level)), y: means, mode: "lines+markers", xaxis: `x${place ? place + 1 : ""}`,
        line: { color: colour("accent"), width: 2 }, marker: { size: 7 }, showlegend: false,
        error_y: { symmetric: false, array: highs.map((high, one) => high - means[one]), width: 0, thickness: 1,
                   arrayminus: means.map((mean, one) => mean - lows[one]), color: colour("dim") },
        customdata: lows.map((low, one) => [low, highs[one]]),
        hovertemplate: `${t(titles[axis])} %{x}: ${t("mean")} %{y:.2f}<br>%{customdata[0]:.2f} – %{customdata[1]:.2f}<extra></extra>` }));
      const layout = { yaxis: text(dev(metric)), grid: { rows: 1, columns: effects.length,
        subplots: [effects.map((_, place) => `x${place ? place + 1 : ""}y`)] } };
      effects.forEach(({ axis, share }, place) => {
        const explained = share === null ? "" : `<br><b>${(100 * share).toFixed(0)} %</b>`;
        layout[`xaxis${place ? place + 1 : ""}`] = { type: "category", ...text(t(titles[axis]) + explained) };
      });
      return [traces, layout];
    },
    // Lines through the levels of each axis, spread by their scores; a click on a level keeps the lines through it.
    parallel({ trials, varied, metric }, chart) {
      trials = done(trials);
      const scores = trials.map(trial => trial.score[0]), kept = chart.kept ??= {};
      const low = Math.min(...scores), height = score => (score - low) / (Math.max(...scores) - low || 1);
      const axes = varied.map(axis => ({ axis, values: levels(trials, axis) }));
      const at = (values, value) => values.indexOf(value) / (values.length - 1 || 1);
      const traces = [...trials].sort((a, b) => a.score[0] - b.score[0]).map(trial => {
        const isKept = Object.entries(kept).every(([axis, level]) => trial[axis] === level), share = height(trial.score[0]);
        return { x: [...axes.keys(), axes.length], mode: "lines", showlegend: false, hovertemplate: `${about(trial)}<extra></extra>`,
                 y: [...axes.map(({ axis, values }) => at(values, trial[axis]) + (share - 0.5) * 0.07), share], meta: trial.id, uid: uidOf(trial.id),
                 hoverinfo: isKept ? "text" : "skip", opacity: isKept ? 0.9 : 0.07,
                 line: { shape: "spline", smoothing: 0.5, width: 1.6, color: scale(share) } };
      });
      const label = (x, y, text, more) => ({ x, y, text, showarrow: false, bgcolor: colour("paper"), borderpad: 1, ...more });
      const annotations = axes.flatMap(({ axis, values }, x) => values.map(value => label(x, at(values, value),
        kept[axis] === value ? `<b>${levelText(axis, value)}</b>` : levelText(axis, value),
        { captureevents: true, name: JSON.stringify([axis, value]) })));
      for (const score of [low, Math.max(...scores)]) annotations.push(label(axes.length, height(score), score.toFixed(2)));
      return [traces, { annotations, margin: { l: 24, r: 24, t: 12, b: 36 }, dragmode: false,
        yaxis: { visible: false, range: [-0.1, 1.1], fixedrange: true },
        xaxis: { tickvals: [...axes.keys(), axes.length], fixedrange: true, range: [-0.25, axes.length + 0.25], zeroline: false,
                 ticktext: [...axes.map(({ axis }) => t(titles[axis])), dev(metric)] } }];
    },
    expected: ({ expected, metric }) => [[{ x: expected.map((_, place) => place + 1), y: expected, mode: "lines+markers",
      line: { color: colour("accent"), width: 2 }, marker: { size: 5 }, showlegend: false,
      hovertemplate: `${t("best of {number}", { number: "%{x}" })}: %{y:.2f}<extra></extra>` }],
      { xaxis: text(t("trials")), yaxis: text(t("expected best dev {metric}", { metric: [metric, {}] })) }],
    rules: ({ rules }) => [[{ x: rules.map(rule => 100 * rule.cost), y: rules.map(rule => rule.lost), mode: "markers", cliponaxis: false,
      text: rules.map(rule => rule.rule), marker: { size: 9, color: colour("accent"), opacity: 0.7 }, showlegend: false,
      hovertemplate: `%{text}<br>${t("{cost} % of the cost, {points} points lost", { cost: "%{x:.0f}", points: "%{y:.2f}" })}<extra></extra>` }],
      { xaxis: { ...text(t("cost, % of the whole grid")), rangemode: "tozero" },
        yaxis: { ...text(t("points lost")), rangemode: "tozero" } }],
    confusion: ({ confusion: { labels, counts, rows } }) => [[{ type: "heatmap", x: labels, y: labels, text: counts, zmin: 0, zmax: 1,
      // Shares of a label's rows, so that the errors of rare labels are visible.
      z: counts.map((row, place) => row.map(count => count / Math.max(1, rows[place]))),
      colorscale: [[0, colour("paper")], [1, colour("accent")]], showscale: false, xgap: 1, ygap: 1, texttemplate: labels.length < 9 ? "%{text}" : "",
      hovertemplate: "%{y} → %{x}: %{text}, %{z:.1%}<extra></extra>" }],
      { xaxis: { type: "category", tickmode: "linear", tickangle: labels.length > 4 ? -60 : 0, tickfont: { size: 10 }, ...text(t("predicted")) },
        yaxis: { type: "category", autorange: "reversed", tickmode: "linear", tickfont: { size: 10 }, title: { text: t("right"), standoff: 12 } } }],
  };

  // Trials under the pointer and chosen trials, in charts, maps and tables.
  const places = new Map(), chosen = new Set(), uids = new Map();
  const uidOf = id => uids.get(id) ?? uids.set(id, `t${uids.size}x`).get(id);
  const idsOf = element => element.dataset.trials.split(" ");
  for (const element of document.querySelectorAll("[data-trials]"))
    for (const id of idsOf(element)) places.set(id, [...places.get(id) ?? [], element]);

  function light(ids) {
    document.querySelectorAll(".lit").forEach(one => one.classList.remove("lit"));
    for (const id of [...ids, ...chosen]) {
      places.get(id)?.forEach(one => one.classList.add("lit"));
      document.querySelectorAll(`.trace${uidOf(id)}`).forEach(one => one.classList.add("lit"));
    }
    document.querySelectorAll(".chart").forEach(chart => chart.classList.toggle("some", chart.querySelector(".lit") !== null));
  }

  const bar = document.getElementById("chosen"), only = document.getElementById("only-chosen"), table = document.getElementById("all");
  table.only = row => !only.checked || !chosen.size || chosen.has(row.dataset.trials);
  function showChosen() {
    bar.hidden = !chosen.size;
    document.getElementById("chosen-count").textContent = t("{number} chosen", { number: chosen.size });
    document.body.classList.toggle("only-chosen", only.checked && chosen.size > 0);
    table.refilter();
    light([]);
  }
  function choose(ids) {
    const remove = ids.every(id => chosen.has(id));
    ids.forEach(id => remove ? chosen.delete(id) : chosen.add(id));
    showChosen();
  }
  only.addEventListener("input", showChosen);
  document.getElementById("clear").addEventListener("click", () => { chosen.clear(); only.checked = false; showChosen(); });
  document.addEventListener("pointerover", event => {
    const element = event.target.closest?.("[data-trials]");
    if (element) light(idsOf(element));
    else if (!event.target.closest?.(".chart")) light([]);
  });
  document.addEventListener("click", event => {
    const element = event.target.closest?.("[data-trials]");
    if (element && !event.target.closest("a, button")) choose(idsOf(element));
  });

  const charts = [...document.querySelectorAll(".chart")];
  const show = chart => { drawChart(chart, draw[chart.dataset.chart](tasks[chart.dataset.task], chart)); light([]); };
  showCharts(charts, show, chart => {
    chart.on("plotly_clickannotation", ({ annotation: { name } }) => {
      const [axis, level] = JSON.parse(name);
      if (chart.kept[axis] === level) delete chart.kept[axis];
      else chart.kept[axis] = level;
      show(chart);
    });
    chart.on("plotly_hover", ({ points: [{ data }] }) => data.meta && light([data.meta]));
    chart.on("plotly_unhover", () => light([]));
    chart.on("plotly_click", ({ points: [{ data }] }) => data.meta && choose([data.meta]));
  });

  // An option of one task's charts changes the charts of all tasks.
  document.addEventListener("input", ({ target }) => {
    if (!target.dataset.option) return;
    document.querySelectorAll(`[data-option=${target.dataset.option}]`).forEach(one => { one.value = target.value; });
    charts.filter(chart => chart.classList.contains("js-plotly-plot") && /curves|losses/.test(chart.dataset.chart)).forEach(show);
  });
  for (const choice of document.querySelectorAll("[data-maps]"))
    choice.addEventListener("input", () => choice.closest("details").querySelectorAll("[data-seed]")
      .forEach(map => { map.hidden = map.dataset.seed !== choice.value; }));

  // A link to a task opens it.
  function open() {
    const task = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (task && task.tagName === "DETAILS") { task.open = true; task.scrollIntoView(); }
  }
  addEventListener("hashchange", open);
  document.addEventListener("click", event => event.target.closest?.("nav a, td a[href^='#']") && setTimeout(open));

  // When the page of a running grid reloads, it keeps its place, open parts, filters and chosen trials.
  const reload = document.getElementById("reload"), fields = [...document.querySelectorAll("input[id], select[id]")].filter(one => one.id !== "language");
  const details = [...document.querySelectorAll("details[id]")];
  addEventListener("pagehide", () => remembered.set("place", {
    top: scrollY, open: details.filter(one => one.open).map(one => one.id), chosen: [...chosen],
    fields: fields.map(one => [one.id, one.type === "checkbox" ? one.checked : one.value]),
    options: ["colour", "axis"].map(name => [name, document.querySelector(`[data-option=${name}]`)?.value]) }));
  document.addEventListener("language", () => {
    const place = performance.getEntriesByType("navigation")[0]?.type === "reload" ? remembered.get("place") : null;
    if (place) {
      details.forEach(one => { one.open = place.open.includes(one.id); });
      for (const [id, value] of place.fields) {
        const field = document.getElementById(id);
        if (field?.type === "checkbox") field.checked = value;
        else if (field && (field.tagName !== "SELECT" || [...field.options].some(one => one.value === value))) field.value = value;
      }
      for (const [name, value] of place.options) document.querySelectorAll(`[data-option=${name}]`).forEach(one => { one.value = value; });
      place.chosen.filter(id => places.has(id)).forEach(id => chosen.add(id));
    }
    showChosen();
    if (place) scrollTo(0, place.top);
    else open();
  }, { once: true });
  if (reload) setInterval(() => reload.checked && location.reload(), 30000);

  document.addEventListener("language", showChosen);
  document.getElementById("take").addEventListener("click", () =>
    saveFile("report.json", "application/json", document.getElementById("data").textContent));
})();
