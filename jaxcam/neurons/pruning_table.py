"""The table of a pruning study: its rows, its file, and the plain figures drawn from it."""

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam.files import write_atomically

WHICH = ("none", "most", "least", "random", "most_live", "least_live", "random_live")


@dataclasses.dataclass(frozen=True)
class PruningRow:
    """One measurement: what was removed from a layer, and the accuracy without it.

    Attributes:
        layer: the layer's name.
        units: how many units it has.
        live: how many of them are live.
        which: one of `WHICH`: "none" removes nothing; "most" and "least" the most and the least similar units, "random"
            any; "…_live" the same among live units only.
        seed: of a random choice; None for the others.
        fraction: share of the units (of the live units) removed.
        accuracy: share of the images classified correctly, in [0, 1].
        competing: among how many outputs the largest was the answer; None where an older table does not say.
    """

    layer: str
    units: int
    live: int
    which: str
    seed: int | None
    fraction: float
    accuracy: float
    competing: int | None = None


@dataclasses.dataclass(frozen=True)
class PruningSummary:
    """The plain figures of one layer, all accuracies in [0, 1].

    Attributes:
        layer: the layer's name.
        units: how many units it has.
        live: how many of them are live.
        none: accuracy with all units.
        most: without the most similar ones.
        least: without the least similar ones.
        random_mean: mean without as many random ones, over seeds.
        random_sd: standard deviation of the same (of a sample, n − 1); NaN for one seed.
        beyond_random: whether |most − least| exceeds the spread of the random accuracies, largest − smallest; None for
            one seed, which has no spread.
        most_live: as `most`, among live units only.
        least_live: as `least`, among live units only.
        random_live_mean: as `random_mean`, among live units only.
        random_live_sd: as `random_sd`, among live units only.
        beyond_random_live: as `beyond_random`, among live units only: whether similarity ranks units that do anything.
    """

    layer: str
    units: int
    live: int
    none: float
    most: float
    least: float
    random_mean: float
    random_sd: float
    beyond_random: bool | None
    most_live: float
    least_live: float
    random_live_mean: float
    random_live_sd: float
    beyond_random_live: bool | None


def summarize_pruning(rows: Sequence[PruningRow]) -> list[PruningSummary]:
    """Draws the plain figures of each layer together.

    Args:
        rows: of `pruning_study` or `read_pruning`, of one fraction.

    Returns:
        One summary per layer, in the order of the rows.

    Raises:
        ValueError: a layer lacks a kind of row, or there are several fractions.

    Example:
        >>> kinds = [("none", 0.7), ("most", 0.1), ("least", 0.6), ("random", 0.3), ("random", 0.5)]
        >>> rows = [PruningRow("conv1", 8, 4, which + live, None, 0.4, accuracy)
        ...         for live in ("", "_live") for which, accuracy in kinds if which + live in WHICH]
        >>> summary = summarize_pruning(rows)[0]
        >>> summary.random_mean, summary.beyond_random
        (0.4, True)
    """
    if len({row.fraction for row in rows}) > 1:
        raise ValueError("rows of several fractions; summarize them one by one")
    summaries = []
    for layer in dict.fromkeys(row.layer for row in rows):
        own = [row for row in rows if row.layer == layer]
        found = {which: [row.accuracy for row in own if row.which == which] for which in WHICH}
        missing = [which for which in WHICH if not found[which]]
        if missing:
            raise ValueError(f"layer '{layer}' has no row of kind {', '.join(missing)}")
        figures: dict[str, Any] = {which: found[which][0] for which in WHICH if not which.startswith("random")}
        for suffix in ("", "_live"):
            drawn = np.array(found["random" + suffix])
            several = len(drawn) > 1
            difference = abs(figures["most" + suffix] - figures["least" + suffix])
            figures[f"random{suffix}_mean"] = float(drawn.mean())
            figures[f"random{suffix}_sd"] = float(drawn.std(ddof=1)) if several else float("nan")
            figures[f"beyond_random{suffix}"] = bool(difference > np.ptp(drawn)) if several else None
        summaries.append(PruningSummary(layer, own[0].units, own[0].live, **figures))
    return summaries


def write_pruning(path: str | os.PathLike[str], rows: Sequence[PruningRow]) -> Path:
    """Writes rows as a CSV file with a header, whole or not at all.

    Args:
        path: the file, in an existing directory.
        rows: of `pruning_study`.

    Returns:
        The path written. `seed` and `competing` are empty where there is none; numbers are written so that they read
        back the same.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> row = PruningRow("conv1", 8, 4, "most", None, 0.4, 0.25)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read_pruning(write_pruning(Path(folder) / "pruning.csv", [row])) == [row]
        True
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(PruningRow))
    writer.writerows(dataclasses.astuple(row) for row in rows)
    return write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def read_pruning(path: str | os.PathLike[str]) -> list[PruningRow]:
    """Reads what `write_pruning` wrote.

    Args:
        path: the CSV file.

    Returns:
        Its rows. Tables of before have no column `competing`.

    Raises:
        ValueError: it has other columns, or a line does not read; the message names file and line.
        FileNotFoundError: there is no such file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "pruning.csv"
        ...     read_pruning(write_pruning(path, [PruningRow("conv1", 8, 4, "random", 3, 0.4, 0.25)]))[0].seed
        3
    """
    columns = [field.name for field in dataclasses.fields(PruningRow)]
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames not in (columns, columns[:-1]):
            raise ValueError(f"{path} is no table of a pruning study; its columns are not {','.join(columns)}")
        rows = []
        for line in reader:
            try:
                row = PruningRow(
                    line["layer"],
                    int(line["units"]),
                    int(line["live"]),
                    line["which"],
                    int(line["seed"]) if line["seed"] else None,
                    float(line["fraction"]),
                    float(line["accuracy"]),
                    int(line["competing"]) if line.get("competing") else None,
                )
                # A cell too many is under None, a cell too few is None.
                if row.which not in WHICH or None in line or None in line.values():
                    raise ValueError
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: not a row of a pruning study") from error
            rows.append(row)
    return rows
