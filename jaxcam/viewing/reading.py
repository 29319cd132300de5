"""What the numbers say, in words computed from them: the sentences of the report.

A sentence states what was measured and claims no more. "Clearly" always means by more than two standard deviations
over the seeds of the random control.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxcam.viewing.tables import Deadness, Pruned, Spread, class_mean, decimals

MORE_THAN_CHANCE = 2.0
SMALL_IS_GOOD = {"deletion": True, "insertion": False, "average_drop": True, "average_increase": False}


def training(table: Mapping[str, Float[np.ndarray, " e"]]) -> str:
    """How training went: the last epoch, and whether the test loss had its best time before.

    Args:
        table: the columns of `tables.history_table`.

    Returns:
        Two sentences, or one where the test loss is unknown.

    Example:
        >>> columns = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
        >>> training(dict(zip(columns, np.array([[1, 2], [2, 0.1], [0.2, 0.99], [1, 1.5], [0.4, 0.7]]))))[-57:]
        'has risen from 1.00 to 1.50 since, a sign of overfitting.'
    """
    epochs, loss = table["epoch"], table["test_loss"]
    said = (
        f"After {epochs[-1]:.0f} epoch{'' if epochs[-1] == 1 else 's'} the network names "
        f"{table['test_accuracy'][-1]:.1%} of the test images correctly, "
        f"and {table['train_accuracy'][-1]:.1%} of the training images."
    )
    if not np.isfinite(loss).all():
        return said
    best = int(np.argmin(loss))
    if loss[-1] > 1.25 * loss[best] and loss[-1] > loss[best] + 0.05:
        return (
            f"{said} The test loss was lowest in epoch {epochs[best]:.0f} and has risen from {loss[best]:.2f} to "
            f"{loss[-1]:.2f} since, a sign of overfitting."
        )
    return f"{said} The test loss was lowest in epoch {epochs[best]:.0f}."


def per_class(accuracies: Mapping[str, float]) -> str:
    """The best and the hardest class.

    Example:
        >>> per_class({"cat": 0.5, "dog": 0.9})
        'The easiest class is “dog” (90.0%), the hardest “cat” (50.0%).'
    """
    best, worst = max(accuracies, key=accuracies.__getitem__), min(accuracies, key=accuracies.__getitem__)
    return f"The easiest class is “{best}” ({accuracies[best]:.1%}), the hardest “{worst}” ({accuracies[worst]:.1%})."


def confidence(
    values: Float[np.ndarray, "k o"],
    classes: Sequence[str],
    *,
    outputs: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    among: str = "",
) -> str:
    """How many class averages the network recognizes, and one that it does not.

    Args:
        values: a softmax over o outputs for the average of each class.
        classes: their names.
        outputs: the column of each class; by default 0, 1, …
        names: of all outputs; by default those of the classes.
        among: which outputs the softmax is over, in words.

    Example:
        >>> confidence(np.array([[0.9, 0.1], [0.8, 0.2]]), ["cat", "dog"])
        'recognizes 1 of 2; takes “dog” for “cat” (0.80).'
        >>> confidence(np.array([[0.1, 0.2, 0.7]]), ["cat"], names=["cat", "dog", "ox"], among="all 3 outputs")
        'recognizes 0 of 1 among all 3 outputs; takes “cat” for “ox” (0.70).'
    """
    columns = list(range(len(values)) if outputs is None else outputs)
    titles = list(classes if names is None else names)
    answers = [int(i) for i in values.argmax(1)]
    right = np.array([own == answer for own, answer in zip(columns, answers, strict=True)])
    where = f" among {among}" if among else ""
    if right.all():
        own = values[np.arange(len(values)), columns].mean()
        return f"recognizes all {len(classes)}{where}, with a mean confidence of {decimals(float(own))}."
    wrong = max((int(i) for i in np.flatnonzero(~right)), key=lambda i: float(values[i, answers[i]]))
    answer = answers[wrong]
    return (
        f"recognizes {int(right.sum())} of {len(classes)}{where}; takes “{classes[wrong]}” for "
        f"“{titles[answer]}” ({values[wrong, answer]:.2f})."
    )


def curves(
    values: Float[np.ndarray, "k l"], layers: Sequence[str], classes: Sequence[str], *, larger_is_similar: bool = True
) -> str:
    """Where the curve peaks, where it ends, and which class strays farthest below.

    Args:
        values: mean similarities, NaN where no unit counts.
        layers: their names.
        classes: their names.
        larger_is_similar: False for a distance.

    Returns:
        One or two sentences.

    Example:
        >>> curves(np.array([[0.1, 0.5, 0.4], [0.1, 0.3, 0.2]]), ["a", "b", "c"], ["cat", "dog"])[:60]
        'Averaged over classes, similarity peaks in b (0.40) and is 0'
    """
    mean = class_mean(values)
    if np.isnan(mean).all():
        return "No class average activates any unit."
    sign = 1 if larger_is_similar else -1
    word = "similarity" if larger_is_similar else "closeness"
    best = int(np.nanargmax(sign * mean))
    last = int(np.flatnonzero(~np.isnan(mean))[-1])
    said = f"Averaged over classes, {word} peaks in {layers[best]} ({number(mean[best])})"
    said += "." if best == last else f" and is {number(mean[last])} in {layers[last]}, the last layer."
    away = np.nan_to_num(sign * (values - mean))
    if len(classes) > 1 and away.min() < 0:
        low = divmod(int(away.argmin()), away.shape[1])
        said += (
            f" The class farthest below the mean is “{classes[low[0]]}”, in {layers[low[1]]} "
            f"({number(float(values[low]))} against {number(mean[low[1]])})."
        )
    return said


def dead(table: Deadness, classes: int) -> str:
    """How many units are dead, where most, and whether it is more the deeper the layer.

    Example:
        >>> dead(Deadness(["a", "b"], [4, 4], [0, 2], [1, 0], [3, 2], [0.1, 0.5]), 10)[:50]
        '2 of the 8 units (25%) are dead for every one of t'
    """
    always, units = sum(table.always), sum(table.units)
    said = f"{always:,} of the {units:,} units ({always / units:.0%}) are dead for every one of the {classes} averages."
    if len(table.layers) < 2:
        return said
    most = int(np.argmax(table.share))
    said += f" The layer with most dead units is {table.layers[most]}: {table.share[most]:.0%} on the mean over classes"
    if table.share == sorted(table.share) and table.share[0] < table.share[-1]:
        return said + f"; the share grows with depth, from {table.share[0]:.0%} in {table.layers[0]}."
    return said + f", against {table.share[0]:.0%} in {table.layers[0]}, the first."


class Verdict(NamedTuple):
    """How often removing the most similar units was the worst one could do, over the layers where it can be told."""

    layers: int
    worse_than_least: int
    compared: int
    clearly_worse_than_random: int


def verdict(entries: Sequence[Pruned], *, live: bool) -> Verdict:
    """Counts the layers in which similarity found the units that matter.

    Args:
        entries: of one share, from `tables.pruning_table`.
        live: look at the comparison among live units.

    Returns:
        The counts. Clearly: lower than the mean of random removals by more than two standard deviations.

    Example:
        >>> ways = {"most": Spread(0.1, 0, 1), "least": Spread(0.9, 0, 1), "random": Spread(0.8, 0.1, 5)}
        >>> verdict([Pruned("conv1", 8, 8, 0.4, ways)], live=False)
        Verdict(layers=1, worse_than_least=1, compared=1, clearly_worse_than_random=1)
    """
    tail = "_live" if live else ""
    ways = [e.accuracy for e in entries if {"most" + tail, "least" + tail} <= e.accuracy.keys()]
    controlled = [way for way in ways if "random" + tail in way]
    return Verdict(
        len(ways),
        sum(way["most" + tail].mean < way["least" + tail].mean for way in ways),
        len(controlled),
        sum(_clearly_below(way["most" + tail], way["random" + tail]) for way in controlled),
    )


def pruning(entries: Sequence[Pruned]) -> list[str]:
    """What pruning says about the measure, in a few sentences.

    Args:
        entries: of one share, from `tables.pruning_table`.

    Returns:
        The layer in which it mattered most; how often it mattered; whether it does so among live units; what follows.

    Example:
        >>> ways = {"most": Spread(0.1, 0, 1), "least": Spread(0.9, 0, 1), "random": Spread(0.8, 0.1, 5)}
        >>> pruning([Pruned("a", 8, 8, 0.4, ways)])[0]
        'Removing the most similar 40% of a’s units leaves 0.10; least similar: 0.90; random: 0.80 ± 0.10 (5 seeds).'
    """
    said = []
    told = [e for e in entries if {"most", "least"} <= e.accuracy.keys()]
    if told:
        said.append(one_layer(max(told, key=lambda e: e.accuracy["least"].mean - e.accuracy["most"].mean)))
    among_all, among_live = verdict(entries, live=False), verdict(entries, live=True)
    if among_all.layers:
        said.append(f"Removing the most similar units costs more than removing the least similar {_counts(among_all)}.")
    if among_live.layers:
        said.append(f"When only live units compete, it costs more {_counts(among_live)}.")
    if among_all.compared and among_live.compared:
        said.append(_conclusion(among_all, among_live))
    return said


def one_layer(entry: Pruned, *, live: bool = False) -> str:
    """One layer's measurements as a sentence."""
    tail, whose = ("_live", "live units") if live else ("", "units")
    before = f"drops accuracy from {entry.baseline:.2f} to" if entry.baseline is not None else "leaves"
    most, least = entry.accuracy["most" + tail], entry.accuracy["least" + tail]
    if entry.baseline is not None and most.mean >= entry.baseline:
        before = f"changes accuracy from {entry.baseline:.2f} to"
    said = f"Removing the most similar {entry.fraction:.0%} of {entry.layer}’s {whose} {before} {spread(most)}; "
    said += f"least similar: {spread(least)}"
    if "random" + tail in entry.accuracy:
        said += f"; random: {spread(entry.accuracy['random' + tail], seeds=True)}"
    return said + "."


def spread(value: Spread, *, seeds: bool = False) -> str:
    """A mean with its standard deviation, where there is one.

    Example:
        >>> spread(Spread(0.8, 0.05, 5)), spread(Spread(0.8, 0.05, 5), seeds=True), spread(Spread(0.8, 0.0, 1))
        ('0.80 ± 0.05', '0.80 ± 0.05 (5 seeds)', '0.80')
    """
    if value.runs < 2:
        return f"{value.mean:.2f}"
    return f"{value.mean:.2f} ± {value.deviation:.2f}" + (f" ({value.runs} seeds)" if seeds else "")


def number(value: float) -> str:
    """Two decimals with a real minus sign, and none before zero.

    Example:
        >>> number(-0.256), number(-0.001)
        ('−0.26', '0.00')
    """
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def _clearly_below(most: Spread, random: Spread) -> bool:
    return random.runs > 1 and most.mean < random.mean - MORE_THAN_CHANCE * random.deviation


def _counts(counted: Verdict) -> str:
    said = f"in {counted.worse_than_least} of {counted.layers} layers"
    if counted.compared:
        said += f", and clearly more than removing random ones in {counted.clearly_worse_than_random}"
    return said


def _conclusion(among_all: Verdict, among_live: Verdict) -> str:
    """Half of the layers or more is taken to mean that it works."""
    works = 2 * among_all.clearly_worse_than_random >= among_all.compared
    works_live = 2 * among_live.clearly_worse_than_random >= among_live.compared
    if works_live:
        return "So here similarity finds units that the network relies on, among the live ones too."
    if works:
        return (
            "So here similarity mostly tells live units from dead ones; among live units its order says little about "
            "which of them the network relies on."
        )
    return "So here similarity does not single out the units that the network relies on."
