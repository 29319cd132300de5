"use strict";
// A layer: all its units as pictures, for one class, in an order, filtered.
(() => {
  const { make, fixed, short } = drawing;
  const section = document.querySelector("[data-layer-page]");
  const numbers = atlas.open(), { layer, pack } = numbers, k = pack.classes.length;
  const grid = section.querySelector("[data-units]"), readout = section.querySelector("[data-readout]");
  const radios = [...section.querySelectorAll("[data-pick] input")];
  const sort = section.querySelector("[data-sort]"), show = section.querySelector("[data-show]"), unitBox = section.querySelector("[data-unit]");
  numbers.label(section);
  section.querySelectorAll("[data-average]").forEach((image) => { image.src = pack.averages[image.dataset.average]; });

  // ---- of each unit, over classes
  const units = Array.from({ length: layer.units }, (_, unit) => {
    const values = Array.from({ length: k }, (_, c) => numbers.value(layer, unit, c));
    const counted = values.map((value) => value ?? pack.nothing), mean = numbers.mean(layer, unit);
    const live = values.map((value, c) => [value, c]).filter(([value]) => value !== null);
    const best = live.length ? live.reduce((a, b) => (pack.direction * (b[0] - a[0]) > 0 ? b : a))[1] : null;
    return { unit, values, mean, best, always: !live.length, spread: Math.sqrt(counted.reduce((sum, value) => sum + (value - mean) ** 2, 0) / k) };
  });
  const orders = {
    high: (c) => (u) => (u.values[c] === null ? -Infinity : pack.direction * u.values[c]),
    low: (c) => (u) => (u.values[c] === null ? -Infinity : -pack.direction * u.values[c]),
    mean: () => (u) => (u.always ? -Infinity : pack.direction * u.mean),
    spread: () => (u) => u.spread,
    activation: (c) => (u) => layer.activation[c * layer.units + u.unit],
    unit: () => (u) => -u.unit,
  };
  const filters = {
    all: () => () => true,
    live: (c) => (u) => u.values[c] !== null,
    own: (c) => (u) => u.best === c,
    dead: (c) => (u) => u.values[c] === null,
    always: () => (u) => u.always,
  };
  const words = { all: "", live: "live for", own: "most similar for", dead: "dead for", always: "dead for every class" };

  // ---- drawing
  const tile = (c) => ({ unit, values }) => {
    const value = values[c], said = value === null ? "dead" : fixed(value, 3);
    const link = make("a", { className: "unit", href: `${layer.unitPage}#${unit}`, title: `unit ${unit}: ${said}`, tabIndex: -1 },
      atlas.thumb(numbers, unit, c, `map of unit ${unit} of ${layer.short} for ${pack.classes[c]}`),
      make("b", { textContent: value === null ? "–" : short(value) }), make("i", { textContent: `#${unit}` }));
    link.dataset.unit = unit;
    return link;
  };
  const draw = () => {
    const c = numbers.class, key = orders[sort.value](c);
    const found = units.filter(filters[show.value](c)).sort((a, b) => key(b) - key(a) || a.unit - b.unit);
    grid.replaceChildren(...found.map(tile(c)));
    if (grid.firstChild) grid.firstChild.tabIndex = 0;
    const which = show.value === "all" || show.value === "always" ? words[show.value] : `${words[show.value]} “${pack.classes[c]}”`;
    readout.textContent = `${found.length} of ${layer.units} units${which ? ` (${which})` : ""}; class “${pack.classes[c]}”, ${sort.selectedOptions[0].textContent}.`;
  };
  const say = () => atlas.choose({ class: numbers.class || "", sort: sort.value === "high" ? "" : sort.value, show: show.value === "all" ? "" : show.value });
  const pick = (c) => { numbers.class = c; radios[c].checked = true; say(); draw(); mark(); };
  // ---- one unit, by its number
  const mark = () => {
    grid.querySelector(".sought")?.classList.remove("sought");
    if (unitBox.value === "") return;
    const link = grid.querySelector(`[data-unit="${Number(unitBox.value)}"]`);
    const about = Number(unitBox.value) < layer.units ? `unit ${unitBox.value} is not among those shown` : `there are the units 0 to ${layer.units - 1}`;
    if (!link) { readout.textContent = `${about}.`; return; }
    link.classList.add("sought");
    link.scrollIntoView({ block: "center" });
  };
  radios.forEach((radio, c) => radio.addEventListener("change", () => pick(c)));
  [sort, show].forEach((control) => control.addEventListener("change", () => { say(); draw(); mark(); }));
  unitBox.addEventListener("input", () => { draw(); mark(); });
  unitBox.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && grid.querySelector(".sought")) location.href = grid.querySelector(".sought").href;
  });

  // ---- keys: among the units, and from class to class
  const step = (by) => pick((numbers.class + by + k) % k);
  Object.assign(atlas.keys, { c: () => step(1), C: () => step(-1) });
  grid.addEventListener("keydown", (event) => {
    const links = [...grid.children], at = links.indexOf(document.activeElement);
    const columns = links.findIndex((link) => link.offsetTop > links[0].offsetTop);
    const row = columns < 0 ? links.length : columns;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + row, ArrowUp: at - row, Home: 0, End: links.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = links[Math.max(0, Math.min(links.length - 1, to))];
    links[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  const restore = () => {
    const chosen = atlas.chosen(), c = Number(chosen.class ?? 0);
    numbers.class = c >= 0 && c < k ? c : 0;
    radios[numbers.class].checked = true;
    sort.value = chosen.sort in orders ? chosen.sort : "high";
    show.value = chosen.show in filters ? chosen.show : "all";
    draw();
  };
  addEventListener("hashchange", restore);
  drawing.dark.addEventListener("change", draw);
  restore();
})();
