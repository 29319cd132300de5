"""How large is the atlas of VGG11 on images of 32×32, and how fast do its pages open?

    python -m benchmarks.atlas OUT [--classes 10]

All 2,752 units on 10 random averages, with random weights, which leave fewer units dead than training does; OUT gets
the sweep and the atlas. A page is open when its tiles are decoded and the browser has drawn a frame with them. Needs
playwright and a Chromium. The figures are in docs/performance.md.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from playwright.sync_api import Browser, sync_playwright

import jaxcam as jc
from benchmarks.measuring import machine
from jaxcam.program.costs import edges
from jaxcam.viewing import Probe, atlas

PAGES = {
    "overview": "index.html",
    "a layer of 512 units": "layer-7.html",
    "a unit": "units-7.html#17",
    "a class": "class-3.html",
    "all on one page": "summary.html",
}
DRAWN = """async () => {
  const style = [...document.querySelectorAll('.thumb')].map(e => getComputedStyle(e).backgroundImage);
  const files = new Set(style.filter(s => s.startsWith('url')).map(s => s.slice(5, -2)));
  const decoded = file => Object.assign(new Image(), { src: file }).decode();
  await Promise.all([...files].map(decoded));
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now();
}"""


def main() -> None:
    """Builds the atlas and opens its pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    print(machine())
    model = jc.models.load("vgg11", classes=asked.classes, image_size=32)
    average = np.random.default_rng(0).random((asked.classes, 32, 32, 3), dtype=np.float32)
    asked.out.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    names = [f"class {k}" for k in range(asked.classes)]
    jc.neurons.sweep(model, average, asked.out / "sweep.zarr", classes=names, progress=False)
    print(f"the sweep took {time.perf_counter() - begun:.1f} s")
    manifest = {"command": "neurons", "model": {"name": "vgg11"}, "data": {"name": "noise"}, "results": {}}
    (asked.out / "manifest.json").write_text(json.dumps(manifest))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)

    def maps(layer: str, units: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return np.asarray(jc.neurons.maps(model, average[classes], layer, units))

    probe = Probe(maps, jc.layers(model, images), edges(model, images))
    shutil.rmtree(asked.out / "report", ignore_errors=True)
    for what in ("building", "building again, maps kept"):
        begun = time.perf_counter()
        page = atlas(asked.out, probe=lambda run: probe)
        print(f"{what}: {time.perf_counter() - begun:.1f} s")
    files = [path for path in page.parent.rglob("*") if path.is_file()]
    sizes = {path: path.stat().st_size for path in files}
    of_maps = sum(size for path, size in sizes.items() if "maps" in path.parts)
    print(f"{len(files)} files, {sum(sizes.values()) / 1e6:.1f} MB, {of_maps / 1e6:.1f} MB of it maps")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for title, name in PAGES.items():
            times = [opened(browser, f"{page.parent.resolve().as_uri()}/{name}") for _ in range(asked.repeats)]
            print(f"{title}: {statistics.median(times):.2f} s ({', '.join(f'{seconds:.2f}' for seconds in times)})")
        browser.close()


def opened(browser: Browser, url: str) -> float:
    """Seconds from the navigation until everything in the page is drawn, in a fresh profile."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url)
    seconds = float(page.evaluate(DRAWN)) / 1000
    context.close()
    return seconds


if __name__ == "__main__":
    main()
