"""The figure of a network: its layers from top to bottom, and what each of them reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from jaxcam.program import Layer
from jaxcam.viewing.figures.style import INK, MUTED, SERIES, Sheet, styled

LINE, MARGIN = 0.24, 0.3
KINDS = ("conv", "dense", "pool", "add", "concat", "relu", "tag")


@styled
def network_graph(layers: Sequence[Layer], edges: Sequence[tuple[str, str]], *, title: str = "") -> Figure:
    """A network's layers in the order of evaluation, with an arrow from each to those that read it.

    Args:
        layers: what `jc.layers` lists.
        edges: pairs (read, reader) of their names; "" for the images.
        title: a line above.

    Returns:
        The figure, a row for each layer: what follows directly is joined by a line, shortcuts are arcs at the left.

    Raises:
        ValueError: no layers, or an edge from or to a layer that is not there.

    Example:
        >>> found = [Layer("conv", "conv", (8, 8, 4), 4), Layer("head", "dense", (10,), 10)]
        >>> len(network_graph(found, [("", "conv"), ("conv", "head")]).get_axes()[0].patches)
        2
    """
    if not layers:
        raise ValueError("no layers to draw; jc.layers(model, x) lists those of a model")
    rows = {"": 0} | {layer.name: row for row, layer in enumerate(layers, 1)}
    for edge in edges:
        for name in edge:
            if name not in rows:
                raise ValueError(f"an edge {edge} names a layer {name!r} that is not there")
    longest = max((rows[b] - rows[a] for a, b in edges), default=1)
    left = MARGIN + 0.25 + 0.32 * float(np.sqrt(longest - 1))
    names = max(len(layer.name) for layer in layers)
    width = left + 0.25 + 0.075 * names + 2.2
    top = MARGIN + (0.35 if title else 0.1)
    sheet = Sheet(max(width, 3.5), top + LINE * len(rows) + MARGIN)
    if title:
        sheet.text(MARGIN, MARGIN - 0.1, title, fontsize=9.5, fontweight="bold")

    def place(row: int) -> tuple[float, float]:
        return left, top + LINE * (row + 0.5)

    small: dict[str, Any] = {"va": "center", "fontsize": 7.5}
    sheet.text(left + 0.2, place(0)[1], "images", color=MUTED, **small)
    sheet.axes.plot(*place(0), marker="o", color=MUTED, markersize=5)
    for row, layer in enumerate(layers, 1):
        x, y = place(row)
        color = SERIES[KINDS.index(layer.kind) % len(SERIES)] if layer.kind in KINDS else MUTED
        sheet.axes.plot(x, y, marker="o", color=color, markersize=5)
        sheet.text(x + 0.2, y, layer.name, color=INK, **small)
        shape = " × ".join(map(str, layer.shape))
        sheet.text(x + 0.35 + 0.075 * names, y, f"{layer.kind}  {shape}", color=MUTED, **small)
    for source, reader in edges:
        (x, above), (_, below) = place(rows[source]), place(rows[reader])
        far = rows[reader] - rows[source]
        # How much an arc bends falls with its length, so that long ones stay on the sheet.
        bend = 0.0 if far == 1 else 2 * (0.32 * float(np.sqrt(far - 1))) / (below - above)
        arrow = FancyArrowPatch(
            (x, above),
            (x, below),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=6,
            shrinkA=3,
            shrinkB=3,
            color=MUTED,
            linewidth=0.8,
        )
        sheet.axes.add_patch(arrow)
    return sheet.figure
