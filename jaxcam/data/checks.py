"""One-line complaints about input, made before it can turn into a blank map or a NaN an hour later."""

import difflib
from collections.abc import Iterable

import numpy as np
from jaxtyping import ArrayLike

SHOWN = 5


def check_images(
    images: ArrayLike, *, channels: int | None = None, size: int | None = None, allow_constant: bool = False
) -> None:
    """Refuses images that no network can be explained on.

    Args:
        images: (n, h, w, c) floats, expected in [0, 1].
        channels: how many channels the network takes; None accepts any.
        size: the height and width the network takes; None accepts any.
        allow_constant: whether an image that is one value all over may pass. An explanation of it is blank, a
            training set may contain it.

    Raises:
        TypeError: not a batch of floating-point images.
        ValueError: no images, other channels or another size, NaN or infinity, values outside [0, 1], constant images.

    Example:
        >>> check_images(np.eye(4, dtype=np.float32)[None, :, :, None], channels=1, size=4)
        >>> check_images(np.full((1, 4, 4, 3), 255.0))
        Traceback (most recent call last):
        ValueError: images must lie in [0, 1], these range from 255 to 255: divide them by 255
    """
    pixels = np.asarray(images)
    if pixels.ndim != 4:
        raise TypeError(f"images must have the shape (n, h, w, c), not {pixels.shape}: a single one is image[None]")
    if pixels.dtype.kind != "f":
        hint = ": divide them by 255" if pixels.dtype.kind in "iu" else ""
        raise TypeError(f"images must be floating-point numbers in [0, 1], not {pixels.dtype}{hint}")
    if 0 in pixels.shape:
        raise ValueError(f"there are no pixels in images of shape {pixels.shape}")
    n, h, w, c = pixels.shape
    if channels is not None and c != channels:
        raise ValueError(f"images have {c} channels, the network takes {channels}{_channel_hint(c, channels, w)}")
    if size is not None and (h, w) != (size, size):
        raise ValueError(f"images are {h}×{w}, the network takes {size}×{size}: load them with image_size={size}")
    # One pass for the smallest and one for the largest value: both are NaN as soon as one pixel is.
    low, high = pixels.min(axis=(1, 2, 3)), pixels.max(axis=(1, 2, 3))
    broken = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if broken.size:
        raise ValueError(f"{_which(broken, n)} NaN or infinite values: mend or leave out {_them(broken)}")
    # The rounding of a resize may leave 1 by a hair.
    if low.min() < -1e-6 or high.max() > 1 + 1e-6:
        hint = ": divide them by 255" if 1 < high.max() <= 255 and low.min() >= 0 else ""
        raise ValueError(f"images must lie in [0, 1], these range from {low.min():.6g} to {high.max():.6g}{hint}")
    constant = np.flatnonzero(low == high)
    if constant.size and not allow_constant:
        raise ValueError(f"{_which(constant, n)} one and the same value everywhere: an explanation would be blank")


def closest(word: str, options: Iterable[str]) -> str:
    """The clause that ends an error about an unknown name.

    Args:
        word: what was asked for.
        options: what exists.

    Returns:
        "did you mean …" where an option is close, and what there is.

    Example:
        >>> closest("tset", ["train", "test"])
        "did you mean 'test'? There are train, test"
    """
    options = list(options)
    near = guess(word, options)
    return f"{near}{'There are' if near else 'there are'} {', '.join(options)}"


def guess(word: str, options: Iterable[str]) -> str:
    """A question for who mistyped a name, or nothing where no name is close.

    Example:
        >>> guess("mnits", ["digits", "mnist"])
        "did you mean 'mnist'? "
    """
    near = difflib.get_close_matches(word, list(options), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def listed(names: Iterable[str], shown: int | None = None) -> str:
    """Names in one line, the rest of a long list counted.

    Args:
        names: what to list.
        shown: how many at most; None for all.

    Returns:
        the names with commas between them.

    Example:
        >>> listed(["a", "b", "c"], shown=2)
        'a, b and 1 more'
    """
    names = list(names)
    if shown is None or len(names) <= shown:
        return ", ".join(names)
    return f"{', '.join(names[:shown])} and {len(names) - shown} more"


def _channel_hint(c: int, channels: int, w: int) -> str:
    if w == channels:
        return ": channels come last here"
    return ": repeat the one channel" if (c, channels) == (1, 3) else ""


def _which(indices: np.ndarray, n: int) -> str:
    if n == 1:
        return "the image has"
    if len(indices) == 1:
        return f"image {indices[0]} has"
    return f"images {listed(map(str, indices), SHOWN)} have"


def _them(indices: np.ndarray) -> str:
    return "it" if len(indices) == 1 else "them"
