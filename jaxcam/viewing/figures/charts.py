"""Figures of a sweep: confidence heat maps, similarity curves, dead units."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jaxcam.viewing.colors import SHARE, finite
from jaxcam.viewing.figures.pictures import KINDS
from jaxcam.viewing.figures.style import (
    INK,
    MARKERS,
    MOST,
    MUTED,
    NAMED,
    SERIES,
    WIDEST,
    Drawing,
    check_classes,
    name_layers,
    short_names,
    shortened,
    styled,
)
from jaxcam.viewing.tables import by_class, class_mean, curve_table, dead_table, decimals

NUMBERED = 20


@styled
def confidence(
    confidences: Mapping[str, Float[Array | np.ndarray, "k o"]],
    classes: Sequence[str],
    *,
    outputs: Sequence[int] | None = None,
    among: str = "",
) -> Figure:
    """Heat maps of what the network says about each class average: a row for each average, a column for each answer.

    Args:
        confidences: for each kind of average a softmax over o outputs, shape (k, o), in [0, 1]; row i belongs to class
            i's average.
        classes: the k class names.
        outputs: the column of each class; by default 0, 1, …
        among: which outputs the softmax is over, in words; by default how many they are.

    Returns:
        The figure. Cells carry their numbers up to 20 classes. Where there are more outputs than classes, a last column
        has what the others have together.

    Raises:
        ValueError: no confidences, NaN, or not one name for each class.

    Example:
        >>> confidence({"simple": np.eye(3)}, ["a", "b", "c"]).get_axes()[0].get_title(loc="left")
        'Mean of all images: 1.00 on the diagonal'
    """
    if not confidences:
        raise ValueError("no confidences to draw; jaxcam averages makes them")
    number = len(classes)
    wider = any(values.shape[1] > number for values in confidences.values())
    side = float(np.clip(0.42 * number, 3.2 if wider else 2.4, 5.0))  # a title with a small number is longer
    columns = min(2, len(confidences))
    rows = -(-len(confidences) // columns)
    figure = Drawing(figsize=(columns * (side + 1.1) + 0.6, rows * (side + 1.2)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (kind, values) in zip(panels, confidences.items(), strict=False):
        array = by_class(finite(values, f"the confidence {kind!r}"), outputs)
        check_classes(len(array), classes, f"the confidences {kind!r}")
        axes.imshow(array, cmap=SHARE, vmin=0, vmax=1)
        diagonal = decimals(float(np.diag(array).mean()))
        axes.set_title(f"{KINDS.get(kind, kind).capitalize()}: {diagonal} on the diagonal")
        _name_classes(axes, classes, side, others=array.shape[1] > number)
        if array.shape[1] > number:
            axes.axvline(number - 0.5, color=INK, linewidth=0.8)
        axes.set(xlabel="the network answers", ylabel="average image of")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        if number <= NUMBERED:
            size = float(np.clip(side / number * 72 * 0.26, 4, 8.5))
            for (row, column), value in np.ndenumerate(array):
                color = "white" if value > 0.6 else INK
                text = f"{value:.2f}" if value >= 0.005 else "0"
                faint = {"alpha": 0.35} if value < 0.005 else {}
                axes.text(column, row, text, color=color, ha="center", va="center", fontsize=size, **faint)
    for axes in panels[len(confidences) :]:
        axes.set_axis_off()
    among = among or f"{next(iter(confidences.values())).shape[1]:,} outputs"
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), SHARE),
        ax=list(panels),
        shrink=0.5,
        aspect=30,
        label=f"confidence: softmax over {among}",
    )
    bar.outline.set_visible(False)
    return figure


@styled
def similarity_curves(
    similarity: Mapping[str, Float[Array | np.ndarray, "k _"]],
    classes: Sequence[str],
    *,
    dead: Mapping[str, Bool[Array | np.ndarray, "k _"]] | None = None,
    metric: str = "cosine similarity",
) -> Figure:
    """Mean and deviation of the units' similarities through the layers: a thin curve for each class, their mean thick.

    Args:
        similarity: for each layer, in network order, shape (k, units).
        classes: the k class names.
        dead: for each layer, units that a class does not activate, shape (k, units); if given they do not count.
        metric: what the numbers are.

    Returns:
        The figure: means at the left, standard deviations at the right. More than 24 classes are drawn in grey.

    Raises:
        ValueError: no layers, NaN, or not one name for each class.

    Paper: figures 4-18 to 4-23 of the thesis on class average images.

    Example:
        >>> figure = similarity_curves({"conv1": np.zeros((2, 4)), "conv2": np.ones((2, 4))}, ["cat", "dog"])
        >>> [float(y) for y in figure.get_axes()[0].get_lines()[2].get_ydata()]
        [0.0, 1.0]
    """
    curves = curve_table(similarity, dead)
    check_classes(len(curves.mean), classes, "the similarities")
    layers = short_names(similarity)
    figure = Drawing(figsize=(float(np.clip(1.6 + 0.84 * len(layers), 8.4, WIDEST)), 3.9), layout="constrained")
    named = len(classes) <= NAMED
    whose = "live units" if dead else "all units"
    for axes, values, title in zip(
        figure.subplots(1, 2), curves, (f"Mean over {whose}", f"Standard deviation over {whose}"), strict=True
    ):
        for index, name in enumerate(classes):
            style: dict[str, Any] = (
                {
                    "color": SERIES[index % len(SERIES)],
                    "marker": MARKERS[index % len(MARKERS)],
                    "markeredgewidth": 0,
                    "linestyle": ("-", "--", ":")[index // len(SERIES) % 3],
                }
                if named
                else {"color": "#b4bac6", "alpha": 0.5}
            )
            axes.plot(values[index], linewidth=0.9, label=name if named else None, **style)
        axes.plot(class_mean(values), color=INK, linewidth=2.6, label="mean of the classes", zorder=5)
        axes.set_title(title)
        axes.set_ylabel(metric if axes.get_subplotspec().is_first_col() else "")
        axes.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
        axes.margins(x=0.03)
        name_layers(axes, layers)
    figure.legend(*figure.get_axes()[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


@styled
def dead_units(dead: Mapping[str, Bool[Array | np.ndarray, "k _"]]) -> Figure:
    """Share of each layer's units that no class average activates, that some do, that all do.

    Args:
        dead: for each layer, in network order, which units a class does not activate, shape (k, units).

    Returns:
        The figure: stacked bars from 0 to 1, and a mark at the mean share of dead units over the classes.

    Raises:
        ValueError: no layers.

    Example:
        >>> figure = dead_units({"conv1": np.array([[True, False], [True, True]])})
        >>> [float(bar.get_height()) for bar in figure.get_axes()[0].containers[0]]
        [0.5]
    """
    table = dead_table(dead)
    units = np.array(table.units)
    figure = Drawing(figsize=(float(np.clip(1.8 + 0.5 * len(units), 5.6, WIDEST)), 3.6), layout="constrained")
    axes = figure.subplots()
    bottom = np.zeros(len(units))
    for counts, color, label in (
        (table.always, "#4b5a78", "dead for every class"),
        (table.sometimes, "#a9bbd6", "dead for some classes"),
        (table.never, "#eceff4", "active for every class"),
    ):
        axes.bar(np.arange(len(units)), np.array(counts) / units, bottom=bottom, width=0.78, color=color, label=label)
        bottom = bottom + np.array(counts) / units
    axes.plot(
        table.share,
        linestyle="none",
        marker="_",
        markersize=18 if len(units) <= NAMED else 8,
        markeredgewidth=2.2,
        color=MOST,
        label="mean share dead, over the classes",
    )
    axes.set_title("Units that the class averages do not activate")
    axes.set_ylabel("share of the layer's units")
    axes.set_ylim(0, 1)
    axes.margins(x=0.01)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    name_layers(axes, [f"{n}\n{u}" for n, u in zip(short_names(table.layers), units, strict=True)])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _name_classes(axes: Axes, classes: Sequence[str], side: float, *, others: bool) -> None:
    """Names of the classes at the rows and at the columns, which end with all other outputs where there are others."""
    step = max(1, len(classes) // 25)
    ticks = range(0, len(classes), step)
    names = [shortened(classes[i], 0.9, 7.5) for i in ticks]
    size = float(np.clip(side / len(names) * 72 * 0.5, 4.5, 8))
    turned = max(map(len, names)) > 3
    across = ([*ticks, len(classes)], [*names, "another"]) if others else (ticks, names)
    axes.set_xticks(*across, fontsize=size, rotation=90 if turned or others else 0)
    axes.set_yticks(ticks, names, fontsize=size)
