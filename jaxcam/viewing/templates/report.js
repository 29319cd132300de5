"use strict";
// Draws the report: unpacks the units' pictures when they come near.
(() => {
  const { css, data, make, fixed, short, near, paintRamps, dark, phone, Chart, Numbers, curves } = drawing;

  // ---- the units of one sweep
  class Sweep extends Numbers {
    constructor(element) {
      super(data(element.querySelector("[data-pack]")));
      this.element = element;
      this.atlas = [...element.querySelectorAll(".layer")].map((row, index) => this.row(row, index));
      this.matrix = new Matrix(this, element.querySelector("[data-all-units]"));
      element.querySelector("[data-pick]").addEventListener("change", (event) => this.pick(Number(event.target.value)));
      this.label(element);
      curves(element);
    }
    pick(index) {
      this.class = index;
      this.atlas.forEach((row) => row.refresh());
      this.matrix.refresh();
    }
    row(element, index) {
      const layer = this.layers[index];
      const script = element.querySelector("script");
      let content = null, shown = null, inSight = false;
      const draw = () => {
        if (shown === `${this.class} ${dark.matches}`) return;
        shown = `${this.class} ${dark.matches}`;
        content ??= data(script);
        this.tiles(element, layer, content);
        this.band(element.querySelector(".band"), layer);
        let dead = 0;
        for (let unit = 0; unit < layer.units; unit++) dead += this.value(layer, unit) === null;
        element.querySelector("[data-dead]").textContent = `${dead} dead for ${this.pack.classes[this.class]}`;
      };
      new IntersectionObserver((seen) => { inSight = seen.at(-1).isIntersecting; if (inSight) draw(); }, { rootMargin: "600px" }).observe(element);
      return { refresh: () => inSight && draw(), redraw: () => { shown = null; if (inSight) draw(); } };
    }
    tiles(element, layer, content) {
      const units = content.units[this.class], half = units.length / 2, [height, width] = content.tile;
      element.style.setProperty("--aspect", width / height);
      const name = this.pack.classes[this.class];
      const canvases = [];
      const tile = (rank) => {
        const unit = units[rank];
        if (unit < 0) return make("figure", { className: "tile" }, make("span", { className: "none", textContent: "none" }));
        const value = fixed(this.value(layer, unit), 3);
        const canvas = make("canvas", { width, height });
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `map of unit ${unit} of ${layer.name} for ${name}, similarity ${value}`);
        canvases.push([canvas, rank]);
        return make("figure", { className: "tile", title: `unit ${unit}: ${value}` }, canvas, make("figcaption", {}, make("b", { textContent: short(this.value(layer, unit)) }), make("i", { textContent: `#${unit}` })));
      };
      const ranks = Array.from({ length: half }, (_, i) => i);
      element.querySelector('[data-side="low"]').replaceChildren(...ranks.map(tile));
      // Highest last: similarity rises from the left edge of the page to the right.
      element.querySelector('[data-side="high"]').replaceChildren(...ranks.map((i) => tile(units.length - 1 - i)));
      const picture = new Image();
      picture.onload = () => canvases.forEach(([canvas, rank]) => canvas.getContext("2d").drawImage(picture, rank * width, 0, width, height, 0, 0, width, height));
      picture.src = content.strips[this.class];
    }
    band(canvas, layer) {
      const order = this.sorted(layer, (unit) => this.value(layer, unit));
      pixels(canvas, order.length, 1, (x) => this.color(this.value(layer, order[x])));
      hover(canvas, (x) => {
        const unit = order[Math.floor(x * order.length)];
        const value = this.value(layer, unit);
        return `unit ${unit}: ${value === null ? "dead" : fixed(value, 3)}`;
      });
    }
    repaint() {
      this.atlas.forEach((row) => row.redraw());
      this.matrix.refresh();
    }
  }

  // ---- all units of one layer: classes by units, and a table
  class Matrix {
    constructor(sweep, element) {
      Object.assign(this, { sweep, element, layer: sweep.layers[0], order: [], x: 0, y: 0, sort: "mean", descending: true });
      this.canvas = element.querySelector("[data-matrix]");
      this.canvas.style.height = `${22 * sweep.pack.classes.length}px`;
      this.select = element.querySelector("[data-order]");
      element.querySelector("[data-layer-select]").addEventListener("change", (event) => { this.layer = sweep.layers[event.target.value]; this.x = 0; this.refresh(); });
      this.select.addEventListener("change", () => this.refresh());
      const k = sweep.pack.classes.length;
      this.canvas.addEventListener("pointermove", (event) => {
        const box = this.canvas.getBoundingClientRect();
        this.move(Math.floor(((event.clientX - box.left) / box.width) * this.layer.units), Math.floor(((event.clientY - box.top) / box.height) * k));
      });
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], PageUp: [-16, 0], PageDown: [16, 0], Home: [-1e9, 0], End: [1e9, 0] };
      this.canvas.addEventListener("keydown", (event) => {
        if (!steps[event.key]) return;
        event.preventDefault();
        this.move(this.x + steps[event.key][0], this.y + steps[event.key][1]);
      });
      this.table = element.querySelector("[data-table]");
      this.table.addEventListener("toggle", () => this.rows());
      this.table.querySelectorAll("[data-sort]").forEach((button) => button.addEventListener("click", () => {
        this.descending = this.sort === button.dataset.sort ? !this.descending : button.dataset.sort !== "unit";
        this.sort = button.dataset.sort;
        this.rows();
      }));
      near(element, () => this.ready || this.refresh(true));
    }
    refresh(first = false) {
      if (!this.ready && !first) return;
      this.ready = true;
      const { sweep, layer } = this;
      const by = { mean: (unit) => (sweep.dead(layer, unit) ? null : sweep.mean(layer, unit)), class: (unit) => sweep.value(layer, unit), unit: (unit) => unit * sweep.pack.direction }[this.select.value];
      this.order = sweep.sorted(layer, by);
      this.paint();
      this.rows();
    }
    paint() {
      const k = this.sweep.pack.classes.length, n = this.layer.units;
      pixels(this.canvas, n, k, (x, y) => this.sweep.color(this.sweep.value(this.layer, this.order[x], y)), 1);
    }
    move(x, y) {
      const { sweep, layer } = this;
      this.x = Math.max(0, Math.min(layer.units - 1, x));
      this.y = Math.max(0, Math.min(sweep.pack.classes.length - 1, y));
      const unit = this.order[this.x], value = sweep.value(layer, unit, this.y), name = sweep.pack.classes[this.y];
      this.paint();
      const box = this.canvas, pen = box.getContext("2d"), w = box.width / layer.units, h = box.height / sweep.pack.classes.length;
      // A dark line within a light one: seen on every color.
      for (const [color, width] of [["paper", 5], ["ink", 2]]) {
        pen.strokeStyle = css(color);
        pen.lineWidth = width * devicePixelRatio;
        pen.strokeRect(this.x * w - 2, this.y * h, Math.max(w, 3) + 4, h);
      }
      const about = value === null ? `dead for ${name}` : `${fixed(value, 3)} for ${name}`;
      this.element.querySelector("[data-readout]").textContent = `${layer.short}, unit ${unit}: ${about}; mean over classes ${fixed(sweep.mean(layer, unit), 3)}`;
    }
    rows() {
      this.element.querySelector("[data-class-name]").textContent = `for ${this.sweep.pack.classes[this.sweep.class]}`;
      if (!this.table.open) return;
      const { sweep, layer } = this, k = sweep.pack.classes.length;
      const rows = Array.from({ length: layer.units }, (_, unit) => {
        const values = Array.from({ length: k }, (_, c) => sweep.value(layer, unit, c));
        const alive = values.filter((v) => v !== null);
        const top = alive.length ? alive.reduce((a, b) => (sweep.pack.direction * (b - a) > 0 ? b : a)) : null;
        return { unit, value: values[sweep.class], mean: sweep.mean(layer, unit), best: top, of: top === null ? "–" : sweep.pack.classes[values.indexOf(top)], activation: layer.activation[sweep.class * layer.units + unit], dead: k - alive.length };
      });
      const sign = this.descending ? -1 : 1;
      rows.sort((a, b) => sign * ((a[this.sort] ?? -Infinity) - (b[this.sort] ?? -Infinity)) || a.unit - b.unit);
      const text = (value) => (value === null ? "dead" : fixed(value, 3));
      this.table.querySelector("tbody").replaceChildren(...rows.map((row) => make("tr", {},
        ...[row.unit, text(row.value), fixed(row.mean, 3), row.best === null ? "–" : `${row.of} (${text(row.best)})`, row.activation.toPrecision(3), `${row.dead} of ${k}`].map((cell, i) => make(i ? "td" : "th", { textContent: cell })))));
      this.table.querySelectorAll("[data-sort]").forEach((button) => {
        const head = button.closest("th");
        if (button.dataset.sort === this.sort) head.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
    }
  }

  // ---- small things
  function pixels(canvas, columns, rows, color, gap = 0) {
    const dead = css("dead-cell").match(/[0-9a-f]{2}/gi).map((c) => parseInt(c, 16));
    const small = make("canvas", { width: columns, height: rows }), pen = small.getContext("2d"), image = pen.createImageData(columns, rows);
    for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) image.data.set([...(color(x, y) ?? dead), 255], 4 * (y * columns + x));
    pen.putImageData(image, 0, 0);
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    const big = canvas.getContext("2d"), line = canvas.height / rows;
    for (let y = 0; y < rows; y++) {
      big.imageSmoothingEnabled = columns > canvas.width;
      big.drawImage(small, 0, y, columns, 1, 0, Math.round(y * line), canvas.width, Math.round((y + 1) * line) - Math.round(y * line) - gap * ratio);
    }
  }
  const tip = document.getElementById("tip");
  function hover(element, words) {
    element.onpointermove = (event) => {
      const box = element.getBoundingClientRect();
      tip.textContent = words(Math.max(0, Math.min(0.999999, (event.clientX - box.left) / box.width)));
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${event.clientY + 14}px`;
    };
    element.onpointerleave = () => { tip.hidden = true; };
  }
  function current() {
    const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
    const observer = new IntersectionObserver((seen) => seen.forEach((entry) => {
      if (!entry.isIntersecting) return;
      links.forEach((link, id) => (id === entry.target.id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
    }), { rootMargin: "-20% 0px -70% 0px" });
    links.forEach((_, id) => document.getElementById(id) && observer.observe(document.getElementById(id)));
  }

  const charts = [...document.querySelectorAll("[data-chart]")].map((element) => (element.chart = new Chart(element)));
  const sweeps = [...document.querySelectorAll(".sweep")].map((element) => new Sweep(element));
  paintRamps();
  current();
  const repaint = () => { paintRamps(); charts.forEach((chart) => chart.update({})); sweeps.forEach((sweep) => sweep.repaint()); };
  dark.addEventListener("change", repaint);
  phone.addEventListener("change", repaint);
  let waiting = 0, width = innerWidth;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    if (innerWidth !== width) waiting = setTimeout(() => { width = innerWidth; sweeps.forEach((sweep) => sweep.repaint()); }, 150);
  });
  addEventListener("beforeprint", () => charts.forEach((chart) => chart.draw()));
})();
