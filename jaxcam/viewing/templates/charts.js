"use strict";
// What the pages share: small tools, color ramps, and plotly's charts in the page's colors.
const drawing = (() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const phone = matchMedia("(max-width: 34rem)");
  const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const data = (element) => JSON.parse(element.textContent);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const fixed = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
  const short = (value) => fixed(value).replace(/^(−?)0/, "$1");
  const near = (element, act) => {
    const observer = new IntersectionObserver((seen) => seen.some((e) => e.isIntersecting) && act(), { rootMargin: "600px" });
    observer.observe(element);
    return observer;
  };

  // ---- color ramps: blue, light, red by day; at night the middle is dark, as the page is
  const ramps = data(document.getElementById("ramps"));
  const night = { diverging: [[124, 188, 255], [52, 110, 176], [29, 32, 38], [186, 74, 62], [255, 148, 128]] };
  const stops = (name) => (dark.matches && night[name]) || ramps[name];
  const shade = (name, t) => {
    const list = stops(name);
    const place = Math.max(0, Math.min(1, t)) * (list.length - 1);
    const low = Math.min(Math.floor(place), list.length - 2);
    return list[low].map((c, i) => Math.round(c + (list[low + 1][i] - c) * (place - low)));
  };
  const paintRamps = () => document.querySelectorAll("[data-ramp]").forEach((bar) => {
    const list = "fixed" in bar.dataset ? ramps[bar.dataset.ramp] : stops(bar.dataset.ramp);
    bar.style.background = `linear-gradient(to right, ${list.map((c) => `rgb(${c})`)})`;
  });

  // ---- charts
  // Inside the page, or a file beside it that is loaded when the first chart comes near.
  let loading = null;
  const plotly = () => (loading ??= new Promise((resolve) => {
    document.head.append(make("script", { src: document.body.dataset.plotly, onload: resolve }));
  }));
  class Chart {
    constructor(element) {
      this.element = element;
      this.variants = data(element.querySelector("script"));
      this.variant = Object.keys(this.variants)[0];
      this.chosen = new Set();
      near(element, () => this.drawn || this.draw());
    }
    draw() {
      this.drawn = true;
      if (window.Plotly) this.paint();
      else plotly().then(() => this.paint());
    }
    paint() {
      const { data: traces, layout } = this.variants[this.variant];
      const ink = css("ink"), grid = css("grid"), muted = css("muted");
      const axis = (own) => ({ ...own, gridcolor: grid, zerolinecolor: muted, linecolor: muted, tickfont: { color: ink }, title: { ...own?.title, font: { color: muted, size: 12 } } });
      const painted = traces.map((trace) => {
        const color = css(trace.meta.color);
        const dimmed = this.chosen.size && "class" in trace.meta && !this.chosen.has(trace.meta.class);
        return { ...trace, opacity: dimmed ? 0.1 : 1, hoverinfo: dimmed ? "skip" : undefined, hovertemplate: dimmed ? undefined : trace.hovertemplate,
          line: { ...trace.line, color }, marker: { ...trace.marker, color, line: { ...trace.marker?.line, color: muted } }, error_y: trace.error_y && { ...trace.error_y, color } };
      });
      const narrow = phone.matches;
      const sheet = { ...layout, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        margin: { ...layout.margin, ...(narrow ? { l: 44, r: 4 } : {}) },
        font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5, color: ink },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: ink },
        hoverlabel: { bgcolor: css("raised"), bordercolor: css("line"), font: { family: getComputedStyle(document.body).fontFamily, color: ink }, align: "left" },
        dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis) };
      const settings = { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
      Plotly.react(this.element, painted, sheet, settings);
    }
    update(change) {
      Object.assign(this, change);
      if (this.drawn) this.draw();
    }
  }
  // ---- the numbers of all units of some layers
  class Numbers {
    constructor(pack) {
      this.pack = pack;
      this.class = 0;
      this.layers = pack.layers.map((layer) => ({ ...layer, ...this.unpack(layer) }));
      this.ramp = pack.signed ? "diverging" : "sequential";
    }
    unpack(layer) {
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
      return { packed: new Int16Array(bytes(layer.similarity)), activation: new Float32Array(bytes(layer.activation)) };
    }
    // null is a dead unit.
    value(layer, unit, k = this.class) {
      const packed = layer.packed[k * layer.units + unit];
      return packed === -32768 ? null : (packed / this.pack.steps) * this.pack.limit;
    }
    mean(layer, unit) {
      let sum = 0;
      for (let k = 0; k < this.pack.classes.length; k++) sum += this.value(layer, unit, k) ?? this.pack.nothing;
      return sum / this.pack.classes.length;
    }
    dead(layer, unit) {
      return this.pack.classes.every((_, k) => this.value(layer, unit, k) === null);
    }
    color(value) {
      return value === null ? null : shade(this.ramp, this.pack.signed ? value / this.pack.scale / 2 + 0.5 : value / this.pack.scale);
    }
    // Dead units first, then from least to most similar.
    sorted(layer, of) {
      const keys = Array.from({ length: layer.units }, (_, unit) => of(unit));
      const rank = (key) => (key === null ? -Infinity : this.pack.direction * key);
      return keys.map((_, unit) => unit).sort((a, b) => (rank(keys[a]) === rank(keys[b]) ? a - b : rank(keys[a]) - rank(keys[b])));
    }
    // Where the colors of a legend end.
    label(element) {
      element.querySelectorAll("[data-limits]").forEach((label) => {
        label.textContent = label.dataset.limits === "high" ? `≥ ${fixed(this.pack.scale)}` : this.pack.signed ? `≤ ${fixed(-this.pack.scale)}` : "0";
      });
    }
  }

  // The switch between all and live units, and the chips that choose classes.
  function curves(section) {
    const charts = [...section.querySelectorAll(".curves")].map((element) => element.chart);
    const chips = [...section.querySelectorAll("[data-class]")], all = section.querySelector("[data-all]");
    const chosen = new Set();
    const apply = () => {
      chips.forEach((chip) => chip.setAttribute("aria-pressed", chosen.has(Number(chip.dataset.class))));
      all.setAttribute("aria-pressed", !chosen.size);
      charts.forEach((chart) => chart.update({ chosen }));
    };
    chips.forEach((chip) => chip.addEventListener("click", () => {
      const index = Number(chip.dataset.class);
      if (!chosen.delete(index)) chosen.add(index);
      apply();
    }));
    all.addEventListener("click", () => { chosen.clear(); apply(); });
    section.querySelector("[data-switch]").addEventListener("change", (event) => {
      charts.forEach((chart) => chart.update({ variant: event.target.value }));
      section.querySelectorAll("[data-variant]").forEach((text) => { text.hidden = text.dataset.variant !== event.target.value; });
    });
  }

  return { css, data, make, fixed, short, near, shade, paintRamps, dark, phone, Chart, Numbers, curves };
})();
