"""Is the map better than chance? Deletion and insertion of some methods and of random maps, on photographs.

SqueezeNet 1.1 and the sample photographs of the data folder (`JAXCAM_TEST_DATA`, or shared/data beside the repository).
Squares of 16×16 pixels are exchanged, so that maps of all grains are ranked alike: single pixels strewn about, black
ones most of all, break the network at the first step, whatever the map says. Two controls know nothing: a random order
of the squares, and smooth random maps, as coarse as RISE's masks. Integrated gradients stand in the table twice, with
their sign and by their size.

These settings were chosen on the first twelve photographs; a second table leaves those out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.tree_util import Partial

import jaxcam as jc
from benchmarks.measuring import machine, seconds

DATA = Path(os.environ.get("JAXCAM_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
CONTROLS = ("random", "random, smooth")
SIZES = {"integrated gradients": "integrated gradients, absolute"}  # what is also ranked by its absolute values
PATCH = 16
CHOSEN_ON = 12  # photographs
BATCH = 4


def _probability(classes: jax.Array, outputs: jax.Array) -> jax.Array:
    """What RISE and LIME explain in their papers."""
    return jnp.take_along_axis(jax.nn.softmax(outputs), classes[:, None], 1)[:, 0]


def methods(masks: int, samples: int) -> dict[str, Callable[..., Any]]:
    """(model, x, classes, key) ↦ maps, by name."""

    def perturbing(method: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return lambda model, x, classes, key: method(model, x, Partial(_probability, classes), key=key, **options)

    return {
        "Grad-CAM": lambda model, x, classes, key: jc.grad_cam(model, x, classes),
        "integrated gradients": lambda model, x, classes, key: jc.integrated_gradients(model, x, classes, steps=16),
        "RISE": perturbing(jc.rise, masks=masks),
        "LIME": perturbing(jc.lime, samples=samples),
        "random": lambda model, x, classes, key: jax.random.uniform(key, x.shape[:3]),
        "random, smooth": lambda model, x, classes, key: jax.random.uniform(key, (len(x), 7, 7)),
    }


def measured(model: Any, x: np.ndarray, sides: dict[str, Callable[..., Any]], steps: int, seed: int) -> dict[str, Any]:
    """For each method the two areas of each image, (n, 2), and its seconds an image once compiled."""
    found: dict[str, list[np.ndarray]] = {}
    times: dict[str, list[float]] = {}
    for start in range(0, len(x), BATCH):
        batch = jnp.asarray(x[np.minimum(np.arange(start, start + BATCH), len(x) - 1)])
        classes, key = model(batch).argmax(-1), jax.random.fold_in(jax.random.key(seed), start)
        for name, method in sides.items():
            begun = time.perf_counter()
            maps = jax.block_until_ready(method(model, batch, classes, key))
            spent = (time.perf_counter() - begun) / BATCH
            for row in (name, SIZES[name]) if name in SIZES else (name,):
                options = {"steps": steps, "patch": PATCH, "baseline": "blur", "absolute": row != name}
                curves = [
                    figure(model, batch, maps, classes, **options)
                    for figure in (jc.quality.deletion, jc.quality.insertion)
                ]
                found.setdefault(row, []).append(np.stack([curve.area for curve in curves], 1)[: len(x) - start])
                times.setdefault(row, []).append(spent)
    return {name: (np.concatenate(rows), float(np.median(times[name]))) for name, rows in found.items()}


def photographs(count: int, skip: int = 0) -> np.ndarray:
    """Photographs of the folder by name, (n, 224, 224, 3)."""
    files = sorted((DATA / "imagenet" / "sample100").iterdir())[skip : skip + count]
    if not files:
        raise FileNotFoundError(f"no photographs in {DATA / 'imagenet' / 'sample100'}")
    return np.stack([jc.data.read_image(file, 224) for file in files])


def network() -> Any:
    """SqueezeNet 1.1 with its trained weights."""
    return jc.models.load("squeezenet1_1", DATA / "squeezenet" / "squeezenet1_1.safetensors", normalize=None)


def better(areas: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much better than a control, for deletion and insertion, and the probability of that by chance.

    The second is of the paired one-sided Wilcoxon test.
    """
    gain = (areas - control) * np.array([-1, 1])
    chance = [scipy.stats.wilcoxon(column, alternative="greater").pvalue for column in gain.T]
    return gain.mean(0), np.array(chance)


def run(images: int, skip: int, masks: int, samples: int, steps: int, seed: int) -> str:
    """Measures all methods and writes the tables: of all photographs, and of those the settings were not chosen on."""
    x = photographs(images, skip)
    found: dict[str, Any] = {}
    took = seconds(lambda: found.update(measured(network(), x, methods(masks, samples), steps, seed)))
    unseen = max(0, CHOSEN_ON - skip)
    parts = [f"{len(x)} photographs\n\n{table(found, 0)}"]
    if 0 < unseen < len(x) - 1:
        parts.append(f"Without the first {unseen}, on which the settings were chosen:\n\n{table(found, unseen)}")
    tables = "\n\n".join(parts)
    return f"""Deletion (small is good) and insertion (large is good), mean areas; SqueezeNet 1.1, {tables}

- p: of the paired one-sided Wilcoxon test, for deletion and for insertion
- squares of {PATCH}×{PATCH}, {steps} steps; deletion to, insertion into a blurred image; probability of the prediction
- RISE: {masks} masks; LIME: {samples} samples of about 49 segments; integrated gradients: 16 steps from black
- {took:.0f} s in all, compilation included
- {machine()}
"""


def table(found: dict[str, Any], first: int) -> str:
    """A row for each method, of the images from `first` on."""
    lines = [
        "| method | deletion | insertion | p against random | p against random, smooth | s/image |",
        "|---|---|---|---|---|---|",
    ]
    for name, (areas, spent) in found.items():
        own = areas[first:]
        cells = [f"{mean:.3f} ± {error:.3f}" for mean, error in zip(own.mean(0), scipy.stats.sem(own), strict=True)]
        for control in CONTROLS:
            gain, chance = better(own, found[control][0][first:]) if name not in CONTROLS else (None, None)
            cells.append("" if gain is None else f"{_chance(chance[0])}, {_chance(chance[1])}")
        lines.append(f"| {name} | {' | '.join(cells)} | {spent:.2f} |")
    return "\n".join(lines)


def _chance(p: float) -> str:
    return f"{p:.0e}" if p < 0.001 else f"{p:.3f}"
