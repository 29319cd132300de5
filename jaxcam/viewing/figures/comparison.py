"""The figure of a comparison: how good the maps of several methods are, beside maps that know nothing."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcam.viewing.figures.style import LEAST, MUTED, RANDOM, Drawing, styled


@styled
def comparison(
    measured: Mapping[str, Mapping[str, Float[Array | np.ndarray, " n"]]],
    *,
    small_is_good: Mapping[str, bool] | None = None,
    control: str = "random",
) -> Figure:
    """Quality figures of several methods: a panel for each figure, a line for each method, a dot for each image.

    Args:
        measured: for each method and figure one number an image, (n,); NaN where a map says nothing.
        small_is_good: for each figure which way is good; said in its title. Methods are sorted by the first figure.
        control: the method that knows nothing; a dashed line through its mean crosses the others.

    Returns:
        The figure: small dots for the images, a large one for their mean, with a bar of ± one standard error.

    Raises:
        ValueError: nothing to draw, or methods with other figures than the first.

    Example:
        >>> measured = {"cam": {"deletion": np.array([0.1, 0.2])}, "random": {"deletion": np.array([0.4, 0.5])}}
        >>> [axes.get_title(loc="left") for axes in comparison(measured, small_is_good={"deletion": True}).get_axes()]
        ['deletion (small is good)']
    """
    if not measured or not next(iter(measured.values())):
        raise ValueError("nothing to compare: no methods, or no figures of them")
    names = list(next(iter(measured.values())))
    for method, figures in measured.items():
        if list(figures) != names:
            raise ValueError(f"{method} has the figures {', '.join(figures)}, the first method has {', '.join(names)}")
    ways = small_is_good or {}
    methods = sorted(measured, key=lambda method: _order(measured[method][names[0]], ways.get(names[0], False)))
    figure = Drawing(figsize=(1.6 + 2.6 * len(names), 1.1 + 0.26 * len(methods)), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        good = {True: " (small is good)", False: " (large is good)"}.get(ways[name]) if name in ways else ""
        axes.set_title(f"{name.replace('_', ' ')}{good}")
        for place, method in enumerate(methods):
            _line(axes, place, np.asarray(measured[method][name], float), RANDOM if method == control else LEAST)
        if control in measured and np.isfinite(measured[control][name]).any():
            axes.axvline(float(np.nanmean(measured[control][name])), color=RANDOM, linestyle=(0, (4, 3)), linewidth=0.9)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    note = f"large dots: means; bars: ± standard error; faint dots: images; dashed: {control} maps"
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(note if control in measured else note.split("; dashed")[0], int(13 * width))
    figure.text(0.995, 0.05 / height, "\n".join(lines), ha="right", va="bottom", color=MUTED)
    below = (0.08 + 0.16 * len(lines)) / height
    figure.get_layout_engine().set(rect=(0, below, 1, 1 - below))  # type: ignore[union-attr,call-arg]
    return figure


def _order(values: Float[Array | np.ndarray, " n"], small: bool) -> float:
    """What methods are sorted by: the best first, those without a number last."""
    numbers = np.asarray(values, float)
    if np.isnan(numbers).all():
        return float("inf")
    return float(np.nanmean(numbers)) * (1 if small else -1)


def _line(axes: Axes, place: int, values: Float[np.ndarray, " n"], color: str) -> None:
    """One method's images and their mean."""
    values = values[np.isfinite(values)]
    if not len(values):
        axes.text(0.5, place, "blank maps", color=MUTED, va="center", fontsize=7, transform=axes.get_yaxis_transform())
        return
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    axes.errorbar(values.mean(), place, xerr=error, fmt="o", color=color, markersize=5.5, capsize=2.5)
    above: dict[str, Any] = {"zorder": 3, "alpha": 0.6, "markeredgecolor": "white", "markeredgewidth": 0.3}
    axes.plot(values, np.full(len(values), place), "o", color=color, markersize=3, **above)
