"""The figures of two checks of maps: the score while pixels are exchanged, and maps of a network made random."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from jaxcam.quality import Curve, Randomization
from jaxcam.viewing.figures.style import MARKERS, MUTED, RANDOM, SERIES, Drawing, name_layers, short_names, styled


@styled
def exchange_curves(
    curves: Mapping[str, Curve], *, title: str = "Deletion", score: str = "probability", control: str = "random"
) -> Figure:
    """The score while pixels are exchanged, the most important ones first: a curve for each method.

    Args:
        curves: for each method what `jc.quality.deletion` or `insertion` found, on the same images.
        title: which of them; said above.
        score: what was watched, for the axis.
        control: the method that knows nothing; dashed.

    Returns:
        The figure: means over the images with a band of ± one standard error, and each curve's mean area in the legend.

    Raises:
        ValueError: nothing to draw.

    Example:
        >>> curve = Curve(np.array([0.0, 1.0]), np.array([[0.9, 0.1]]), np.array([0.5]))
        >>> exchange_curves({"cam": curve}).get_axes()[0].get_legend().get_texts()[0].get_text()
        'cam (area 0.50)'
    """
    if not curves:
        raise ValueError("nothing to draw: no curves; jc.quality.deletion and insertion make them")
    figure = Drawing(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for number, (name, found) in enumerate(curves.items()):
        values, fractions = np.asarray(found.curve, float), np.asarray(found.fractions, float)
        mean, n = values.mean(0), len(values)
        known_nothing = name == control
        color = RANDOM if known_nothing else SERIES[number % len(SERIES)]
        axes.plot(
            fractions,
            mean,
            color=color,
            linestyle=(0, (4, 3)) if known_nothing else "-",
            marker=None if known_nothing else MARKERS[number % len(MARKERS)],
            markevery=max(1, len(fractions) // 8),
            label=f"{name} (area {np.asarray(found.area, float).mean():.2f})",
        )
        if n > 1:
            error = values.std(0, ddof=1) / np.sqrt(n)
            axes.fill_between(fractions, mean - error, mean + error, color=color, alpha=0.18, linewidth=0)
    axes.set_title(title)
    axes.set_xlim(0, 1)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), None)
    axes.set_xlabel("share of pixels exchanged, the most important first")
    axes.set_ylabel(score)
    axes.legend(loc="best")
    images = next(iter(curves.values())).curve.shape[0]
    note = f"mean of {images} images, band: ± standard error" if images > 1 else "one image"
    axes.text(1.0, 1.02, note, ha="right", color=MUTED, transform=axes.transAxes)
    return figure


@styled
def randomization(checks: Mapping[str, Randomization]) -> Figure:
    """How similar maps stay while a network's layers are made random, from the outputs down: a curve for each method.

    Args:
        checks: for each method what `jc.quality.randomization_check` found, of the same layers.

    Returns:
        The figure: rank correlation of the maps, of their absolute values, and structural similarity; means over the
        images with bars of ± one standard error. Zero, where nothing is left of a map, is in the middle.

    Raises:
        ValueError: nothing to draw, or methods with other layers than the first.

    Example:
        >>> found = Randomization("cascading", ("dense", "conv"), *np.array([[[0.5], [0.1]]] * 3))
        >>> [axes.get_title(loc="left") for axes in randomization({"saliency": found}).get_axes()]
        ['rank correlation', 'of absolute values', 'structural similarity']
    """
    if not checks:
        raise ValueError("nothing to draw: no checks; jc.quality.randomization_check makes them")
    first = next(iter(checks.values()))
    for name, check in checks.items():
        if check.layers != first.layers:
            raise ValueError(f"{name} has the layers {', '.join(check.layers)}, not {', '.join(first.layers)}")
    figure = Drawing(figsize=(9.2, 3.4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    parts = (
        ("rank correlation", "rank"),
        ("of absolute values", "absolute_rank"),
        ("structural similarity", "structure"),
    )
    for axes, (title, part) in zip(panels, parts, strict=True):
        for number, (name, check) in enumerate(checks.items()):
            values = np.asarray(getattr(check, part), float)
            n = values.shape[1]
            axes.errorbar(
                np.arange(len(values)) + 0.06 * (number - (len(checks) - 1) / 2),
                values.mean(1),
                yerr=values.std(1, ddof=1) / np.sqrt(n) if n > 1 else None,
                color=SERIES[number % len(SERIES)],
                marker=MARKERS[number % len(MARKERS)],
                capsize=2,
                label=name,
            )
        axes.axhline(0, color=MUTED, linewidth=0.9)
        axes.set_ylim(-1.05, 1.05)
        axes.set_title(title)
        name_layers(axes, short_names(first.layers))
    panels[0].set_ylabel("similarity to the trained network's maps")
    panels[1].set_xlabel(f"layers made random, {first.order}: from the outputs to the images")
    panels[-1].legend(loc="upper right")
    return figure
