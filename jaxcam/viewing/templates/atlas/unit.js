"use strict";
// One unit: its map on each class average, its similarities, what excites it, what removing it costs.
(() => {
  const { make, fixed } = drawing;
  const section = document.querySelector("[data-unit-page]"), sort = section.querySelector("[data-sort]");
  const numbers = atlas.open(), { layer, pack } = numbers, k = pack.classes.length;
  const rows = document.querySelector("[data-classes]");
  numbers.label(section);
  const listed = (names) => (names.length > 3 ? `${names.length} of ${k} classes` : names.map((name) => `“${name}”`).join(", "));

  // Where the bar of a value begins and how long it is, in percent; zero is in the middle where there is a sign.
  const limit = Math.max(pack.scale, ...Array.from(layer.packed, (packed) => (packed === -32768 ? 0 : (Math.abs(packed) / pack.steps) * pack.limit)));
  const bar = (value) => {
    const part = Math.min(1, Math.abs(value) / limit) * (pack.signed ? 50 : 100);
    const element = make("span", {}), track = make("span", { className: pack.signed ? "track signed" : "track" }, element);
    element.style.width = `${part}%`;
    element.style.marginLeft = pack.signed ? `${value < 0 ? 50 - part : 50}%` : 0;
    element.style.background = atlas.tone(numbers, value);
    track.setAttribute("aria-hidden", true);
    return track;
  };
  const row = (unit) => (c) => {
    const value = numbers.value(layer, unit, c), name = pack.classes[c];
    const average = make("img", { src: pack.averages[c], alt: `the average image of class ${name}` });
    const words = make("span", { className: "amount", textContent: value === null ? "dead" : fixed(value, 3) });
    return make("tr", {}, make("th", { scope: "row" }, make("a", { href: pack.files[c], textContent: name })), make("td", {}, average),
      make("td", {}, atlas.thumb(numbers, unit, c, `map of unit ${unit} for ${name}`)),
      make("td", { className: "wide" }, value === null ? "" : bar(value), words),
      make("td", { textContent: layer.activation[c * layer.units + unit].toPrecision(3) }));
  };
  const said = (unit) => {
    const classes = pack.classes.map((_, c) => c), value = (c) => numbers.value(layer, unit, c);
    const dead = classes.filter((c) => value(c) === null), live = classes.filter((c) => value(c) !== null);
    if (!live.length) return `None of the ${k} class averages activates this unit: it is dead for all of them.`;
    live.sort((a, b) => pack.direction * (value(b) - value(a)));
    const order = numbers.sorted(layer, (other) => (numbers.dead(layer, other) ? null : numbers.mean(layer, other)));
    const rank = layer.units - order.indexOf(unit);
    const least = live.length > 1 ? `, least for “${pack.classes[live.at(-1)]}” (${fixed(value(live.at(-1)))})` : "";
    const silent = dead.length ? ` It is dead for ${listed(dead.map((c) => pack.classes[c]))}.` : "";
    return `Its map is most similar for “${pack.classes[live[0]]}” (${pack.words} ${fixed(value(live[0]))})${least}. On the mean over classes (${fixed(numbers.mean(layer, unit))}) it is number ${rank} of the ${layer.units} units.${silent}`;
  };
  const picture = (title, src, count, alt) => {
    const image = make("img", { src, alt, loading: "lazy" });
    image.style.setProperty("--count", count);
    return make("figure", {}, make("figcaption", { textContent: title }), image);
  };
  // Real images are tiles of one sheet.
  const real = (images) => {
    const { file, columns, tile, number } = pack.real;
    if (!images.length) return make("p", { textContent: `None of ${number} real images activates this unit.` });
    const shown = images.map((image, rank) => {
      const element = make("span", { className: "thumb" });
      element.setAttribute("role", "img");
      element.setAttribute("aria-label", `image ${image} of the data, number ${rank + 1} of those that excite the unit`);
      Object.entries({ "--x": image % columns, "--y": Math.floor(image / columns), "--n": columns, "--aspect": tile[0] / tile[1] })
        .forEach(([name, value]) => element.style.setProperty(name, value));
      element.style.backgroundImage = `url(${file})`;
      return element;
    });
    return make("figure", {}, make("figcaption", { textContent: `Of ${number} real images, those that excite it most, the strongest first` }), make("div", { className: "nine" }, ...shown));
  };
  const empty = (place) => place.parentElement.querySelector("[data-none]").content.cloneNode(true);
  const fill = (unit) => {
    const exciting = document.querySelector("[data-exciting]"), removed = document.querySelector("[data-removed]");
    const found = layer.exciting[unit], costs = layer.removed.filter((group) => group.units.includes(unit));
    exciting.className = "exciting";
    const nine = layer.real?.[unit]?.filter((image) => image >= 0);
    exciting.replaceChildren(...(found ? [picture("Found by gradient ascent", found.best, found.answers, `the picture that excites unit ${unit} most`),
      ...(found.real ? [picture("The most exciting real images", found.real, found.number, `the ${found.number} real images that excite unit ${unit} most`)] : [])] : []),
      ...(nine && !found?.real ? [real(nine)] : []), ...(found || nine ? [] : [empty(exciting)]));
    exciting.querySelectorAll("[data-number]").forEach((element) => { element.textContent = unit; });
    removed.replaceChildren(...(costs.length ? costs.map((group) => make("li", { textContent: `This unit is ${group.said}` })) : [empty(removed)]));
  };
  const current = () => Math.max(0, Math.min(layer.units - 1, parseInt(location.hash.slice(1), 10) || 0));
  const draw = () => {
    const unit = current(), order = pack.classes.map((_, c) => c);
    const key = (c) => { const value = numbers.value(layer, unit, c); return value === null ? -Infinity : pack.direction * value; };
    if (sort.value === "value") order.sort((a, b) => key(b) - key(a) || a - b);
    document.querySelectorAll("[data-name]").forEach((element) => { element.textContent = `unit ${unit}`; });
    document.title = `${layer.short}, unit ${unit} · jaxcam`;
    document.querySelector("[data-said]").textContent = said(unit);
    rows.replaceChildren(...order.map(row(unit)));
    fill(unit);
    const steps = { prev: unit - 1, next: unit + 1 };
    Object.entries(steps).forEach(([rel, to]) => {
      const link = document.querySelector(`[rel=${rel}]`);
      link.hidden = to < 0 || to >= layer.units;
      link.href = `#${Math.max(0, Math.min(layer.units - 1, to))}`;
    });
  };
  sort.addEventListener("change", draw);
  addEventListener("hashchange", draw);
  drawing.dark.addEventListener("change", draw);
  draw();
})();
