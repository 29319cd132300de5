"""The network as the overview draws it: a row for each layer, and what each of them reads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxcam.program import Layer

ROW = 34  # pixels
MARGIN = 14
SPREAD = 9  # how far a shortcut over one layer leaves the line


class Drawing(NamedTuple):
    """Where the dots and the lines are, in pixels.

    Attributes:
        width, height: of the whole.
        x: of all dots.
        dots: the middle of each row, that of the images first.
        paths: of the lines, as SVG writes them.
    """

    width: int
    height: int
    x: int
    dots: list[float]
    paths: list[str]


def wires(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> Drawing:
    """Straight lines from row to row, shortcuts as arcs to the left of them.

    Args:
        names: of the layers, in the order of evaluation.
        edges: pairs (read, reader) of names; "" for the images.

    Returns:
        The drawing.

    Example:
        >>> wires(["a", "b"], [("", "a"), ("a", "b"), ("", "b")]).paths
        ['M23 17V51', 'M23 51V85', 'M23 17C14 17 14 85 23 85']
    """
    rows = {"": 0} | {name: row for row, name in enumerate(names, 1)}
    longest = max((rows[b] - rows[a] for a, b in edges), default=1)
    x = MARGIN + round(SPREAD * float(np.sqrt(longest - 1)))
    dots = [ROW * (row + 0.5) for row in range(len(rows))]
    paths = []
    for source, reader in edges:
        far = rows[reader] - rows[source]
        begin, end = dots[rows[source]], dots[rows[reader]]
        away = x - SPREAD * float(np.sqrt(max(far - 1, 0)))
        if far == 1:
            paths.append(f"M{x} {begin:g}V{end:g}")
        else:
            paths.append(f"M{x} {begin:g}C{away:g} {begin:g} {away:g} {end:g} {x} {end:g}")
    return Drawing(x + MARGIN, ROW * len(rows), x, dots, paths)


def chain(layers: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> tuple[list[Layer], list[tuple[str, str]]]:
    """A sweep's layers one below the other, where the network itself cannot be asked who reads whom.

    Example:
        >>> chain(["a", "b"], [(8, 8, 4), (4, 4, 2)])[1]
        [('', 'a'), ('a', 'b')]
    """
    found = [Layer(name, "conv", shape, shape[-1] if shape else 0) for name, shape in zip(layers, shapes, strict=True)]
    return found, list(zip(["", *layers], layers, strict=False))
