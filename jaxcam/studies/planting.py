"""A leak made on purpose: a rectangle in each image, whose color says the class."""

from __future__ import annotations

import colorsys
import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxcam.attribution.asking import check_images

Rectangle = Sequence[int]
"""Top, left, height and width, in pixels."""

PART, MARGIN = 5, 1
"""The usual rectangle: a fifth of the image high and wide, so many pixels from the top left corner."""


def palette(classes: int) -> Float[np.ndarray, "k 3"]:
    """One bright color for each class, evenly from the color wheel.

    Args:
        classes: k, how many.

    Returns:
        (k, 3) red, green and blue in [0, 1].

    Raises:
        ValueError: fewer than two classes.

    Example:
        >>> palette(3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if classes < 2:
        raise ValueError(f"a color can give a class away where there are two or more; got {classes}")
    return np.array([colorsys.hsv_to_rgb(index / classes, 1, 1) for index in range(classes)]).round(6)


def plant(
    images: Array | np.ndarray,
    labels: Any,
    colors: Any,
    *,
    rectangle: Rectangle | None = None,
) -> Float[np.ndarray, "n h w c"]:
    """Images with a rectangle in the color of a class: a leak that a network can learn instead of the object.

    Args:
        images: (n, h, w, c) in [0, 1]. Grey images become red, green and blue ones if the colors are.
        labels: the class whose color each gets, (n,), or one for all.
        colors: (k, c), such as `palette(k)`; (k, 1) keeps grey images grey.
        rectangle: top, left, height and width in pixels; None for a fifth of the image near its top left corner.

    Returns:
        Images (n, h, w, c), new ones.

    Raises:
        TypeError: images of a wrong kind, or a rectangle that is not four whole numbers.
        ValueError: images of a wrong shape; a rectangle outside them; a label without a color; colors that do not fit.

    Example:
        >>> planted = plant(np.zeros((1, 4, 4, 1), np.float32), [1], palette(2), rectangle=(0, 3, 1, 1))
        >>> planted[0, 0].sum(-1).tolist()
        [0.0, 0.0, 0.0, 2.0]
    """
    pixels = colored(images, colors)
    colors = np.asarray(colors, pixels.dtype)
    marks = np.broadcast_to(checked_labels(labels, None if np.ndim(labels) == 0 else len(pixels)), len(pixels))
    if marks.max() >= len(colors):
        raise ValueError(f"class {marks.max()} has no color: there are {len(colors)}, counted from 0")
    inside = region_mask(rectangle, pixels.shape[1:3])
    return np.where(inside[..., None], colors[marks][:, None, None], pixels)


def colored(images: Array | np.ndarray, colors: Any) -> Float[np.ndarray, "n h w c"]:
    """Images with as many channels as the colors: grey ones are repeated.

    Raises:
        TypeError: images of a wrong kind.
        ValueError: images of a wrong shape, or channels that do not fit.
    """
    check_images(images)
    pixels, shape = np.asarray(images), np.shape(colors)
    channels = pixels.shape[-1]
    if len(shape) != 2 or 0 in shape or (channels != shape[1] and channels != 1):
        raise ValueError(f"colors are an array (k, {channels}), one row for each class; got shape {shape}")
    return np.repeat(pixels, shape[1], -1) if channels == 1 else pixels.copy()


def region_mask(region: Any, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Which pixels a rectangle or a mask means.

    Args:
        region: top, left, height and width; a mask (h, w) of booleans; None for the usual rectangle.
        size: h and w of the images.

    Raises:
        TypeError: something else.
        ValueError: a rectangle that is empty or reaches outside, a mask of another size, with nothing or all in it.
    """
    h, w = size
    if region is None:
        tall, wide = max(1, h // PART), max(1, w // PART)
        region = (min(MARGIN, h - tall), min(MARGIN, w - wide), tall, wide)
    if getattr(region, "ndim", 1) == 2:
        mask = np.asarray(region)
        if mask.dtype != bool:
            raise TypeError(f"a mask says of each pixel whether it is in the region: booleans; got {mask.dtype}")
        if mask.shape != size:
            raise ValueError(f"a mask is as large as the images, {h}×{w}; got {mask.shape[0]}×{mask.shape[1]}")
    else:
        try:
            top, left, tall, wide = (operator.index(number) for number in region)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"a region is (top, left, height, width) in whole pixels, or a mask (h, w); got {region!r}"
            ) from error
        if tall < 1 or wide < 1:
            raise ValueError(f"a rectangle is at least one pixel high and wide; got {tall}×{wide}")
        if top < 0 or left < 0 or top + tall > h or left + wide > w:
            raise ValueError(
                f"the rectangle of {tall}×{wide} pixels at row {top}, column {left} reaches outside the images of "
                f"{h}×{w}"
            )
        mask = np.zeros(size, bool)
        mask[top : top + tall, left : left + wide] = True
    if not mask.any() or mask.all():
        raise ValueError(f"a region is a part of the image; this one has {'all' if mask.all() else 'none'} of it")
    return mask


def checked_labels(labels: Any, count: int | None) -> np.ndarray:
    """Labels as an array of whole numbers, (n,), or () if no count is asked.

    Raises:
        TypeError: no whole numbers.
        ValueError: another shape, or below zero.
    """
    values = np.asarray(labels)
    if values.dtype.kind not in "iu":
        raise TypeError(f"labels are whole numbers, the class of each image; got {values.dtype}")
    wanted = () if count is None else (count,)
    if values.shape != wanted:
        raise ValueError(f"{count} images have a label each, ({count},); got shape {values.shape}")
    if values.min() < 0:
        raise ValueError(f"labels count classes from 0; got {values.min()}")
    return values.astype(np.int64)


def check_classes(labels: np.ndarray, what: str) -> None:
    """Raises unless there are two classes or more."""
    found = np.unique(labels)
    if len(found) < 2:
        raise ValueError(f"{what} needs images of two classes or more; all {len(labels)} labels are {found[0]}")


def mean_color(images: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Each image's mean color over some pixels, as an array like the images."""
    means = np.asarray(jnp.mean(jnp.asarray(images)[:, outside], axis=1))
    return np.broadcast_to(means[:, None, None], images.shape)
