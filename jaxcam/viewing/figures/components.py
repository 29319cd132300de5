"""The figure of redundancy: what components explain, of these maps and of others, and the maps rebuilt from them."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcam.attribution.asking import check_count
from jaxcam.studies import Redundancy
from jaxcam.viewing.colors import DIVERGING, limit
from jaxcam.viewing.figures.style import LEAST, MOST, MUTED, RANDOM, Drawing, styled

SHOWN = 8
QUANTILE = 95


@styled
def redundancy(found: Redundancy, *, columns: int = SHOWN) -> Figure:
    """Ratios beside those of noise, their sum beside what they are worth for other maps, and maps as they are rebuilt.

    Args:
        found: what `jc.studies.redundancy` returned.
        columns: how many maps and components are shown.

    Returns:
        The figure: two charts, then a row each of maps, of the same rebuilt, and of the components. Maps share one
        scale, as do their reconstructions; red is positive, blue negative.

    Raises:
        ValueError: no column.

    Example:
        >>> from jaxcam import studies
        >>> maps = np.random.default_rng(0).random((6, 3, 3))
        >>> redundancy(studies.redundancy(maps, components=2)).get_axes()[0].get_title(loc="left")
        'Variance that each component explains'
    """
    check_count(columns, "columns")
    shown = min(columns, len(found.maps))
    figure = Drawing(figsize=(max(7.2, 0.95 * shown + 1.2), 6.4), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[3.0, 3.4])
    charts, tiles = halves
    left, right = charts.subplots(1, 2)
    _bars(left, found)
    _curves(right, found)
    end = limit(found.maps)
    rows = (
        ("maps", found.maps[:shown], end),
        (f"from {found.components}", found.reconstruction[:shown], end),
        ("components", found.axes[:shown], None),
    )
    grid = tiles.subplots(len(rows), shown, squeeze=False)
    for line, (name, pictures, shared) in zip(grid, rows, strict=True):
        for place, axes in enumerate(line):
            axes.set_axis_off()
            if place < len(pictures):
                _tile(axes, pictures[place], shared)
        line[0].text(-0.12, 0.5, name, transform=line[0].transAxes, rotation=90, va="center", ha="right", color=MUTED)
    return figure


def _bars(axes: Axes, found: Redundancy) -> None:
    ratios = found.ratios
    places = np.arange(1, len(ratios) + 1)
    axes.bar(places, ratios, width=0.8, color=LEAST, label="these maps")
    if found.null is not None:
        noise = np.percentile(found.null, QUANTILE, axis=0)
        label = f"destroyed maps, {QUANTILE} %"
        axes.plot(places, noise, color=MOST, linestyle=(0, (4, 2)), label=label)
        able = found.resolution
        words = f"more than noise: {found.significant}"
        if able is not None and not able.can_reject:
            words = f"{able.draws} permutations are too few\nto tell noise: {able.needed} or more can"
        axes.text(0.98, 0.55, words, transform=axes.transAxes, ha="right", color=MUTED)
        axes.legend(loc="upper right")
    axes.set(xlabel="component", ylabel="ratio", ylim=(0, None))
    axes.set_title("Variance that each component explains")


def _curves(axes: Axes, found: Redundancy) -> None:
    places = np.arange(1, len(found.ratios) + 1)
    axes.plot(places, found.cumulated, color=LEAST, label="these maps")
    if found.held_out.size:
        axes.plot(places[: len(found.held_out)], found.held_out, color=MOST, label="maps left out")
    kept = found.components
    axes.axvline(kept, color=RANDOM, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.plot(kept, found.cumulated[kept - 1], "o", color=LEAST)
    axes.set(xlabel="components", ylabel="share of the variance", ylim=(0, 1.03))
    axes.set_title(f"… and the first {kept} together: {found.cumulated[kept - 1]:.2%}")
    axes.legend(loc="lower right")


def _tile(axes: Axes, picture: Float[np.ndarray, "h w"], shared: float | None) -> None:
    end = limit(picture) if shared is None else shared
    axes.imshow(picture, cmap=DIVERGING, vmin=-end, vmax=end)
