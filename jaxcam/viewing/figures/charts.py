"""Figures made of numbers: confidence heat maps, similarity curves, dead units, pruning, training history."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jaxcam.viewing.colors import SHARE, finite
from jaxcam.viewing.figures.pictures import KINDS
from jaxcam.viewing.figures.style import (
    INK,
    LEAST,
    MARKERS,
    MOST,
    MUTED,
    RANDOM,
    RULE,
    SERIES,
    check_classes,
    short_names,
    shortened,
    styled,
)
from jaxcam.viewing.tables import (
    Pruned,
    Row,
    class_mean,
    curve_table,
    dead_table,
    history_table,
    pruning_table,
)

NUMBERED = 20
NAMED = 24
WAYS = (
    ("most", "most similar removed", MOST, "o"),
    ("least", "least similar removed", LEAST, "s"),
    ("random", "random units removed", RANDOM, "D"),
)


@styled
def confidence(confidences: Mapping[str, Float[Array | np.ndarray, "k k"]], classes: Sequence[str]) -> Figure:
    """Heat maps of what the network says about each class average: a row for each average, a column for each answer.

    Args:
        confidences: for each kind of average a softmax, shape (k, k), in [0, 1]; row i belongs to class i's average.
        classes: the k class names.

    Returns:
        The figure. Cells carry their numbers up to 20 classes.

    Raises:
        ValueError: no confidences, NaN, or not one name for each class.

    Example:
        >>> confidence({"simple": np.eye(3)}, ["a", "b", "c"]).get_axes()[0].get_title(loc="left")
        'mean of all images: 1.00 on the diagonal'
    """
    if not confidences:
        raise ValueError("no confidences to draw; jaxcam averages makes them")
    number = len(classes)
    side = float(np.clip(0.42 * number, 2.4, 5.0))
    columns = min(2, len(confidences))
    rows = -(-len(confidences) // columns)
    figure = Figure(figsize=(columns * (side + 1.1) + 0.6, rows * (side + 1.2)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (kind, values) in zip(panels, confidences.items(), strict=False):
        array = finite(values, f"the confidence {kind!r}")
        check_classes(len(array), classes, f"the confidences {kind!r}")
        axes.imshow(array, cmap=SHARE, vmin=0, vmax=1)
        axes.set_title(f"{KINDS.get(kind, kind)}: {np.diag(array).mean():.2f} on the diagonal")
        _name_classes(axes, classes, side)
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
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), SHARE), ax=list(panels), shrink=0.5, aspect=30, label="confidence (softmax)"
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
    figure = Figure(figsize=(max(8.4, 1.6 + 0.42 * len(layers) * 2), 3.9), layout="constrained")
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
                else {"color": RULE}
            )
            axes.plot(values[index], linewidth=0.9, label=name if named else None, **style)
        axes.plot(class_mean(values), color=INK, linewidth=2.6, label="mean of the classes", zorder=5)
        axes.set_title(title)
        axes.set_ylabel(metric if axes.get_subplotspec().is_first_col() else "")
        axes.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
        axes.margins(x=0.03)
        _name_layers(axes, layers)
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
    figure = Figure(figsize=(max(5.6, 1.8 + 0.5 * len(units)), 3.6), layout="constrained")
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
        markersize=18,
        markeredgewidth=2.2,
        color=MOST,
        label="mean share dead, over the classes",
    )
    axes.set_title("Units that the class averages do not activate")
    axes.set_ylabel("share of the layer's units")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    _name_layers(axes, [f"{n}\n{u}" for n, u in zip(short_names(table.layers), units, strict=True)])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def pruning(rows: Iterable[Row]) -> Figure:
    """Accuracy after removing a share of one layer's units: the most similar, the least similar, random ones.

    Args:
        rows: mappings (or dataclasses) with layer, units, live, which, seed, fraction and accuracy, as in pruning.csv.

    Returns:
        The figure: at the left all units take part, at the right only live ones; one row of panels for each share.
        Random removal is the mean ± one standard deviation over its seeds; the dashed line is the whole network.

    Raises:
        ValueError: no rows, a column missing, or an unknown way of choosing units.

    Paper: table 5-1 of the thesis on class average images. Differs from it by the two controls: random units, and
        the comparison among live units only.

    Example:
        >>> row = {"layer": "conv1", "units": 8, "live": 6, "seed": 0, "fraction": 0.4, "accuracy": 0.5}
        >>> figure = pruning([{**row, "which": "most"}, {**row, "which": "least_live"}])
        >>> len(figure.get_axes())
        2
    """
    table = pruning_table(rows)
    fractions = sorted({entry.fraction for entry in table})
    most = max(sum(entry.fraction == fraction for entry in table) for fraction in fractions)
    figure = Figure(figsize=(max(8.4, 1.4 + 0.8 * most), 0.3 + 3.5 * len(fractions)), layout="constrained")
    panels = figure.subplots(len(fractions), 2, squeeze=False, sharey=True)
    for fraction, (left, right) in zip(fractions, panels, strict=True):
        entries = [entry for entry in table if entry.fraction == fraction]
        _pruning_panel(left, entries, "", f"{fraction:.0%} of all units removed")
        _pruning_panel(right, entries, "_live", f"{fraction:.0%} of the live units removed")
        left.set_ylabel("test accuracy")
    handles: dict[str, Any] = {}
    for axes in panels.ravel():
        handles.update({label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)})
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return figure


def _pruning_panel(axes: Axes, entries: Sequence[Pruned], among: str, title: str) -> None:
    """One panel; `among` is "" for all units, "_live" for the live ones."""
    for shift, (way, label, color, marker) in zip((-0.16, 0.16, 0.0), WAYS, strict=True):
        found = [(i, e.accuracy[way + among]) for i, e in enumerate(entries) if way + among in e.accuracy]
        if found:
            bars = [s.deviation for _, s in found] if any(s.runs > 1 for _, s in found) else None
            axes.errorbar(
                [i + shift for i, _ in found],
                [s.mean for _, s in found],
                bars,
                color=color,
                marker=marker,
                markersize=5.5,
                linestyle="none",
                capsize=3,
                label=label if bars is None else f"{label} (mean ± sd)",
            )
    if entries[0].baseline is not None:
        axes.axhline(entries[0].baseline, color=INK, linestyle=(0, (4, 3)), linewidth=0.9, label="whole network")
    axes.set_title(title)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(-0.6, len(entries) - 0.4)
    counts = [f"{e.live} of {e.units} live" if among else f"{e.units}" for e in entries]
    names = short_names([e.layer for e in entries])
    _name_layers(axes, [f"{n}\n{c.replace(' live', '')}" for n, c in zip(names, counts, strict=True)])
    axes.set_xlabel("layer, and how many of its units are live" if among else "layer, and how many units it has")


@styled
def history(rows: Iterable[Row]) -> Figure:
    """Loss and accuracy by epoch, on training and test data.

    Args:
        rows: mappings (or dataclasses) with epoch, train_loss, train_accuracy, test_loss and test_accuracy,
            as in history.csv.

    Returns:
        The figure: losses at the left, with a mark at the lowest test loss, accuracies at the right.

    Raises:
        ValueError: no rows, or a column missing.

    Paper: figure 4-1 of the thesis on class average images.

    Example:
        >>> rows = [{"epoch": e, "train_loss": 1 / e, "train_accuracy": 0.9, "test_loss": 1, "test_accuracy": 0.8}
        ...         for e in (1, 2)]
        >>> [float(y) for y in history(rows).get_axes()[0].get_lines()[0].get_ydata()]
        [1.0, 0.5]
    """
    table = history_table(rows)
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    marker = "o" if len(table["epoch"]) <= 40 else None
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for data, color in (("train", MUTED), ("test", LEAST)):
            label = {"train": "training data", "test": "test data"}[data]
            axes.plot(
                table["epoch"], table[f"{data}_{quantity}"], color=color, marker=marker, markersize=3, label=label
            )
        axes.set_title(quantity.capitalize())
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, 1.02 if quantity == "accuracy" else None)
    loss, accuracy = figure.get_axes()
    best = int(np.nanargmin(table["test_loss"])) if np.isfinite(table["test_loss"]).any() else None
    if best is not None:
        loss.axvline(table["epoch"][best], color=RULE, linewidth=1.2, zorder=0)
        loss.text(
            table["epoch"][best],
            0.98,
            f" lowest test loss: epoch {table['epoch'][best]:.0f} ",
            va="top",
            ha="left" if best < len(table["epoch"]) / 2 else "right",
            color=MUTED,
            fontsize=7.5,
            transform=loss.get_xaxis_transform(),
        )
    last = table["test_accuracy"][-1]
    accuracy.annotate(
        f"{last:.1%}",
        (table["epoch"][-1], last),
        (0, -6),
        textcoords="offset points",
        ha="right",
        va="top",
        color=LEAST,
        fontweight="bold",
    )
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _name_layers(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names)
    longest = max(len(line) for name in names for line in name.split("\n"))
    if len(names) * longest > 56:
        axes.tick_params(axis="x", labelrotation=90 if len(names) > 16 else 40, labelsize=7)
        for label in axes.get_xticklabels():
            label.set(ha="center" if len(names) > 16 else "right", rotation_mode="anchor" if len(names) <= 16 else None)


def _name_classes(axes: Axes, classes: Sequence[str], side: float) -> None:
    step = max(1, len(classes) // 25)
    ticks = range(0, len(classes), step)
    names = [shortened(classes[i], 0.9, 7.5) for i in ticks]
    size = float(np.clip(side / len(names) * 72 * 0.5, 4.5, 8))
    turned = max(map(len, names)) > 3
    axes.set_xticks(ticks, names, fontsize=size, rotation=90 if turned else 0)
    axes.set_yticks(ticks, names, fontsize=size)
