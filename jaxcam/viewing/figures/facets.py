"""The figure of linear pieces: the weights a network has around each image, and how many images share its switches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcam.attribution.asking import check_count
from jaxcam.studies import Polytopes
from jaxcam.viewing.blending import flat
from jaxcam.viewing.colors import DIVERGING, check_channels, finite, limit
from jaxcam.viewing.figures.style import (
    LEAST,
    MOST,
    MUTED,
    RANDOM,
    Drawing,
    name_layers,
    short_names,
    shortened,
    styled,
)

SHOWN = 8
TILE = 1.15


@styled
def linear_pieces(
    images: Float[Array | np.ndarray, "n h w c"],
    weights: Float[Array | np.ndarray, "..."],
    shared: Polytopes,
    *,
    titles: Sequence[str] | None = None,
    columns: int = SHOWN,
) -> Figure:
    """The weights of one class beside each image, what each pixel adds, and how many images share switches by depth.

    Args:
        images: (n, h, w, c) in [0, 1], with one or three channels.
        weights: W of the class explained, for each image, as `jc.studies.linear_piece` gives them.
        shared: what `jc.studies.polytopes` says of the same images, or of more.
        titles: a line above each image.
        columns: how many images are shown.

    Returns:
        The figure: a row each of images, of W, and of W · x pixel by pixel, summed over the channels, red where
        positive and blue where negative, each on a scale of its own; below, for each layer the share of images that
        are not alone with its switches, and with its switches and those of all layers above.

    Raises:
        ValueError: no column, NaN, or not as many weights or titles as images.

    Example:
        >>> from jaxcam import studies
        >>> x = np.random.default_rng(0).random((2, 4, 4, 1)).astype("float32")
        >>> shared = studies.polytopes(lambda x: x.sum((1, 2)).clip(0), x)
        >>> linear_pieces(x, np.ones_like(x), shared).get_axes()[-1].get_title(loc="left")
        '2 images in 1 polytope'
    """
    pictures, W = check_channels(finite(images, "the images")), finite(weights, "the weights")
    check_count(columns, "columns")
    if W.shape != pictures.shape:
        raise ValueError(f"weights are like the images {pictures.shape}; got shape {W.shape}")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"{len(pictures)} images have {len(titles)} titles")
    number = min(columns, len(pictures))
    figure = Drawing(figsize=(max(7.2, TILE * number + 0.6), 3.2 * TILE + 3.4), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[3.4 * TILE, 3.2])
    grid = halves[0].subplots(3, number, squeeze=False)
    for place in range(number):
        image = np.clip(pictures[place], 0, 1)
        grid[0][place].imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
        _signed(grid[1][place], flat(W[place : place + 1])[0])
        _signed(grid[2][place], flat(W[place : place + 1] * pictures[place : place + 1])[0])
        if titles is not None:
            grid[0][place].set_title(shortened(titles[place], TILE, 7.0), fontsize=7)
    for line, name in zip(grid, ("images", "W", "W · x"), strict=True):
        for axes in line:
            axes.set_axis_off()
        line[0].text(-0.12, 0.5, name, transform=line[0].transAxes, rotation=90, va="center", ha="right", color=MUTED)
    _sharing(halves[1].subplots(), shared)
    return figure


def _signed(axes: Axes, map: np.ndarray) -> None:
    end = limit(map)
    axes.imshow(map, cmap=DIVERGING, vmin=-end, vmax=end)


def _sharing(axes: Axes, shared: Polytopes) -> None:
    whole, *rows = shared.table()
    n = len(shared.whole)
    axes.set_title(f"{n} images in {whole.groups} polytope{'s' if whole.groups > 1 else ''}")
    places = range(len(rows))
    axes.axhline(whole.sharing, color=RANDOM, linewidth=0.9, linestyle=":", label="the whole polytope")
    own = [row.sharing for row in rows]
    axes.plot(places, own, color=LEAST, marker="o", markersize=7, linewidth=3, label="the layer's own switches")
    axes.plot(places, [row.sharing_above for row in rows], color=MOST, marker="s", label="and those of all above it")
    axes.set(ylim=(-0.03, 1.03), ylabel="share of images not alone")
    if rows:
        name_layers(axes, short_names(row.layer for row in rows))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
