"""What all figures of quality have in common: maps that fit their images, and the score that is watched."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution import targets
from jaxcam.attribution.asking import Question, check_images, is_traced
from jaxcam.attribution.bricks import check_one_of, upsample

SCORES = ("probability", "output")


def score_of(question: Question, x: Array, score: str) -> Float[Array, " n"]:
    """What is watched: the softmax probability of the target, or what the target says of the outputs as they are.

    A callable target always gets the outputs as they are: it can take the softmax itself.

    Args:
        question: with its target settled.
        x: images (n, h, w, c).
        score: "probability" or "output".

    Raises:
        ValueError: a probability is asked of a model that has no classes to choose from.
    """
    outputs = question.outputs(x)
    if score == "probability" and not callable(question.target):
        if outputs.ndim == 1 or outputs.shape[-1] == 1:
            raise ValueError(f"outputs of shape {outputs.shape} are no classes to choose from; ask for score='output'")
        outputs = jax.nn.softmax(targets.per_output(outputs), -1)
    return targets.score(outputs, question.target)


def check_score(score: Any) -> None:
    """Raises unless the score is one of `SCORES`."""
    check_one_of(score, SCORES, "score")


def checked_maps(maps: Any, x: Any, ranks: bool = True) -> Array:
    """Maps as an array that fits the images.

    Args:
        maps: (n, h', w') or (n, h', w', c), no larger than the images.
        x: images (n, h, w, c).
        ranks: whether the maps are to say which pixel comes first, which a constant one does not.

    Raises:
        TypeError: no array of numbers.
        ValueError: another shape, NaN, or a constant map.
    """
    check_images(x)
    maps = as_maps(maps)
    n, h, w, _ = x.shape
    if maps.shape[0] != n:
        raise ValueError(f"{n} images need {n} maps; got {maps.shape[0]}, of shape {tuple(maps.shape)}")
    if maps.shape[1] > h or maps.shape[2] > w:
        raise ValueError(f"maps are no larger than the images, {h}×{w}; got {maps.shape[1]}×{maps.shape[2]}")
    if ranks:
        check_ranks(maps)
    return maps


def as_maps(maps: Any) -> Array:
    """Maps as an array.

    Raises:
        TypeError: no array of numbers.
        ValueError: another number of axes, or NaN.
    """
    if isinstance(maps, dict):
        raise TypeError(f"maps are one array; got one for each of the layers {', '.join(map(str, maps))}: choose one")
    if not hasattr(maps, "shape") or not hasattr(maps, "dtype"):
        raise TypeError(f"maps are an array (n, h, w) or (n, h, w, c); got {type(maps).__name__}")
    if maps.ndim not in (3, 4) or 0 in maps.shape:
        raise ValueError(f"maps are a non-empty array (n, h, w) or (n, h, w, c); got shape {tuple(maps.shape)}")
    if not is_traced(maps):
        finite = np.isfinite(np.asarray(maps)).all(axis=tuple(range(1, maps.ndim)))
        if not finite.all():
            raise ValueError(f"map {int(np.argmin(finite))} has NaN or infinite values")
    maps = jnp.asarray(maps)
    return maps if jnp.issubdtype(maps.dtype, jnp.floating) else maps.astype(float)


def check_ranks(maps: Array) -> None:
    """Raises if a map is the same everywhere."""
    if is_traced(maps):
        return
    flat = np.asarray(maps).reshape(maps.shape[0], -1)
    constant = flat.min(1) == flat.max(1)
    if constant.any():
        i = int(np.argmax(constant))
        raise ValueError(f"map {i} is {flat[i, 0]:g} everywhere: it does not say which pixel matters more")


def check_like(maps: Array, x: Any) -> None:
    """Raises unless maps have the shape of the images."""
    if maps.shape != x.shape:
        raise ValueError(f"this figure needs maps like the images, {tuple(x.shape)}; got {tuple(maps.shape)}")


def per_pixel(maps: Array, size: tuple[int, int], absolute: bool = False) -> Float[Array, "n h w"]:
    """One number for each pixel: channels summed (their absolute values if so asked), small maps upsampled.

    Args:
        maps: (n, h', w') or (n, h', w', c).
        size: (h, w) of the images.
        absolute: whether evidence against the target counts as evidence.
    """
    values = jnp.abs(maps) if absolute else maps
    return upsample(values.sum(-1) if values.ndim == 4 else values, size)
