"use strict";
// The pages that hold charts: each is drawn when it comes near, and a layer in it leads to its page.
(() => {
  const charts = [...document.querySelectorAll("[data-chart]")].map((element) => (element.chart = new drawing.Chart(element)));
  document.querySelectorAll("[data-curves]").forEach((section) => {
    drawing.curves(section);
    const pages = new Map(atlas.index.layers.filter((layer) => layer.page.startsWith(`${section.dataset.prefix}layer-`)).map((layer) => [layer.short, layer.page]));
    section.querySelectorAll("[data-chart]").forEach((element) => {
      element.classList.add("leads");
      // Plotly brings its own events; they are there once the chart is drawn.
      const watch = new MutationObserver(() => {
        if (!element.on) return;
        watch.disconnect();
        element.on("plotly_click", ({ points }) => { if (pages.has(points[0].x)) location.href = pages.get(points[0].x); });
      });
      watch.observe(element, { childList: true });
    });
  });
  const repaint = () => charts.forEach((chart) => chart.update({}));
  drawing.dark.addEventListener("change", repaint);
  drawing.phone.addEventListener("change", repaint);
  addEventListener("beforeprint", () => charts.forEach((chart) => chart.draw()));
})();
