"use strict";
// What all pages of the atlas share: data that other scripts bring, search, keys.
const atlas = {};
(() => {
  const { make } = drawing;

  // ---- pictures: a tile of a contact sheet, or what stands for a dead unit
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  atlas.open = () => {
    const numbers = new drawing.Numbers({ ...atlas.sweep, layers: [atlas.layer] });
    return Object.assign(numbers, { layer: numbers.layers[0], places: new Int16Array(bytes(atlas.layer.places)) });
  };
  atlas.thumb = (numbers, unit, k, words) => {
    const { layer, pack } = numbers, place = numbers.places[k * layer.units + unit];
    const dead = numbers.value(layer, unit, k) === null;
    const element = make("span", { className: place < 0 ? (dead ? "thumb dead" : "thumb none") : "thumb" });
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", place < 0 ? `${words}: ${dead ? "dead" : "no picture"}` : words);
    if (place < 0) element.textContent = dead ? "dead" : "no picture";
    else {
      element.style.setProperty("--x", place % layer.columns);
      element.style.setProperty("--y", Math.floor(place / layer.columns));
      element.style.setProperty("--n", layer.columns);
      element.style.backgroundImage = `url(${layer.files[k]})`;
    }
    element.style.setProperty("--tone", atlas.tone(numbers, numbers.value(layer, unit, k)));
    return element;
  };
  atlas.tone = (numbers, value) => (value === null ? "var(--dead-cell)" : `rgb(${numbers.color(value)})`);

  // ---- what is chosen is in the address: it can be kept, sent, and gone back to
  atlas.chosen = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  atlas.choose = (values) => {
    const text = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null));
    history.replaceState(null, "", `#${text}`);
  };

  // ---- search
  const input = document.getElementById("search"), trouble = document.querySelector("[data-trouble]");
  const find = (text) => {
    const { layers, classes, studies } = atlas.index, said = text.trim().toLowerCase();
    const named = (list) => list.find((entry) => entry.name.toLowerCase() === said);
    const layer = (name) => layers.find((entry) => [entry.short.toLowerCase(), entry.name.toLowerCase()].includes(name));
    if (layer(said)) return { file: layer(said).page };
    if (named(classes)) return { file: named(classes).file };
    if (named(studies)) return { file: named(studies).file };
    const [, name, number] = said.match(/^(.*?)[\s,:#/]*(?:unit\s*)?(\d+)$/) ?? [];
    const place = name ? layer(name) : name === "" && atlas.layer ? layer(atlas.layer.name.toLowerCase()) : null;
    if (place && Number(number) < place.units) return { file: `${place.file}#${Number(number)}` };
    if (place) return { trouble: `${place.short} has the units 0 to ${place.units - 1}` };
    const like = layers.length ? `, such as ${layers.at(-1).short} 17` : "";
    return { trouble: `nothing is called “${text.trim()}”: type a layer and a unit${like}, or a class` };
  };
  document.querySelector("[data-search]").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    const found = find(input.value);
    trouble.textContent = found.trouble ?? "";
    if (found.file) location.href = found.file;
  });
  input.addEventListener("focus", () => {
    const { layers, classes, studies } = atlas.index, list = document.getElementById("found");
    if (list.children.length) return;
    const names = [...layers.map((entry) => entry.short), ...classes.map((entry) => entry.name), ...studies.map((entry) => entry.name)];
    list.append(...[...new Set(names)].map((value) => make("option", { value })));
  });

  // ---- keys
  const help = document.querySelector("[data-keys]");
  document.querySelector("[data-help]").addEventListener("click", () => help.showModal());
  const follow = (selector) => document.querySelector(selector)?.click();
  const keys = { n: () => follow("[rel=next]"), p: () => follow("[rel=prev]"), u: () => follow("[data-up]"), "/": () => input.focus(), "?": () => help.showModal() };
  document.addEventListener("keydown", (event) => {
    if (event.target === input && event.key === "Escape") input.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || help.open || event.target.matches("input[type=search], input[type=number], select, textarea")) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  atlas.keys = keys;

  drawing.paintRamps();
  drawing.dark.addEventListener("change", drawing.paintRamps);
})();
