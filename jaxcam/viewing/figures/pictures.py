"""Figures made of images: class averages, maps, and the units of a layer that are least and most similar."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxcam.viewing.colors import (
    DIVERGING,
    SEQUENTIAL,
    UNIT_LEGEND,
    Legend,
    about_half,
    check_channels,
    finite,
    limit,
)
from jaxcam.viewing.figures.style import MUTED, Sheet, check_classes, shortened, styled

KINDS = {
    "simple": "mean of all images",
    "most": "most confident",
    "least": "least confident",
    "ascent": "gradient ascent",
}
STRETCHED = (
    "Mean of all images and gradient ascent: stretched, each color channel to the full range of the class; "
    "most and least confident: plain means."
)
MARGIN = 0.3
GAP = 0.1


@styled
def averages(
    averages: Mapping[str, Float[Array | np.ndarray, "k h w c"]],
    classes: Sequence[str],
    *,
    columns: int = 10,
    tile: float = 0.8,
) -> Figure:
    """Class average images: one row for each kind, one column for each class.

    Args:
        averages: for each kind ("simple", "most", "least", "ascent") images of shape (k, h, w, c) in [0, 1].
        classes: the k class names.
        columns: classes in a row; more begin a new block of rows.
        tile: width of an image, in inches.

    Returns:
        The figure. Values outside [0, 1] are cut at display.

    Raises:
        ValueError: no averages, NaN, or not one name for each class.

    Example:
        >>> averages({"simple": np.zeros((2, 8, 8, 1))}, ["cat", "dog"]).get_axes()[0].get_images()[0].get_clim()
        (0.0, 1.0)
    """
    if not averages:
        raise ValueError("no class averages to draw; jaxcam averages makes them")
    arrays = {kind: finite(value, f"the average {kind!r}") for kind, value in averages.items()}
    for kind, array in arrays.items():
        check_classes(len(array), classes, f"the averages {kind!r}")
    first = next(iter(arrays.values()))
    height = tile * first.shape[1] / first.shape[2]
    columns = min(columns, len(classes))
    blocks = -(-len(classes) // columns)
    label = 1.45
    block = 0.24 + len(arrays) * (height + GAP) + 0.12
    across, down = 2 * MARGIN + label + columns * (tile + GAP) - GAP, 2 * MARGIN + blocks * block - GAP - 0.12
    stretched, plain = {"simple", "ascent"} & set(arrays), {"most", "least"} & set(arrays)
    said = textwrap.wrap(STRETCHED, int((across - 2 * MARGIN) / 0.055)) if stretched and plain else []
    sheet = Sheet(across, down + 0.14 * len(said))
    sheet.text(MARGIN, down - MARGIN / 2, "\n".join(said), fontsize=7.2, color=MUTED)
    for index, name in enumerate(classes):
        x = MARGIN + label + index % columns * (tile + GAP)
        top = MARGIN + index // columns * block
        sheet.text(x + tile / 2, top, shortened(name, tile + GAP / 2, 8.0), ha="center", fontsize=8)
        for row, (kind, images) in enumerate(arrays.items()):
            y = top + 0.24 + row * (height + GAP)
            sheet.tile(x, y, tile, np.clip(images[index], 0, 1), cmap="gray", vmin=0, vmax=1)
            if index % columns == 0:
                sheet.text(x - 0.15, y + height / 2, KINDS.get(kind, kind), ha="right", va="center", fontsize=8.5)
    return sheet.figure


@styled
def maps(
    maps: Float[Array | np.ndarray, "n h w c"] | Float[Array | np.ndarray, "n h w"],
    titles: Sequence[str] | None = None,
    *,
    signed: bool | None = None,
    shared: bool = False,
    legend: Legend | None = None,
    columns: int = 8,
    tile: float = 1.0,
) -> Figure:
    """A grid of maps with a legend that says sign and scale.

    Signed maps of one channel are drawn from blue (below zero) through white to red, on symmetric limits; those of
    three channels as ½ + map / (2 · limit), grey being zero. Maps without a sign go from dark (0) to bright.

    Args:
        maps: raw maps, shape (n, h, w, c) with one or three channels, or (n, h, w).
        titles: one for each map.
        signed: whether zero is the middle; by default, whether any value is negative.
        shared: one scale for all, so that maps can be compared in strength; else each map has its own.
        legend: what below zero, zero and above zero mean here.
        columns: maps in a row.
        tile: width of a map, in inches.

    Returns:
        The figure.

    Raises:
        ValueError: no maps, NaN, or not one title for each map.

    Example:
        >>> maps(np.array([[[-2.0, 1.0]]])).get_axes()[0].get_images()[0].get_clim()
        (-2.0, 2.0)
    """
    array = finite(maps, "the map")
    array = array[..., None] if array.ndim == 3 else array
    check_channels(array)
    number, rows, width = array.shape[:3]
    if not number or (titles is not None and len(titles) != number):
        raise ValueError(f"{number} maps to draw and {'no' if titles is None else len(titles)} titles")
    signed = bool((array < 0).any()) if signed is None else signed
    columns = min(columns, number)
    height = tile * rows / width
    head = 0.2 if titles else 0.0
    across = max(2 * MARGIN + columns * (tile + GAP) - GAP, 4.4)
    down = MARGIN + -(-number // columns) * (head + height + GAP) + 0.75
    sheet = Sheet(across, down)
    together = limit(array) if shared else None
    for index, map in enumerate(array):
        x, y = MARGIN + index % columns * (tile + GAP), MARGIN + index // columns * (head + height + GAP)
        if titles:
            sheet.text(x + tile / 2, y, shortened(titles[index], tile + GAP / 2, 8.0), ha="center", fontsize=8)
        _draw(sheet, x, y + head, tile, map, signed, together)
    words = legend or Legend("negative", "0", "positive")
    _legend(sheet, MARGIN, down - 0.62, array.shape[-1], signed, words, together)
    return sheet.figure


@styled
def extreme_units(
    average: Float[Array | np.ndarray, "h w c"],
    units: Int[Array | np.ndarray, " r"],
    maps: Float[Array | np.ndarray, "r y x c"],
    similarity: Float[Array | np.ndarray, " r"],
    *,
    layer: str,
    name: str,
    metric: str = "cosine similarity",
) -> Figure:
    """The units of one layer that are least and most similar to one class: their maps beside the class average.

    Args:
        average: the class average image, shape (h, w, c) in [0, 1].
        units: unit numbers, shape (16,): the lowest live units ascending, then the highest descending; −1 where the
            layer has fewer live units. Any even number will do.
        maps: their raw maps, shape (16, y, x, c).
        similarity: their similarities, shape (16,).
        layer: the layer's name, for the title.
        name: the class's name, for the title.
        metric: what the numbers are.

    Returns:
        The figure: the average at the left, the lowest units in the first row, the highest in the second.

    Raises:
        ValueError: NaN in what is drawn, or channels other than one or three.

    Example:
        >>> figure = extreme_units(np.ones((8, 8, 1)), np.arange(16), np.ones((16, 8, 8, 1)), np.zeros(16),
        ...                        layer="conv1", name="cat")
        >>> len(figure.get_axes()[0].get_images())
        17
    """
    pictures, numbers, units = finite(maps, f"a map of {layer}"), np.asarray(similarity), np.asarray(units)
    half = len(units) // 2
    tile, big, caption = 0.78, 1.75, 0.34
    height = tile * pictures.shape[1] / pictures.shape[2]
    left = MARGIN + big + 1.05
    row = height + caption + 0.06
    across, down = left + half * (tile + GAP) - GAP + MARGIN, 0.75 + max(2 * row, big + 0.3) + 0.62
    sheet = Sheet(across, down)
    sheet.text(MARGIN, MARGIN * 0.8, f"{layer}: the least and the most similar units, class {name}", **_TITLE)
    sheet.tile(MARGIN, 0.75, big, np.clip(finite(average, "the average"), 0, 1), cmap="gray", vmin=0, vmax=1)
    below = 0.75 + big * np.shape(average)[0] / np.shape(average)[1] + 0.07
    sheet.text(MARGIN + big / 2, below, f"average image of {shortened(name, big - 0.6)}", ha="center")
    for place, unit in enumerate(units):
        x, y = left + place % half * (tile + GAP), 0.75 + place // half * row
        if place % half == 0:
            words = "least\nsimilar" if place < half else "most\nsimilar"
            sheet.text(x - 0.15, y + height / 2, words, ha="right", va="center", fontweight="bold", linespacing=1.3)
        if unit < 0:
            sheet.empty(x, y, tile, height, "none")
            continue
        _draw(sheet, x, y, tile, pictures[place], True, None)
        sheet.text(x + tile / 2, y + height + 0.04, f"{numbers[place]:.3f}", ha="center", fontsize=8)
        sheet.text(x + tile / 2, y + height + 0.17, f"unit {unit}", ha="center", fontsize=6.8, color=MUTED)
    sheet.text(MARGIN, down - 0.38, f"numbers: {metric}", color=MUTED, fontsize=7.5)
    _legend(sheet, left, down - 0.5, pictures.shape[-1], True, UNIT_LEGEND, None)
    return sheet.figure


UNIT_SWATCHES = (
    ("#800080", "magenta: more green lowers the unit"),
    ("#808080", "mid-grey: no influence"),
    ("#80ff80", "green: more green raises it"),
)
"""What the colors of a unit's map of a color image mean, by the example of its green channel."""

_TITLE: dict[str, Any] = {"fontsize": 9.5, "fontweight": "bold"}


def _draw(
    sheet: Sheet, x: float, y: float, width: float, map: Float[np.ndarray, "h w c"], signed: bool, top: float | None
) -> None:
    """One map; `top` is the shared limit, None for the map's own."""
    end = top or limit(map)
    if map.shape[-1] == 3:
        scaled = np.clip(map / (2 * end) + 0.5, 0, 1) if top else about_half(map)
        sheet.tile(x, y, width, scaled if signed else np.clip(map / end, 0, 1))
    else:
        sheet.tile(x, y, width, map, cmap=DIVERGING if signed else SEQUENTIAL, vmin=-end if signed else 0, vmax=end)


def _legend(sheet: Sheet, x: float, y: float, channels: int, signed: bool, words: Legend, top: float | None) -> None:
    """The key under a grid of maps: a bar or swatches with what they mean, and whose scale it is."""
    scale = "one scale for all maps" if top else "each map on its own scale"
    if channels == 3:
        swatches = (
            UNIT_SWATCHES
            if words is UNIT_LEGEND
            else (
                ("#000000", f"darker: {words.negative}" if signed else f"black: {words.zero}"),
                ("#808080", f"grey: {words.zero}" if signed else "grey: half of the largest value"),
                ("#ffffff", f"brighter: {words.positive}" if signed else "white: the largest value"),
            )
        )
        place = x
        for color, text in swatches:
            sheet.axes.add_patch(Rectangle((place, y + 0.02), 0.13, 0.13, facecolor=color, edgecolor=MUTED, lw=0.5))
            sheet.text(place + 0.19, y + 0.015, text, fontsize=7.2)
            place += 0.19 + len(text) * 0.055 + 0.22
        sheet.text(x, y + 0.23, f"each color channel is drawn by itself; {scale}", fontsize=7.2, color=MUTED)
        return
    width = 1.5
    figure_width, figure_height = sheet.figure.get_size_inches()
    inset = sheet.figure.add_axes(
        (x / figure_width, 1 - (y + 0.15) / figure_height, width / figure_width, 0.11 / figure_height)
    )
    high = top or 1.0
    low = -high if signed else 0.0
    ticks = [low, 0.0, high] if signed else [0.0, high]
    colors = ScalarMappable(Normalize(low, high), DIVERGING if signed else SEQUENTIAL)
    bar = sheet.figure.colorbar(colors, cax=inset, orientation="horizontal")
    bar.outline.set_visible(False)
    if top:
        labels = [f"{low:.2g}".replace("-", "−"), "0", f"+{high:.2g}"] if signed else ["0", f"{high:.2g}"]
    else:
        labels = ["−", "0", "+"] if signed else ["0", "max"]
    bar.set_ticks(ticks, labels=labels)
    inset.tick_params(labelsize=7.2, pad=2)
    meaning = f"red (+): {words.positive};  blue (−): {words.negative}" if signed else "brighter: larger"
    sheet.text(x + width + 0.2, y + 0.02, meaning, fontsize=7.2)
    sheet.text(x + width + 0.2, y + 0.2, scale, fontsize=7.2, color=MUTED)
