"""The figure of a network's weights: the filters that meet the image, and the spread of every layer's weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcam.viewing.colors import finite, signed_picture
from jaxcam.viewing.figures.style import LEAST, MOST, MUTED, Drawing, short_names, styled

SHOWN, COLUMNS = 128, 16


@styled
def weights(kernels: Mapping[str, Float[Any, "..."]], *, title: str = "") -> Figure:
    """The filters of the first convolution as pictures, and below the spread of the weights of each layer.

    A filter of three channels is a color, grey where it is zero; one of another number is the mean of its channels, red
    where positive and blue where negative. Each has its own scale: it shows what the unit answers to, not how strongly.

    Args:
        kernels: what `jaxcam.program.kernels` reads off a model: (h, w, i, o) of convolutions, (i, o) of dense layers.
        title: a line above.

    Returns:
        The figure: at most 128 filters, then for each layer the median, the middle half and 1 % to 99 % of its weights,
        in units of 1/√(inputs), with which the variance of a layer's values stays about the same.

    Raises:
        ValueError: no kernels, or NaN in one.

    Example:
        >>> weights({"conv": np.ones((3, 3, 1, 4))}).get_axes()[-1].get_title(loc="left")
        'Weights × √(inputs of a unit): median, middle half, 1 % to 99 %'
    """
    if not kernels:
        raise ValueError("no kernels to draw; the model has neither convolutions nor dense layers")
    values = {name: finite(np.asarray(kernel, float), f"the kernel of {name}") for name, kernel in kernels.items()}
    first = next((name for name, kernel in values.items() if kernel.ndim == 4), None)
    count = 0 if first is None else min(values[first].shape[-1], SHOWN)
    rows = -(-count // COLUMNS)
    heights = [max(0.46 * rows, 0.05) + 0.45, 1.0 + 0.2 * len(values)]
    figure = Drawing(figsize=(7.6, sum(heights) + (0.3 if title else 0)), layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights) if first else [None, figure]
    if first is not None:
        _filters(parts[0], first, values[first])
    _spread(parts[1].subplots(), values)
    return figure


def _filters(part: Any, name: str, kernel: Float[np.ndarray, "h w i o"]) -> None:
    """A picture of each filter, in their order."""
    count, colored = min(kernel.shape[-1], SHOWN), kernel.shape[2] == 3
    said = f"{count} of {kernel.shape[-1]}" if count < kernel.shape[-1] else f"all {count}"
    ways = "as colors, grey is zero" if colored else "red is positive, blue negative"
    part.suptitle(f"Filters of {name}, {said}; {ways}", x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    grid = part.subplots(-(-count // COLUMNS), COLUMNS, squeeze=False)
    for place, axes in enumerate(grid.ravel()):
        axes.set_axis_off()
        if place < count:
            one = kernel[..., place]
            axes.imshow(signed_picture(one if colored else one.mean(-1, keepdims=True)))


def _spread(axes: Axes, values: Mapping[str, Float[np.ndarray, "..."]]) -> None:
    """Where the weights of each layer lie."""
    for row, kernel in enumerate(values.values()):
        scaled = kernel * np.sqrt(kernel.size / kernel.shape[-1])
        low, lower, middle, upper, high = np.percentile(scaled, [1, 25, 50, 75, 99])
        axes.plot([low, high], [row, row], color=MUTED, linewidth=1)
        axes.plot([lower, upper], [row, row], color=LEAST, linewidth=5, solid_capstyle="butt")
        axes.plot(middle, row, marker="|", color=MOST, markersize=7, markeredgewidth=1.6)
    axes.axvline(0, color=MUTED, linewidth=0.6)
    axes.set_yticks(range(len(values)), short_names(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_title("Weights × √(inputs of a unit): median, middle half, 1 % to 99 %", loc="left")
