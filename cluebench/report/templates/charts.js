// Charts by plotly.js. Each is drawn when it comes into view, and again when the language or the colours change.
"use strict";
(() => {
  const colour = window.colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  // No button sends a chart to plotly's servers: a page never asks any host for anything.
  const config = { displaylogo: false, responsive: true, showLink: false, showSendToCloud: false, plotlyServerURL: "", topojsonURL: "",
                   modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"] };
  const touch = matchMedia("(pointer: coarse)").matches;

  // The library runs when the page is on the screen and a chart comes into view.
  window.drawChart = (chart, [traces, layout]) => {
    if (!window.Plotly) {
      const script = document.createElement("script");
      script.textContent = document.getElementById("library").textContent;
      document.head.append(script);
    }
    const ink = colour("ink"), grid = colour("line");
    for (const name of Object.keys(layout).filter(name => /axis/.test(name)).concat("xaxis", "yaxis"))
      layout[name] = { gridcolor: grid, zerolinecolor: grid, automargin: true, ...layout[name],
                       title: { font: { size: 12 }, ...layout[name]?.title } };
    Plotly.react(chart, traces, {
      margin: { l: 54, r: 12, t: 12, b: 44 }, font: { family: "system-ui, sans-serif", size: 11, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      dragmode: touch ? false : "zoom", hoverlabel: { align: "left" }, ...layout,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, ...layout.legend } }, config);
    // The keyboard passes a chart in one step: the page can do what the chart's buttons do.
    chart.querySelectorAll("[tabindex], a, button").forEach(one => { one.tabIndex = -1; });
  };

  // charts: elements; draw(chart) draws one; begin(chart) is called after its first drawing.
  window.showCharts = (charts, draw, begin = () => 0) => {
    const seen = new IntersectionObserver(entries => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        seen.unobserve(target);
        draw(target);
        begin(target);
      }
    }, { rootMargin: "200px" });
    const again = () => charts.forEach(chart => chart.classList.contains("js-plotly-plot") && draw(chart));
    document.addEventListener("language", again);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    // After the whole page, with the library, has been read and its language is set.
    addEventListener("DOMContentLoaded", () => charts.forEach(chart => seen.observe(chart)));
  };
})();
