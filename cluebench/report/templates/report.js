// Draws the charts of a grid's report, each when it comes into view, from the JSON in the page.
"use strict";
(() => {
  const tasks = JSON.parse(document.getElementById("data").textContent);
  const titles = { learning_rate: "learning rate", batch_size: "batch size", dropout: "dropout", seed: "seed" };
  const rateColours = ["#4477dd", "#8a5cd6", "#cf4f8f", "#e07b2e", "#c9a000", "#4d9a4d"];
  const scale = share => `hsl(${250 - 215 * share} 70% 52%)`;  // low blue, high orange
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const levels = (trials, axis) => [...new Set(trials.map(trial => trial[axis]))].sort((a, b) => a - b);
  // 3e-05, as in file names.
  const rateText = rate => rate < 1e-4 ? rate.toExponential().replace(/e-(\d)$/, "e-0$1") : `${rate}`;
  const levelText = (axis, level) => axis === "learning_rate" ? rateText(level) : `${level}`;
  const about = trial => `lr ${rateText(trial.learning_rate)}, batch ${trial.batch_size}, dropout ${trial.dropout}, ` +
    `seed ${trial.seed}: ${trial.score.map(one => one.toFixed(2)).join("/")}`;
  // Higher is better; equal ones go to the smaller learning rate, batch and dropout.
  const bestOf = trials => trials.reduce((best, trial) => trial.score[0] > best.score[0] ? trial : best);

  function lines(trials, stopped, which, digits) {
    const rates = levels([...trials, ...stopped], "learning_rate"), best = bestOf(trials), named = new Set();
    const inOrder = [...trials, ...stopped].sort((a, b) => a.learning_rate - b.learning_rate || (a === best) - (b === best));
    return inOrder.filter(trial => trial[which][0].length).map(trial => {
      const first = !named.has(trial.learning_rate);
      named.add(trial.learning_rate);
      const [x, y] = trial[which], ended = stopped.includes(trial) ? " so far, then stopped" : "", place = rates.indexOf(trial.learning_rate);
      const hue = rateColours[Math.round(place * Math.min(1, (rateColours.length - 1) / (rates.length - 1 || 1)))];
      return { x, y, mode: x.length > 1 ? "lines" : "markers", name: rateText(trial.learning_rate), showlegend: first,
               legendgroup: `${trial.learning_rate}`, opacity: trial === best ? 1 : 0.65, marker: { color: hue },
               line: { color: hue, width: trial === best ? 3 : 1.2, dash: ended ? "dot" : "solid" },
               hovertemplate: `${about(trial)}${ended}<br>step %{x}: %{y:.${digits}f}<extra></extra>` };
    });
  }

  // From what most curves have reached after their first steps to the best: the last points can be told apart.
  function upperRange(traces) {
    const values = traces.flatMap(trace => trace.y).sort((a, b) => a - b);
    const low = values[Math.floor(values.length / 4)], high = values[values.length - 1];
    const margin = Math.max((high - low) * 0.08, 0.25);
    return [low - margin, high + margin];
  }

  const draw = {
    curves({ trials, stopped, metric }) {
      const traces = lines(trials, stopped, "curve", 2);
      return [traces, { yaxis: { title: { text: `dev ${metric}` }, range: upperRange(traces) },
                        xaxis: { title: { text: "optimizer step" } } }];
    },
    losses: ({ trials, stopped }) => [lines(trials, stopped, "losses", 4),
      { yaxis: { title: { text: "training loss" }, rangemode: "tozero" }, xaxis: { title: { text: "optimizer step" } } }],
    effects({ effects, metric }) {
      const traces = effects.flatMap(({ axis, levels, means, lows, highs, share }, place) => [{
        x: levels.map(level => levelText(axis, level)), y: means, mode: "lines+markers", xaxis: `x${place ? place + 1 : ""}`,
        line: { color: colour("accent"), width: 2 }, marker: { size: 7 }, showlegend: false,
        error_y: { symmetric: false, array: highs.map((high, one) => high - means[one]), width: 0, thickness: 1,
                   arrayminus: means.map((mean, one) => mean - lows[one]), color: colour("dim") },
        customdata: lows.map((low, one) => [low, highs[one]]),
        hovertemplate: `${titles[axis]} %{x}: mean %{y:.2f}<br>%{customdata[0]:.2f} to %{customdata[1]:.2f}<extra></extra>` }]);
      const layout = { yaxis: { title: { text: `dev ${metric}` } }, grid: { rows: 1, columns: effects.length,
        subplots: [effects.map((_, place) => `x${place ? place + 1 : ""}y`)] } };
      effects.forEach(({ axis, share }, place) => {
        const explained = share === null ? "" : `<br><b>${(100 * share).toFixed(0)} %</b>`;
        layout[`xaxis${place ? place + 1 : ""}`] = { type: "category", title: { text: titles[axis] + explained } };
      });
      return [traces, layout];
    },
    // Lines through the levels of each axis, a little apart by their scores; a click on a level keeps those through it.
    parallel({ trials, varied, metric }, chart) {
      const scores = trials.map(trial => trial.score[0]), kept = chart.kept ??= {};
      const low = Math.min(...scores), height = score => (score - low) / (Math.max(...scores) - low || 1);
      const axes = varied.map(axis => ({ axis, values: levels(trials, axis) }));
      const at = (values, value) => values.indexOf(value) / (values.length - 1 || 1);
      const traces = [...trials].sort((a, b) => a.score[0] - b.score[0]).map(trial => {
        const isKept = Object.entries(kept).every(([axis, level]) => trial[axis] === level), share = height(trial.score[0]);
        const text = `${about(trial)}<extra></extra>`;
        return { x: [...axes.keys(), axes.length], mode: "lines", showlegend: false, hovertemplate: text,
                 y: [...axes.map(({ axis, values }) => at(values, trial[axis]) + (share - 0.5) * 0.07), share],
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
                 ticktext: [...axes.map(({ axis }) => titles[axis]), `dev ${metric}`] } }];
    },
    expected: ({ expected, metric }) => [[{ x: expected.map((_, place) => place + 1), y: expected, mode: "lines+markers",
      line: { color: colour("accent"), width: 2 }, marker: { size: 5 }, showlegend: false,
      hovertemplate: "best of %{x}: %{y:.2f}<extra></extra>" }],
      { xaxis: { title: { text: "trials" } }, yaxis: { title: { text: `best dev ${metric} to expect` } } }],
    rules: ({ rules }) => [[{ x: rules.map(rule => 100 * rule.cost), y: rules.map(rule => rule.lost), mode: "markers", cliponaxis: false,
      text: rules.map(rule => rule.rule), marker: { size: 9, color: colour("accent"), opacity: 0.7 }, showlegend: false,
      hovertemplate: "%{text}<br>%{x:.0f} % of the cost, %{y:.2f} points lost<extra></extra>" }],
      { xaxis: { title: { text: "cost, % of the whole grid" }, rangemode: "tozero" },
        yaxis: { title: { text: "points lost" }, rangemode: "tozero" } }],
    confusion: ({ confusion: { labels, counts } }) => [[{ type: "heatmap", x: labels, y: labels, text: counts, zmin: 0, zmax: 1,
      // Shares of a label's rows, so that rare labels show their errors, too.
      z: counts.map(row => row.map(count => count / Math.max(1, row.reduce((a, b) => a + b)))),
      colorscale: [[0, colour("paper")], [1, colour("accent")]], showscale: false, xgap: labels.length < 40 ? 1 : 0,
      ygap: labels.length < 40 ? 1 : 0, texttemplate: labels.length < 9 ? "%{text}" : "",
      hovertemplate: "%{y} → %{x}: %{text} rows, %{z:.1%}<extra></extra>" }],
      { xaxis: { type: "category", title: { text: "predicted" } },
        yaxis: { type: "category", autorange: "reversed", title: { text: "right", standoff: 12 } } }],
  };

  const config = { displaylogo: false, responsive: true, showLink: false, plotlyServerURL: "", topojsonURL: "",
                   modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"] };
  const touch = matchMedia("(pointer: coarse)").matches;

  // The library is run once the page is on the screen, and only where there is a chart to be seen.
  function show(chart) {
    if (!window.Plotly) {
      const script = document.createElement("script");
      script.textContent = document.getElementById("library").textContent;
      document.head.append(script);
    }
    const [traces, layout] = draw[chart.dataset.chart](tasks[chart.dataset.task], chart), ink = colour("ink"), grid = colour("line");
    for (const name of Object.keys(layout).filter(name => /axis/.test(name)).concat("xaxis", "yaxis"))
      layout[name] = { gridcolor: grid, zerolinecolor: grid, automargin: true, ...layout[name],
                       title: { font: { size: 12 }, ...layout[name]?.title } };
    Plotly.react(chart, traces, {
      margin: { l: 54, r: 12, t: 12, b: 44 }, font: { family: "system-ui, sans-serif", size: 11, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      dragmode: touch ? false : "zoom", hoverlabel: { align: "left" }, ...layout,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, ...layout.legend } }, config);
  }

  const seen = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      show(target);
      target.on("plotly_clickannotation", ({ annotation: { name } }) => {
        const [axis, level] = JSON.parse(name);
        if (target.kept[axis] === level) delete target.kept[axis];
        else target.kept[axis] = level;
        show(target);
      });
    }
  }, { rootMargin: "200px" });
  const charts = document.querySelectorAll(".chart");
  charts.forEach(chart => seen.observe(chart));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    charts.forEach(chart => chart.classList.contains("js-plotly-plot") && show(chart)));

  for (const choice of document.querySelectorAll("[data-maps]"))
    choice.addEventListener("input", () => choice.closest("section").querySelectorAll("[data-seed]")
      .forEach(map => { map.hidden = map.dataset.seed !== choice.value; }));

  // A link to a task opens it.
  function open() {
    const task = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (task && task.tagName === "DETAILS") { task.open = true; task.scrollIntoView(); }
  }
  addEventListener("hashchange", open);
  document.addEventListener("click", event => event.target.closest?.("nav a, td a[href^='#']") && setTimeout(open));
  open();

  document.getElementById("take").addEventListener("click", () =>
    saveFile("report.json", "application/json", document.getElementById("data").textContent));
})();
