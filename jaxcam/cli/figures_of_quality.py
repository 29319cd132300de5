"""What `jaxcam compare` measures of each map, and how it is put down."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

from jaxcam import quality
from jaxcam.cli.classes import in_batches
from jaxcam.cli.explanations import Asked
from jaxcam.files import write_atomically
from jaxcam.viewing.reading import SMALL_IS_GOOD

Measured = dict[str, dict[str, np.ndarray]]
"""method → figure → (n,)."""

FIGURES: dict[str, Callable[..., Any]] = {
    "deletion": lambda *asked, steps: quality.deletion(*asked, steps=steps).area,
    "insertion": lambda *asked, steps: quality.insertion(*asked, steps=steps).area,
    "average_drop": lambda *asked, steps: quality.average_drop(*asked),
    "average_increase": lambda *asked, steps: quality.average_increase(*asked),
}


CONTROL = "random"
"""Maps of independent random numbers: what a method has to be better than."""

SECONDS = "s/image"


def control(images: np.ndarray, seed: int) -> np.ndarray:
    """Maps that know nothing, (n, h, w), each image's own."""
    generator = np.random.default_rng([seed, 1])
    return generator.random(images.shape[:3], np.float32)


def measured(
    asked: Asked, maps: Mapping[str, np.ndarray], names: Sequence[str], *, steps: int, batch: int, progress: bool
) -> Measured:
    """Every figure of every map.

    Args:
        asked: network, images and what is explained.
        maps: by method, (n, …).
        names: of figures.
        steps: of curves.
        batch: images at once.
        progress: show a bar.

    Returns:
        Figures (n,); NaN where a map is the same everywhere and ranks nothing.
    """
    parts = in_batches(asked.photographs.images, batch)
    found: Measured = {}
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("measuring", total=len(maps) * len(names) * len(parts))
        for method, values in maps.items():
            flat = values.reshape(len(values), -1)
            blank = flat.min(1) == flat.max(1)
            # Any ranking will do in its place: what is measured of it is not kept.
            ranking = np.where(blank[:, None], np.arange(flat.shape[1]), flat).astype(flat.dtype).reshape(values.shape)
            found[method] = {}
            for name in names:
                bar.update(task, description=f"{name} of {method}")
                figures = np.empty(len(values))
                for rows, part, count in parts:
                    fill = np.minimum(np.arange(len(part)), count - 1)
                    map, target = jnp.asarray(ranking[rows][fill]), asked.explained[rows][fill]
                    answer = FIGURES[name](asked.network.model, jnp.asarray(part), map, target, steps=steps)
                    figures[rows] = np.asarray(answer, float)[:count]
                    bar.advance(task)
                found[method][name] = np.where(blank, np.nan, figures)
    return found


def summary(found: Measured, seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row for each method: means over the images whose maps say something, how many do not, and its time."""
    rows = []
    for method, figures in found.items():
        blank = int(np.isnan(next(iter(figures.values()))).sum())
        means = {
            name: None if np.isnan(values).all() else float(np.nanmean(values)) for name, values in figures.items()
        }
        spent = seconds.get(method.partition(":")[0])
        rows.append({"method": method, **means, "seconds": spent, "blank": blank})
    return rows


def best(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The best mean of a figure among the methods."""
    values = [row[name] for row in rows if row[name] is not None and row["method"] != CONTROL]
    if not values:
        return None
    return min(values) if SMALL_IS_GOOD[name] else max(values)


def cells(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The summary as a reader sees it: which way is good in the header, a dash where there is nothing."""
    arrows = [f"{name} {'↓' if SMALL_IS_GOOD[name] else '↑'}" for name in names]
    shows_blank = any(row["blank"] for row in rows)
    header = ["method", *arrows, SECONDS, *(["blank maps"] if shows_blank else [])]

    def number(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    lines = [
        [
            row["method"],
            *(number(row[name], 3) for name in names),
            number(row["seconds"], 2),
            *([str(row["blank"])] if shows_blank else []),
        ]
        for row in rows
    ]
    return header, lines


def markdown(rows: Sequence[Mapping[str, Any]], names: Sequence[str], count: int) -> str:
    """The summary as a table for a page, the best of each column bold; without times, which no two runs have alike."""
    header, lines = cells(rows, names)
    time = header.index(SECONDS)
    for line in (header, *lines):
        del line[time]
    tops = {name: best(rows, name) for name in names}
    for row, line in zip(rows, lines, strict=True):
        for place, name in enumerate(names, start=1):
            if row["method"] != CONTROL and row[name] is not None and row[name] == tops[name]:
                line[place] = f"**{line[place]}**"
    rule = ["---", *["---:"] * (len(header) - 1)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))
    return (
        f"{text}\n\nMeans over {count} images; ↓ small is good, ↑ large is good; "
        f"bold: the best method, the control aside; {CONTROL}: maps that know nothing.\n"
    )


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table, whole or not at all; nothing where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if value is None or value != value else value for value in row] for row in rows])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
