"""The pictures and numbers of all units, packed small enough to travel inside one page.

A sweep of VGG11 has 27,520 similarities and 1,280 maps. The similarities become 16-bit integers, the maps of a class
and layer one PNG strip; the page's script unpacks both when they come into view. Networks too large for the budget get
smaller pictures first and then fewer classes; the page says so, and the store on disk keeps everything.
"""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from jaxcam.neurons import Sweep
from jaxcam.viewing.colors import DIVERGING, SEQUENTIAL, SHARE, finite, picture, reduced, signed_picture, to_bytes
from jaxcam.viewing.figures.style import short_names
from jaxcam.viewing.reading import number

BUDGET = 5_000_000
CLASSES = 40
WIDEST = 1500  # pixels of a figure
SIDES = (64, 48, 32, 24, 16)
DEAD = -32768
STEPS = 32000


class Plan(NamedTuple):
    """What fits: the classes shown, the side of a map in pixels, and whether colors are thinned to 256 a strip."""

    classes: list[int]
    side: int
    thinned: bool


def plan(classes: int, layers: int, channels: int, side: int, *, ranks: int = 16, budget: int = BUDGET) -> Plan:
    """Chooses how much of the maps to embed, so that their pixels stay within a budget.

    Args:
        classes: how many the sweep has.
        layers: how many it has.
        channels: of a map.
        side: the longest side of a map, in pixels.
        ranks: maps kept for each class and layer.
        budget: bytes of pixels, before compression.

    Returns:
        The first classes and the largest side that fit; at least one class at 16 pixels.

    Example:
        >>> plan(10, 8, 3, 32), plan(10, 53, 3, 64)[1:]
        (Plan(classes=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], side=32, thinned=False), (24, True))
    """
    number = min(classes, CLASSES)
    sides = [side, *(s for s in SIDES if s < side)]
    while True:
        for smaller in sides:
            for thinned in (False, True) if channels == 3 and smaller <= 32 else (False,):
                pixels = number * layers * ranks * smaller**2
                if pixels * (3 if channels == 3 and not thinned else 1) <= budget:
                    return Plan(list(range(number)), smaller, thinned)
        if number == 1:
            return Plan([0], sides[-1], channels == 3)
        number = max(1, number // 2)


def png(pixels: UInt8[np.ndarray, "h w 3"], *, colors: int | None = None) -> str:
    """An image as a data URI.

    Args:
        pixels: shape (h, w, 3), bytes.
        colors: thin to so many colors; by default only where there are no more than 256 anyway.

    Returns:
        The URI of a PNG.

    Example:
        >>> png(np.zeros((1, 1, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if colors or image.getcolors(256):
        image = image.quantize(colors or 256, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def webp(image: Image.Image, quality: int = 90) -> bytes:
    """An image as the bytes of a WebP file."""
    file = io.BytesIO()
    image.save(file, "webp", quality=quality)
    return file.getvalue()


def narrowed(path: Path) -> bytes:
    """A figure of a run as the bytes of a WebP file, no wider than it will be shown."""
    with Image.open(path) as opened:
        shown = opened.convert("RGB")
    if shown.width > WIDEST:
        shown = shown.resize((WIDEST, round(shown.height * WIDEST / shown.width)), Image.Resampling.LANCZOS)
    return webp(shown, 88)


def photograph(image: Float[Array | np.ndarray, "h w c"], side: int = 96) -> str:
    """A class average as a data URI, no larger than it will be shown."""
    return png(picture(reduced(finite(image, "a class average"), side)))


def map_picture(map: Float[Array | np.ndarray, "h w c"], side: int = 96) -> str:
    """One signed map as a data URI, on its own scale."""
    return png(to_bytes(reduced(signed_picture(map) / 255.0, side)))


def share_map(values: Float[Array | np.ndarray, "k k"]) -> str:
    """Shares in [0, 1] as a picture of one pixel each, for tables too large to read."""
    return png(matplotlib.colormaps[SHARE](finite(values, "the confidence"), bytes=True)[..., :3])


def ramps(steps: int = 33) -> dict[str, list[list[int]]]:
    """The color scales that the page's script paints with, as lists of red, green and blue.

    Example:
        >>> ramps()["diverging"][16]
        [247, 246, 246]
    """
    names = {"diverging": DIVERGING, "sequential": SEQUENTIAL}
    at = np.linspace(0, 1, steps)
    return {name: matplotlib.colormaps[map](at, bytes=True)[:, :3].tolist() for name, map in names.items()}


def strip(
    units: Int[Array | np.ndarray, " r"], maps: Float[Array | np.ndarray, "r y x c"], chosen: Plan
) -> tuple[str, tuple[int, int]]:
    """The maps of one class and layer side by side, each in the colors of its sign and on its own scale.

    Args:
        units: their numbers; −1 leaves a blank.
        maps: raw maps, shape (r, y, x, c).
        chosen: the plan.

    Returns:
        The PNG's data URI, and the (height, width) of each map in it.
    """
    # Colors first, then the reduction: a smaller picture then keeps the scale of the whole map.
    tiles = [
        reduced(signed_picture(map) / 255.0, chosen.side)
        if unit >= 0
        else np.full_like(reduced(np.zeros((*map.shape[:2], 3)), chosen.side), 1.0)
        for unit, map in zip(np.asarray(units), np.asarray(maps), strict=True)
    ]
    pixels = to_bytes(np.concatenate(tiles, axis=1))
    return png(pixels, colors=256 if chosen.thinned else None), tiles[0].shape[:2]


def pack(sweep: Sweep, chosen: Plan, *, larger_is_similar: bool, dead_value: float = 0.0) -> dict[str, Any]:
    """All units' numbers for the page's script.

    Args:
        sweep: the opened store.
        chosen: the plan; only its classes are packed.
        larger_is_similar: False for a distance.
        dead_value: what a dead unit counts as.

    Returns:
        JSON: names, `limit` (the largest |value|), the `scale` at which colors end, and for each layer `similarity`,
        base64 of little-endian 16-bit integers (class by class; −32768 for a dead unit, else 32000 · value / limit),
        and `activation`, base64 of 32-bit floats.
    """
    values = {name: finite(sweep.similarity(name), f"the similarity of layer {name!r}") for name in sweep.layers}
    limit = max(float(np.abs(array).max(initial=0)) for array in values.values()) or 1.0
    layers = []
    for name, short in zip(sweep.layers, short_names(sweep.layers), strict=True):
        array = np.rint(values[name][chosen.classes] / limit * STEPS).astype("<i2")
        array[sweep.dead(name)[chosen.classes]] = DEAD
        activation = sweep.activation(name)[chosen.classes].astype("<f4")
        layers.append(
            {
                "name": name,
                "short": short,
                "units": array.shape[1],
                "similarity": base64.b64encode(array.tobytes()).decode(),
                "activation": base64.b64encode(activation.tobytes()).decode(),
            }
        )
    return {
        "classes": [sweep.classes[i] for i in chosen.classes],
        "averages": [photograph(image) for image in sweep.average[chosen.classes]],
        "limit": limit,
        "scale": _scale(values, sweep) or limit,
        "steps": STEPS,
        "nothing": dead_value,
        "direction": 1 if larger_is_similar else -1,
        "signed": any(float(array.min(initial=0)) < 0 for array in values.values()) or larger_is_similar,
        "layers": layers,
    }


def _scale(values: dict[str, Float[np.ndarray, "k _"]], sweep: Sweep) -> float:
    """Where the colors of the bands end: few units are far more similar than all others, and would leave them pale."""
    live = np.concatenate([np.abs(array[~sweep.dead(name)]) for name, array in values.items()])
    return float(np.percentile(live, 99, method="higher")) if live.size else 0.0


def pictures(sweep: Sweep, layer: str, chosen: Plan) -> dict[str, Any]:
    """The extreme units of one layer for the page's script: unit numbers and one strip of maps for each class."""
    units, maps = sweep.extremes(layer)
    strips = [strip(units[i], finite(maps[i], f"a map of layer {layer!r}"), chosen) for i in chosen.classes]
    return {
        "units": units[chosen.classes].tolist(),
        "tile": list(strips[0][1]),
        "strips": [uri for uri, _ in strips],
    }


def example(sweep: Sweep, similarity: Mapping[str, Float[np.ndarray, "k _"]]) -> dict[str, Any] | None:
    """Two units of one layer and class that show what the number means: those farthest apart, past the first layer."""
    best: tuple[float, dict[str, Any]] | None = None
    for layer in sweep.layers[1:] or sweep.layers:
        units, maps = sweep.extremes(layer)
        half = units.shape[1] // 2
        for index in range(min(len(units), CLASSES)):
            low, high = int(units[index, 0]), int(units[index, half])
            if min(low, high) < 0 or low == high:
                continue
            values = similarity[layer][index]
            distance = abs(float(values[high] - values[low]))
            if best is None or distance > best[0]:
                pictures = [(maps[index, half], high), (maps[index, 0], low)]
                best = distance, {"layer": layer, "class": index, "pictures": pictures, "values": values}
    if best is None:
        return None
    found = best[1]
    return {
        "layer": found["layer"],
        "class": sweep.classes[found["class"]],
        "average": photograph(sweep.average[found["class"]]),
        "units": [
            {"unit": unit, "map": map_picture(map), "value": number(float(found["values"][unit]))}
            for map, unit in found["pictures"]
        ],
    }
