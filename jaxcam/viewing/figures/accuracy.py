"""Figures of accuracy: what removing units does to it, and how training went."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxcam.viewing.figures.style import (
    INK,
    LEAST,
    MOST,
    MUTED,
    NAMED,
    RANDOM,
    RULE,
    WIDEST,
    Drawing,
    name_layers,
    short_names,
    styled,
)
from jaxcam.viewing.tables import Pruned, Row, competing_words, history_table, pruning_table

WAYS = (
    ("most", "most similar removed", MOST, "o"),
    ("least", "least similar removed", LEAST, "s"),
    ("random", "random units removed", RANDOM, "D"),
)


@styled
def pruning(rows: Iterable[Row], *, among: str = "") -> Figure:
    """Accuracy after removing a share of one layer's units: the most similar, the least similar, random ones.

    Args:
        rows: mappings (or dataclasses) with layer, units, live, which, seed, fraction and accuracy, as in pruning.csv.
        among: which outputs competed for the prediction, in words; by default as many as the rows say.

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
    rows = list(rows)
    table = pruning_table(rows)
    among = among or competing_words(rows)
    fractions = sorted({entry.fraction for entry in table})
    most = max(sum(entry.fraction == fraction for entry in table) for fraction in fractions)
    figure = Drawing(
        figsize=(float(np.clip(1.4 + 0.8 * most, 8.4, WIDEST)), 0.3 + 3.5 * len(fractions)), layout="constrained"
    )
    panels = figure.subplots(len(fractions), 2, squeeze=False, sharey=True)
    for fraction, (left, right) in zip(fractions, panels, strict=True):
        entries = [entry for entry in table if entry.fraction == fraction]
        _pruning_panel(left, entries, "", f"{fraction:.0%} of all units removed")
        _pruning_panel(right, entries, "_live", f"{fraction:.0%} of the live units removed")
        left.set_ylabel("test accuracy")
    if among:
        figure.suptitle(f"An answer is the largest among {among}", fontsize=8.5, color=MUTED)
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
                markersize=5.5 if len(entries) <= NAMED else 3.5,
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
    name_layers(axes, [f"{n}\n{c.replace(' live', '')}" for n, c in zip(names, counts, strict=True)])
    also = ", and how many of its units are live" if among else ", and how many units it has"
    axes.set_xlabel("layer" + (also if len(entries) <= NAMED else ""))


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
    figure = Drawing(figsize=(8.4, 3.2), layout="constrained")
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
