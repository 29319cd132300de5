"""Figures of explanations: maps laid over their photographs, many methods side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxcam.viewing.blending import blend, fitted, flat, is_aloof
from jaxcam.viewing.colors import PERCENTILE, check_channels, finite, limit
from jaxcam.viewing.figures.style import INK, MUTED, Sheet, shortened, styled

MARGIN, GAP, HEAD, CAPTION, TITLE, LEGEND = 0.3, 0.1, 0.2, 0.24, 0.3, 0.8


@styled
def overlay(
    image: Float[Array | np.ndarray, "h w c"],
    map: Float[Array | np.ndarray, "..."],
    *,
    name: str = "map",
    title: str = "",
    signed: bool | None = None,
    channels: str = "sum",
    tile: float = 2.6,
) -> Figure:
    """One photograph, and beside it the same with a map laid over it.

    Args:
        image: (h, w, c) in [0, 1], with one or three channels.
        map: its raw map, (h, w, c), or (h', w') of a layer, which is upsampled bilinearly.
        name: of the method.
        title: a line above the pictures.
        signed: whether zero is the middle of the scale; by default, whether any value is negative.
        channels: what becomes of the map's channels: "sum" (signed), "absolute" or "maximum" of the absolute values.
        tile: width of a picture, in inches.

    Returns:
        The figure, with a legend that says sign and scale.

    Raises:
        ValueError: NaN, a map larger than the image, or no such reduction of channels.

    Example:
        >>> figure = overlay(np.ones((8, 8, 3)), np.eye(8), name="grad_cam")
        >>> [text.get_text() for text in figure.get_axes()[0].texts][:2]
        ['image', 'grad_cam']
    """
    return contact_sheet(
        np.asarray(image)[None],
        {name: np.asarray(map)[None]},
        titles=[title] if title else None,
        signed=None if signed is None else {name: signed},
        channels=channels,
        tile=tile,
    )


@styled
def contact_sheet(
    images: Float[Array | np.ndarray, "n h w c"],
    maps: Mapping[str, Float[Array | np.ndarray, "..."]],
    *,
    titles: Sequence[str] | None = None,
    signed: Mapping[str, bool] | None = None,
    channels: str = "sum",
    columns: int = 7,
    tile: float = 1.5,
) -> Figure:
    """Methods × images: each photograph in color, then once for each method under the method's map.

    The photograph under a map is pale grey, so every color is the map's. Signed maps: red where positive, blue where
    negative; maps without a sign, and those that keep away from zero: violet to yellow. Each map has its own scale,
    whose end, or both ends, stand under it.

    Args:
        images: (n, h, w, c) in [0, 1], with one or three channels.
        maps: for each method raw maps of all images, (n, h, w, c), or (n, h', w') of a layer, upsampled bilinearly.
        titles: a line above each image: what it is, what was explained.
        signed: for each method, whether zero is the middle of its scale; by default, whether any value is negative.
        channels: what becomes of a map's channels: "sum" (signed), "absolute" or "maximum" of the absolute values.
        columns: methods in a row; more begin another row.
        tile: width of a picture, in inches.

    Returns:
        The figure, with a legend that says signs and scales.

    Raises:
        ValueError: nothing to draw, NaN, as many maps or titles as there are images missing, or a map larger than its
            image.

    Example:
        >>> images = np.ones((2, 8, 8, 3))
        >>> figure = contact_sheet(images, {"saliency": np.ones((2, 8, 8, 3)), "grad_cam": np.ones((2, 2, 2))})
        >>> len(figure.get_axes()[0].get_images())
        7
    """
    pictures = check_channels(finite(images, "the images"))
    number, height, width = pictures.shape[:3]
    if not number or not maps:
        raise ValueError(f"nothing to draw: {number} images, {len(maps)} methods")
    if titles is not None and len(titles) != number:
        raise ValueError(f"{number} images have {len(titles)} titles")
    drawn = {name: _flat(name, values, channels, number, (height, width)) for name, values in maps.items()}
    signs = {name: bool((values < 0).any()) for name, values in drawn.items()}
    signs |= {name: sign and channels == "sum" for name, sign in (signed or {}).items() if name in drawn}
    rows = -(-len(drawn) // max(columns, 1))
    columns = -(-len(drawn) // rows)  # as even as can be
    tall = tile * height / width
    line = HEAD + tall + CAPTION + GAP
    head = TITLE if titles else 0.0
    block = head + rows * line + 0.1
    across = max(2 * MARGIN + (1 + columns) * (tile + GAP) - GAP, 5.0)
    sheet = Sheet(across, MARGIN + number * block + LEGEND)
    kinds: set[bool] = set()
    small: dict[str, Any] = {"ha": "center", "fontsize": 7, "color": MUTED}
    title: dict[str, Any] = {"fontsize": 9.5, "fontweight": "bold"}
    for index, image in enumerate(pictures):
        top = MARGIN + index * block
        if titles:
            sheet.text(MARGIN, top, shortened(titles[index], across - 2 * MARGIN, 9.5), **title)
        top += head
        shown = np.clip(image, 0, 1)
        sheet.text(MARGIN + tile / 2, top, "image", ha="center", fontsize=8, color=MUTED)
        sheet.tile(MARGIN, top + HEAD, tile, shown, cmap="gray", vmin=0, vmax=1)
        for place, (name, values) in enumerate(drawn.items()):
            x, y = MARGIN + (1 + place % columns) * (tile + GAP), top + place // columns * line
            map = values[index]
            size = float(np.clip(8 * 22 * (tile / 1.5) / len(name), 6, 8))
            sheet.text(x + tile / 2, y, shortened(name, 1.15 * tile, size), ha="center", fontsize=size)
            aloof = is_aloof(map)
            signed_here = signs[name] and not aloof
            kinds.add(signed_here)
            picture = blend(shown, map - map.min() if aloof else map, signed_here)
            sheet.tile(x, y + HEAD, tile, picture, interpolation="auto")
            sheet.text(x + tile / 2, y + HEAD + tall + 0.04, _ends(map, signed_here), **small)
    _legend(sheet, MARGIN, MARGIN + number * block, kinds)
    return sheet.figure


def _flat(
    name: str, values: Float[Array | np.ndarray, "..."], channels: str, number: int, size: tuple[int, int]
) -> Float[np.ndarray, "n h w"]:
    """A method's maps with one number for each pixel of the images."""
    maps = flat(finite(values, f"the map of {name}"), channels)
    if len(maps) != number:
        raise ValueError(f"{name} has {len(maps)} maps for {number} images")
    return fitted(maps, size)


def _ends(map: Float[np.ndarray, "h w"], signed: bool) -> str:
    """Where the colors of a map begin and end, as its caption says it."""
    if not map.any():
        return "zero everywhere"
    if np.ptp(map) == 0:
        return f"{_number(float(map.max()))} everywhere"
    if is_aloof(map):
        low = float(map.min())
        return f"{_number(low)} … {_number(low + limit(map - low))}"
    if not signed and not (map > 0).any():
        return "nowhere above zero"
    return f"{'±' if signed else '0 … '}{_number(limit(map))}"


def _number(value: float) -> str:
    """A number in a caption: two digits, or all before the point."""
    text = f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.2g}"
    return text.replace("-", "−")


def _legend(sheet: Sheet, x: float, y: float, kinds: set[bool]) -> None:
    """What the colors say, for each kind of scale in the figure."""
    bar, tall = 1.0, 0.12
    grey = np.full((1, 128, 1), 0.5)
    for signed, low, words in (
        (True, -1.0, ("−", "+", "red: raises the score of what is explained; blue: lowers it")),
        (False, 0.0, ("less", "more", "violet to yellow: how much it matters, from less to more")),
    ):
        if signed not in kinds:
            continue
        picture = blend(grey, np.linspace(low, 1, 128)[None], signed, 1.0)
        sheet.axes.imshow(picture, extent=(x + 0.25, x + 0.25 + bar, y + tall, y), aspect="auto")
        sheet.axes.add_patch(Rectangle((x + 0.25, y), bar, tall, fill=False, edgecolor=MUTED, lw=0.5))
        sheet.axes.set(xlim=sheet.window[0], ylim=sheet.window[1])
        for place, text, side in ((x + 0.2, words[0], "right"), (x + 0.3 + bar, words[1], "left")):
            sheet.text(place, y + tall / 2, text, ha=side, va="center", fontsize=7.5)
        sheet.text(x + bar + 0.75, y + tall / 2, words[2], va="center", fontsize=7.5, color=INK)
        y += 0.22
    scale = (
        "No color: no influence, or the least. Each map has its own scale, the\n"
        f"numbers under it; {PERCENTILE} % of its pixels do not exceed the last."
    )
    sheet.text(x, y, scale, fontsize=7, color=MUTED, linespacing=1.4)
