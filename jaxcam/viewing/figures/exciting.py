"""The figure of activation maximization: what each unit would like best, and beside it what it met."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from jaxcam.viewing.colors import check_channels, finite
from jaxcam.viewing.figures.style import Sheet, shortened, styled

MARGIN, GAP, HEAD = 0.25, 0.14, 0.2
ACROSS = 3  # real images in a row of their square


@styled
def excitements(
    images: Float[Array | np.ndarray, "t a h w c"],
    titles: Sequence[str],
    *,
    real: Float[Array | np.ndarray, "..."] | None = None,
    columns: int = 6,
    tile: float = 1.5,
) -> Figure:
    """For each class or unit the pictures that excite it most, and beside them real images that do.

    Args:
        images: a pictures for each of t units, (t, a, h, w, c) in [0, 1], with one or three channels.
        titles: a line above each unit.
        real: its most exciting real images, (t, r, y, x, c) in [0, 1], as `jc.studies.most_exciting` finds them; three
            in a row.
        columns: units in a row.
        tile: width of a picture, in inches.

    Returns:
        The figure.

    Raises:
        ValueError: nothing to draw, NaN, or not one title, or row of real images, for each unit.

    Example:
        >>> figure = excitements(np.ones((2, 1, 8, 8, 3)), ["cat", "dog"], real=np.zeros((2, 9, 4, 4, 3)))
        >>> len(figure.get_axes()[0].get_images())
        20
    """
    pictures = finite(images, "the pictures")
    if pictures.ndim != 5 or not pictures.size or len(titles) != len(pictures):
        raise ValueError(f"pictures (t, a, h, w, c) need t titles; got {pictures.shape} and {len(titles)}")
    beside = None if real is None else finite(real, "the real images")
    if beside is not None and (beside.ndim != 5 or len(beside) != len(pictures)):
        raise ValueError(f"{len(pictures)} units need as many rows of real images; got shape {beside.shape}")
    number, answers, height, width = pictures.shape[:4]
    check_channels(pictures[0])
    tall = tile * height / width
    small = 0.0 if beside is None else tile / ACROSS
    block = answers * (tile + 0.04) + (tile + 0.04 if beside is not None else 0)
    columns = max(1, min(columns, number))
    rows = -(-number // columns)
    line = HEAD + tall + GAP
    if beside is not None:
        line = max(line, HEAD + -(-beside.shape[1] // ACROSS) * small * beside.shape[2] / beside.shape[3] + GAP)
    sheet = Sheet(2 * MARGIN + columns * (block + GAP) - GAP, 2 * MARGIN + rows * line - GAP)
    for index, title in enumerate(titles):
        x, y = MARGIN + index % columns * (block + GAP), MARGIN + index // columns * line
        sheet.text(x, y, shortened(title, block, 7.5), fontsize=7.5)
        for place, picture in enumerate(pictures[index]):
            sheet.tile(x + place * (tile + 0.04), y + HEAD, tile, np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
        if beside is None:
            continue
        left = x + answers * (tile + 0.04)
        step = small * beside.shape[2] / beside.shape[3]
        for place, picture in enumerate(beside[index]):
            i, j = divmod(place, ACROSS)
            shown = np.clip(picture, 0, 1)
            sheet.tile(left + j * small, y + HEAD + i * step, small, shown, cmap="gray", vmin=0, vmax=1)
    return sheet.figure
