"""Rows of the CSV files as numbers, and what charts and sentences both need of them.

A CSV row may come from `csv.DictReader`, where everything is text, or straight from the function that made it.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float

from jaxcam.viewing.colors import finite

HISTORY = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
WHICH = ("none", "most", "least", "random", "most_live", "least_live", "random_live")
PRUNING = ("layer", "units", "live", "which", "seed", "fraction", "accuracy")


@runtime_checkable
class Record(Protocol):
    """A dataclass, as the study's functions return rows."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Row = Mapping[str, Any] | Record


class Spread(NamedTuple):
    """Several runs of one measurement: their mean, their standard deviation (n − 1; 0 for one run), their number."""

    mean: float
    deviation: float
    runs: int


class Pruned(NamedTuple):
    """What removing a share of one layer's units did to the accuracy.

    Attributes:
        layer: the layer's name.
        units: how many it has.
        live: how many of them some class average activates.
        fraction: the share removed, in [0, 1].
        accuracy: for each way of choosing them ("most", "least", "random", and the same with "_live", which choose
            among the live units only) the accuracy afterwards; "none" is the network as it was.
    """

    layer: str
    units: int
    live: int
    fraction: float
    accuracy: dict[str, Spread]

    @property
    def baseline(self) -> float | None:
        """The accuracy before anything was removed, where it was measured."""
        return self.accuracy["none"].mean if "none" in self.accuracy else None


def history_table(rows: Iterable[Row]) -> dict[str, Float[np.ndarray, " e"]]:
    """Training history by column, in the order of the epochs.

    Args:
        rows: mappings (or dataclasses) with epoch, train_loss, train_accuracy, test_loss and test_accuracy.

    Returns:
        For each of these names one array.

    Raises:
        ValueError: no rows, or one without a column.

    Example:
        >>> row = {"epoch": "1", "train_loss": "2", "train_accuracy": ".1", "test_loss": "2", "test_accuracy": ".2"}
        >>> history_table([row])["test_accuracy"].tolist()
        [0.2]
    """
    records = sorted(_complete(rows, HISTORY, "the training history"), key=lambda row: float(row["epoch"]))
    return {name: np.array([_number(row, name) for row in records]) for name in HISTORY}


def pruning_table(rows: Iterable[Row]) -> list[Pruned]:
    """Pruning measurements gathered by layer and share, seeds averaged.

    Args:
        rows: mappings (or dataclasses) with layer, units, live, which, seed, fraction and accuracy. Rows with
            which = "none" are the baseline of all, whatever layer and share they name.

    Returns:
        One entry for each share and layer, in the order in which they came.

    Raises:
        ValueError: no rows, one without a column, or an unknown way of choosing.

    Example:
        >>> row = {"layer": "conv1", "units": 8, "live": 6, "seed": 0, "fraction": 0.4}
        >>> rows = [{**row, "which": "most", "accuracy": 0.5}, {**row, "which": "none", "accuracy": 0.9}]
        >>> pruning_table(rows)[0].accuracy["most"]
        Spread(mean=0.5, deviation=0.0, runs=1)
    """
    gathered: dict[tuple[float, str], dict[str, list[float]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    baselines: list[float] = []
    for row in _complete(rows, PRUNING, "the pruning table"):
        which, layer = str(row["which"]), str(row["layer"] or "")
        if which not in WHICH:
            raise ValueError(
                f"the pruning table has a row with which = {which!r}; it must be one of {', '.join(WHICH)}"
            )
        accuracy = _number(row, "accuracy")
        if which == "none":
            baselines.append(accuracy)
            continue
        gathered.setdefault((_number(row, "fraction"), layer), {}).setdefault(which, []).append(accuracy)
        sizes[layer] = int(_number(row, "units")), int(_number(row, "live"))
    if not gathered:
        raise ValueError("the pruning table has a baseline and nothing else; jaxcam prune makes a whole one")
    if baselines:
        for ways in gathered.values():
            ways["none"] = [float(np.mean(baselines))]
    return [
        Pruned(layer, *sizes[layer], fraction, {which: _spread(values) for which, values in ways.items()})
        for (fraction, layer), ways in sorted(gathered.items(), key=lambda item: item[0][0])
    ]


def competing_words(rows: Iterable[Row]) -> str:
    """Among how many outputs the accuracies of a pruning table are; "" where the table does not say.

    Example:
        >>> competing_words([{"layer": "conv1", "competing": "1000"}]), competing_words([{"layer": "conv1"}])
        ('1,000 outputs', '')
    """
    numbers = sorted({int(number) for row in rows if (number := _mapping(row).get("competing"))})
    return f"{' or '.join(f'{number:,}' for number in numbers)} outputs" if numbers else ""


def by_class(values: Float[np.ndarray, "k o"], outputs: Sequence[int] | None = None) -> Float[np.ndarray, "k _"]:
    """Confidences in the classes of the data, and in a last column what all other outputs have together.

    Args:
        values: a softmax over o outputs for the average of each class.
        outputs: the column of each class; by default 0, 1, …

    Returns:
        (k, k) where there are no other outputs, else (k, k + 1); rows sum to 1.

    Raises:
        ValueError: a class has no column, or not each average has a class.

    Example:
        >>> by_class(np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]]), [2, 0]).round(9).tolist()
        [[0.3, 0.5, 0.2], [0.8, 0.1, 0.1]]
    """
    columns = list(range(len(values)) if outputs is None else outputs)
    if len(columns) != len(values) or max(columns) >= values.shape[1]:
        raise ValueError(
            f"confidences {values.shape} are (classes, outputs); got outputs up to {max(columns)} "
            f"for {len(columns)} classes"
        )
    own = values[:, columns]
    if values.shape[1] == len(columns):
        return own
    return np.column_stack([own, (1 - own.sum(1)).clip(0, 1)])


def decimals(value: float) -> str:
    """A share with two decimals, or where these would say nothing with two digits.

    Example:
        >>> [decimals(value) for value in (0.584, 0.0095, 0.00015, 4e-8, 0.0)]
        ['0.58', '0.0095', '0.00015', '< 0.0001', '0.00']
    """
    if 0 < value < 0.0001:
        return "< 0.0001"
    return f"{value:.2g}" if 0 < value < 0.01 else f"{value:.2f}"


class Curves(NamedTuple):
    """Mean and standard deviation of the similarities within each layer, both (k, layers); NaN where no unit counts."""

    mean: Float[np.ndarray, "k l"]
    deviation: Float[np.ndarray, "k l"]


def curve_table(
    similarity: Mapping[str, Float[Array | np.ndarray, "k _"]],
    dead: Mapping[str, Bool[Array | np.ndarray, "k _"]] | None = None,
) -> Curves:
    """Mean and standard deviation over a layer's units, for each class.

    Args:
        similarity: for each layer, shape (k, units).
        dead: for each layer, which units a class does not activate, shape (k, units); then only the others count.

    Returns:
        The curves; the deviation is that of the population (divided by n), as in the thesis' figures.

    Raises:
        ValueError: NaN, or no layers.

    Example:
        >>> curve_table({"conv1": np.array([[0.0, 1.0]])}).mean.tolist()
        [[0.5]]
    """
    if not similarity:
        raise ValueError("no similarities to draw; jaxcam neurons makes them")
    means, deviations = [], []
    for layer, values in similarity.items():
        values = np.asarray(finite(values, f"the similarity of layer {layer!r}"), dtype=float)
        counts = np.ones_like(values) if dead is None else 1.0 - np.asarray(dead[layer])
        number = np.where(counts.sum(1) == 0, np.nan, counts.sum(1))
        mean = (values * counts).sum(1) / number
        means.append(mean)
        deviations.append(np.sqrt((counts * (values - np.nan_to_num(mean)[:, None]) ** 2).sum(1) / number))
    return Curves(np.stack(means, 1), np.stack(deviations, 1))


def class_mean(values: Float[np.ndarray, "k l"]) -> Float[np.ndarray, " l"]:
    """The mean over classes, of those that have a value in a layer; NaN where none has.

    Example:
        >>> class_mean(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
        [2.0, nan]
    """
    known = ~np.isnan(values)
    number = np.where(known.any(0), known.sum(0), np.nan)
    return np.where(known, values, 0).sum(0) / number


class Deadness(NamedTuple):
    """Units of each layer, counted: no class average activates them, some do, all do; and the mean share dead."""

    layers: list[str]
    units: list[int]
    always: list[int]
    sometimes: list[int]
    never: list[int]
    share: list[float]


def dead_table(dead: Mapping[str, Bool[Array | np.ndarray, "k _"]]) -> Deadness:
    """Counts dead units.

    Args:
        dead: for each layer, which units a class does not activate, shape (k, units).

    Returns:
        The counts; `share` is the mean over classes of the share of dead units, in [0, 1].

    Raises:
        ValueError: no layers.

    Example:
        >>> dead_table({"conv1": np.array([[True, True, False], [True, False, False]])})[2:]
        ([1], [1], [1], [0.5])
    """
    if not dead:
        raise ValueError("no layers whose dead units could be counted; jaxcam neurons makes them")
    arrays = {layer: np.asarray(value) for layer, value in dead.items()}
    return Deadness(
        list(arrays),
        [a.shape[1] for a in arrays.values()],
        [int(a.all(0).sum()) for a in arrays.values()],
        [int((a.any(0) & ~a.all(0)).sum()) for a in arrays.values()],
        [int((~a.any(0)).sum()) for a in arrays.values()],
        [float(a.mean()) for a in arrays.values()],
    )


def _complete(rows: Iterable[Row], columns: Sequence[str], what: str) -> list[Mapping[str, Any]]:
    mappings = [_mapping(row) for row in rows]
    if not mappings:
        raise ValueError(f"{what} has no rows")
    for row in mappings:
        missing = [name for name in columns if name not in row]
        if missing:
            raise ValueError(f"{what} lacks the column {missing[0]!r}; it has {', '.join(map(str, row))}")
    return mappings


def _mapping(row: Row) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    return dataclasses.asdict(row)


def _number(row: Mapping[str, Any], column: str) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise ValueError(f"{row[column]!r} in the column {column!r} is not a number") from None


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, len(values))
