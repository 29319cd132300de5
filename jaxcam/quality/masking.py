"""Average drop and increase: what the score becomes when only what the map shows is left; and the pointing game."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxcam.attribution.asking import Question, ask, is_traced
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.removing import stand_in_of
from jaxcam.attribution.targets import Target
from jaxcam.quality.asked import as_maps, check_ranks, check_score, checked_maps, per_pixel, score_of


def average_drop(
    model: Any,
    x: Array,
    maps: Any,
    target: Target = None,
    *,
    baseline: Baseline = None,
    score: str = "probability",
) -> Float[Array, " n"]:
    """The share of the score that is lost when the image is seen through its map only.

    drop = max(0, p(x) − p(e)) / p(x) with e = m·x + (1 − m)·x₀, p the target's probability, m the map min–max scaled
    to [0, 1] and x₀ the baseline. The mean over many images, times 100, is the paper's Average Drop %. Small is good.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        maps: one for each image, (n, h', w') or (n, h', w', c); channels are summed, small ones upsampled bilinearly.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        baseline: what is seen where the map is lowest: None for zeros, a number, "mean", "blur", or an array.
        score: "probability", the softmax of the outputs, or "output", the outputs as they are (positive ones).

    Returns:
        One share for each image, (n,), in [0, 1] for a probability.

    Raises:
        TypeError: images, maps or target of a wrong kind.
        ValueError: a map of another batch size, constant or with NaN; a score that is not positive; what every method
            raises.

    Example:
        >>> import jax.numpy as jnp
        >>> lit = lambda x: x.sum((1, 2))
        >>> image, half = jnp.ones((1, 1, 2, 1)), jnp.array([[[1.0, 0.0]]])
        >>> average_drop(lit, image, half, score="output").tolist()
        [0.5]

    Chattopadhay et al., "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks",
    2018. When it misleads: a map that is high everywhere but in one pixel loses nothing.
    """
    whole, seen = _seen(model, x, maps, target, baseline, score)
    if not is_traced(whole) and not (np.asarray(whole) > 0).all():
        i = int(np.argmin(np.asarray(whole) > 0))
        raise ValueError(f"a drop is a share of a positive score; image {i} has {float(whole[i]):g}")
    return jnp.maximum(whole - seen, 0) / whole


def average_increase(
    model: Any,
    x: Array,
    maps: Any,
    target: Target = None,
    *,
    baseline: Baseline = None,
    score: str = "probability",
) -> Bool[Array, " n"]:
    """Whether the score rises when the image is seen through its map only.

    increase = [p(e) > p(x)], with e as in `average_drop`. The mean over many images, times 100, is the paper's %
    Increase in Confidence. Often is good.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        maps: one for each image, (n, h', w') or (n, h', w', c); channels are summed, small ones upsampled bilinearly.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        baseline: what is seen where the map is lowest: None for zeros, a number, "mean", "blur", or an array.
        score: "probability", the softmax of the outputs, or "output", the outputs as they are.

    Returns:
        One truth for each image, (n,).

    Raises:
        TypeError: images, maps or target of a wrong kind.
        ValueError: a map of another batch size, constant or with NaN; what every method raises.

    Example:
        >>> import jax.numpy as jnp
        >>> contrast = lambda x: x[:, 0, 0] - x[:, 0, 1]
        >>> image, half = jnp.ones((1, 1, 2, 1)), jnp.array([[[1.0, 0.0]]])
        >>> average_increase(contrast, image, half, score="output").tolist()
        [True]

    Chattopadhay et al., "Grad-CAM++", 2018. When it misleads: see `average_drop`.
    """
    whole, seen = _seen(model, x, maps, target, baseline, score)
    return seen > whole


def _seen(
    model: Any, x: Any, maps: Any, target: Target, baseline: Baseline, score: str
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The score of the images, and of what is seen of them through their maps."""
    check_score(score)
    return ask(_both_scores, model, x, target, stand_in_of(baseline, x), checked_maps(maps, x), score=score)


def _both_scores(question: Question, x: Array, replaced: Array, maps: Array, *, score: str) -> tuple[Array, Array]:
    question = question.settled(x)
    values = per_pixel(maps, (x.shape[1], x.shape[2]))
    low, high = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
    share = ((values - low) / jnp.where(high > low, high - low, 1))[..., None]
    return score_of(question, x, score), score_of(question, share * x + (1 - share) * replaced, score)


def pointing_game(
    maps: Any, regions: Any, *, size: tuple[int, int] | None = None, tolerance: int | float = 0, absolute: bool = False
) -> Bool[Array, " n"]:
    """Whether the largest value of each map lies on the object.

    hit = [some pixel of the region is within the tolerance of argmax m]. The mean is the paper's accuracy.

    Args:
        maps: one for each image, (n, h', w') or (n, h', w', c); channels are summed, small ones upsampled bilinearly.
        regions: where the object is. Masks (n, h, w), of bool; or boxes, (n, 4) or for each image an array (k, 4), of
            (top, left, bottom, right) in pixels, the last row and column being bottom − 1 and right − 1.
        size: (h, w) of the images; needed with boxes where the maps are smaller than the images.
        tolerance: how many pixels beside the object count as on it, ≥ 0.
        absolute: whether the largest |map| points, rather than the largest map.

    Returns:
        One truth for each image, (n,).

    Raises:
        TypeError: maps or regions of a wrong kind.
        ValueError: another number of regions than of maps, a region without a pixel, a constant map.

    Example:
        >>> import jax.numpy as jnp
        >>> maps = jnp.array([[[0.0, 1.0], [0.0, 0.0]]])
        >>> [pointing_game(maps, jnp.array([box])).tolist() for box in ([0, 1, 1, 2], [1, 0, 2, 1])]
        [[True], [False]]

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", 2016. Differs from: the paper's tolerance is 15
    pixels on photographs; ours is 0, as images may be small.
    """
    maps = as_maps(maps)
    check_ranks(maps)
    if isinstance(tolerance, bool) or not tolerance >= 0:
        raise ValueError(f"tolerance is a number of pixels from 0 up; got {tolerance!r}")
    masks = _masks(regions, maps, size)
    if masks.shape[1] < maps.shape[1] or masks.shape[2] < maps.shape[2]:
        raise ValueError(f"maps are no larger than the regions, {masks.shape[1:]}; got {maps.shape[1:3]}")
    h, w = masks.shape[1:]
    values = per_pixel(maps, (h, w), absolute)
    place = jnp.argmax(values.reshape(len(values), -1), 1)[:, None, None]
    rows, columns = jnp.arange(h)[:, None], jnp.arange(w)[None, :]
    distance = (rows - place // w) ** 2 + (columns - place % w) ** 2
    return (masks & (distance <= tolerance**2)).any((1, 2))


def _masks(regions: Any, maps: Array, size: tuple[int, int] | None) -> Array:
    """Regions as masks (n, h, w)."""
    n = maps.shape[0]
    if isinstance(regions, str) or not (hasattr(regions, "shape") or isinstance(regions, Sequence)):
        raise TypeError(f"regions are masks (n, h, w) or boxes (n, 4); got {type(regions).__name__}")
    if len(regions) != n:
        raise ValueError(f"{n} maps need {n} regions; got {len(regions)}")
    if getattr(regions, "ndim", 0) == 3 and regions.dtype == bool:
        masks = jnp.asarray(regions)
        if size is not None and masks.shape[1:] != tuple(size):
            raise ValueError(f"masks are of the images' size, {tuple(size)}; got {masks.shape[1:]}")
    else:
        h, w = (maps.shape[1], maps.shape[2]) if size is None else size
        masks = jnp.asarray(np.stack([_mask(boxes, h, w, i) for i, boxes in enumerate(regions)]))
    if not is_traced(masks):
        empty = ~np.asarray(masks).any((1, 2))
        if empty.any():
            raise ValueError(f"the region of image {int(np.argmax(empty))} has no pixel")
    return masks


def _mask(boxes: Any, h: int, w: int, image: int) -> np.ndarray:
    boxes = np.atleast_2d(np.asarray(boxes))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.issubdtype(boxes.dtype, np.number):
        raise ValueError(
            f"a box is four numbers (top, left, bottom, right), a mask an array (n, h, w) of bool; image {image} has "
            f"{boxes.dtype} of shape {boxes.shape}"
        )
    mask = np.zeros((h, w), bool)
    for top, left, bottom, right in boxes.tolist():
        if not (0 <= top < bottom <= h and 0 <= left < right <= w):
            raise ValueError(
                f"a box lies within the image, {h}×{w}, as (top, left, bottom, right); image {image} has "
                f"({top:g}, {left:g}, {bottom:g}, {right:g})"
            )
        mask[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = True
    return mask
