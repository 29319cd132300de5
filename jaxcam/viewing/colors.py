"""From numbers to colors, once for figures and report: what a sign looks like, and how large is large.

A signed map has a zero that means "no influence", so it gets a diverging scale whose middle is zero and whose ends lie
equally far from it: blue, white, red, which stay apart for readers who confuse red and green. A map of a color image
has a sign in each channel; there the convention is to show it as an image, with grey for zero, and everybody who has
seen a guided backpropagation has seen it so. Whatever has no sign gets a sequential scale.
"""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Array, Float, Num, UInt8

DIVERGING = "RdBu_r"
SEQUENTIAL = "cividis"
SHARE = "Blues"
PERCENTILE = 99.5


class Legend(NamedTuple):
    """What the colors of a map say, in three parts: below zero, zero, above zero."""

    negative: str
    zero: str
    positive: str


UNIT_LEGEND = Legend("brightening this pixel lowers the unit", "no influence", "brightening this pixel raises the unit")


def limit(map: Float[Array | np.ndarray, "..."]) -> float:
    """The magnitude at which a signed map's colors end: the 99.5th percentile of |map|.

    A few extreme pixels would otherwise leave all others pale; what lies beyond takes the end's color.

    Args:
        map: any shape, any range.

    Returns:
        A positive number; 1 for a map that is zero everywhere.

    Raises:
        ValueError: the map holds NaN or infinity.

    Example:
        >>> limit(np.array([-2.0, 0.0, 1.0])), limit(np.zeros(3))
        (2.0, 1.0)
    """
    magnitude = np.abs(finite(map, "the map"))
    # Sparse maps: more than 99.5 % may be zero, and then only the largest value says anything.
    return float(np.percentile(magnitude, PERCENTILE, method="higher") or magnitude.max(initial=0) or 1.0)


def signed_picture(map: Float[Array | np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colors of one signed map, on its own symmetric scale.

    One channel: blue below zero, white at zero, red above. Three channels: ½ + map / (2 · limit), so zero is grey,
    brighter is positive and darker is negative, channel by channel.

    Args:
        map: shape (h, w, 1) or (h, w, 3), any range.

    Returns:
        Shape (h, w, 3), bytes.

    Raises:
        ValueError: neither one channel nor three, or NaN.

    Example:
        >>> signed_picture(np.array([[[-1.0, 0.0, 1.0]]])).ravel().tolist()
        [0, 128, 255]
    """
    scaled = about_half(map)
    if scaled.shape[-1] == 1:
        return matplotlib.colormaps[DIVERGING](scaled[..., 0], bytes=True)[..., :3]
    return to_bytes(scaled)


def about_half(map: Float[Array | np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """A signed map scaled so that zero is ½ and ± its `limit` are 0 and 1; what lies beyond is cut.

    Args:
        map: shape (h, w, 1) or (h, w, 3).

    Returns:
        The same shape, in [0, 1].

    Raises:
        ValueError: neither one channel nor three, or NaN.

    Example:
        >>> about_half(np.array([[[0.0, 3.0, -3.0]]])).ravel().tolist()
        [0.5, 1.0, 0.0]
    """
    map = check_channels(np.asarray(map, dtype=float))
    return np.clip(0.5 + map / (2 * limit(map)), 0, 1)


def picture(image: Float[Array | np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colors of an ordinary image in [0, 1]; one channel becomes grey, what lies outside is cut.

    Args:
        image: shape (h, w, 1) or (h, w, 3).

    Returns:
        Shape (h, w, 3), bytes.

    Raises:
        ValueError: neither one channel nor three, or NaN.

    Example:
        >>> picture(np.array([[[0.5]]])).ravel().tolist()
        [128, 128, 128]
    """
    image = check_channels(finite(image, "the image"))
    return np.broadcast_to(to_bytes(np.clip(image, 0, 1)), (*image.shape[:2], 3))


def to_bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Values in [0, 1] as bytes, round(255 · value).

    Example:
        >>> to_bytes(np.array([0.0, 1.0])).tolist()
        [0, 255]
    """
    return np.floor(values * 255 + 0.5).astype(np.uint8)


def finite(values: Float[Array | np.ndarray, "..."], what: str) -> Float[np.ndarray, "..."]:
    """The values as a NumPy array, after making sure that every one is a number.

    Args:
        values: any shape.
        what: what they are, for the message.

    Returns:
        The same values.

    Raises:
        ValueError: some are NaN or infinite.

    Example:
        >>> finite(np.array([np.nan, 1.0]), "the map of unit 3")
        Traceback (most recent call last):
        ...
        ValueError: the map of unit 3 holds 1 NaN or infinite value of 2; it cannot be drawn
    """
    array = np.asarray(values)
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"{what} holds {bad} NaN or infinite value{'s' if bad > 1 else ''} of {array.size}; it cannot be drawn"
        )
    return array


def check_channels(image: Num[np.ndarray, "*n h w c"]) -> Num[np.ndarray, "*n h w c"]:
    """Makes sure that an image can be shown at all: grey has one channel, color has three.

    Example:
        >>> check_channels(np.zeros((8, 8, 4)))
        Traceback (most recent call last):
        ...
        ValueError: an image with 4 channels cannot be drawn; 1 (grey) and 3 (red, green, blue) can
    """
    if image.shape[-1] not in (1, 3):
        raise ValueError(
            f"an image with {image.shape[-1]} channels cannot be drawn; 1 (grey) and 3 (red, green, blue) can"
        )
    return image


def reduced(image: Float[np.ndarray, "h w c"], side: int) -> Float[np.ndarray, "y x c"]:
    """The image with at most `side` pixels a side, each the mean of the area it stands for.

    Args:
        image: shape (h, w, c).
        side: the longest side allowed, in pixels.

    Returns:
        Shape (h', w', c), h', w' ≤ side; the image itself where it is small enough.

    Example:
        >>> reduced(np.arange(4.0).reshape(2, 2, 1), 1).ravel().tolist()
        [1.5]
    """
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return image
    rows = _averaging(height, max(1, round(height * side / longest)))
    columns = _averaging(width, max(1, round(width * side / longest)))
    return np.einsum("yh,hwc,xw->yxc", rows, image, columns, optimize=True)


def _averaging(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """The matrix that averages `old` pixels into `new`, with fractions where they do not divide."""
    edges = np.linspace(0, old, new + 1)
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * (new / old)


Painter = Callable[[Float[np.ndarray, "h w c"]], UInt8[np.ndarray, "h w 3"]]
