"""RISE: the mean score under random masks that show a pixel."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxcam.attribution.asking import Question, ask, check_chunk, check_count, check_key
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.budget import chunk_size, summed
from jaxcam.attribution.removing import blended, check_number, check_pair, stand_in_of
from jaxcam.attribution.targets import Target


def rise(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    key: Any = None,
    masks: int | np.ndarray | Array = 2000,
    grid: int | tuple[int, int] = 7,
    probability: float = 0.5,
    baseline: Baseline = 0.0,
    chunk: int | None = None,
) -> Float[Array, "n h w"]:
    """The mean score of the images that show a pixel, over random smooth masks.

    M(p) = 1/(N·E[m(p)]) Σᵢ s(mᵢ · x + (1 − mᵢ) · x₀) · mᵢ(p), an estimate of E[s | p is shown]. A mask is a coarse grid
    of zeros and ones, one cell larger than the image, upsampled bilinearly and shifted by a random part of a cell;
    E[m(p)] = probability. The same masks serve all images.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,). The paper's score is a probability: `lambda z: jax.nn.softmax(z)[:, k]`.
        key: of the random masks, `jax.random.key(seed)`.
        masks: how many; or masks of your own (v, h, w) in [0, 1], which need no key, and whose mean in each pixel takes
            the place of E[m(p)].
        grid: cells in height and width, or one number for both.
        probability: that a cell is shown, above 0, up to 1.
        baseline: x₀, what is seen where a mask hides: a number, an array like x or like one image, "blur", "mean" (the
            image's mean color), or None for zeros.
        chunk: how many masks at once; None for what fits. The answer does not depend on it.

    Returns:
        Raw maps (n, h, w), in units of the score. Only differences within a map mean anything: a score that does not
        depend on the image gives that score everywhere.

    Raises:
        TypeError: images, target, key or baseline of a wrong kind.
        ValueError: what `saliency` raises; masks of another shape, out of [0, 1] or that never show a pixel, a grid
            finer than the image, a probability out of range, a baseline of another shape, a chunk below 1.

    Example:
        >>> net = lambda x: x.sum((1, 2))
        >>> both = jnp.array([[[0.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 1.0]]])
        >>> rise(net, jnp.array([[[[1.0], [4.0]]]]), target=0, masks=both)[0, 0].tolist()
        [3.0, 4.5]

    Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018. When it misleads: with
    few masks the map is mostly noise, the more so the farther the scores are from zero; compare two keys.
    """
    check_chunk(chunk)
    probability = check_number(probability, "probability", 0, 1, above=True)
    stand_in = stand_in_of(baseline, x)
    height, width = stand_in.shape[1:3]
    if np.ndim(masks):
        _check_masks(masks, (height, width))
        return ask(_rise_with, model, x, target, stand_in, jnp.asarray(masks, stand_in.dtype), chunk=chunk)
    count = check_count(masks, "masks")
    cells = check_pair(grid, "grid")
    if cells[0] > height or cells[1] > width:
        raise ValueError(f"a grid of {cells[0]}×{cells[1]} cells is finer than the images of {height}×{width} pixels")
    check_key(key)
    options = {"count": count, "cells": cells, "probability": probability, "chunk": chunk}
    return ask(_rise, model, x, target, stand_in, key, **options)


def _rise(
    question: Question,
    x: Array,
    stand_in: Array,
    key: Array,
    count: int,
    cells: tuple[int, int],
    probability: float,
    chunk: int | None,
) -> Array:
    size = (x.shape[1], x.shape[2])
    bits, shifts = drawn(key, count, cells, size, probability)

    def mask(variant: tuple[Array, Array]) -> Array:
        return smooth(variant[0].astype(x.dtype), variant[1], size)

    return _weighted(question, x, stand_in, mask, (bits, shifts), chunk) / (count * probability)


def _rise_with(question: Question, x: Array, stand_in: Array, masks: Array, chunk: int | None) -> Array:
    return _weighted(question, x, stand_in, lambda mask: mask, masks, chunk) / jnp.sum(masks, 0)


def _weighted(question: Question, x: Array, stand_in: Array, mask_of: Any, variants: Any, chunk: int | None) -> Array:
    """Σᵢ s(masked by mᵢ) · mᵢ, (n, h, w)."""
    question = question.settled(x)

    def one(variant: Any) -> Array:
        mask = mask_of(variant)
        return question.scores(blended(x, stand_in, mask))[:, None, None] * mask

    count = jax.tree_util.tree_leaves(variants)[0].shape[0]
    return summed(one, variants, chunk_size(question.model, x, count, chunk))


def drawn(
    key: Array, count: int, cells: tuple[int, int], size: tuple[int, int], probability: float
) -> tuple[Bool[Array, "v gh gw"], Int[Array, "v 2"]]:
    """Random grids and their shifts in pixels, each below a cell's side."""
    of_bits, of_shifts = jax.random.split(key)
    bits = jax.random.bernoulli(of_bits, probability, (count, *cells))
    sides = jnp.array([math.ceil(pixels / n) for pixels, n in zip(size, cells, strict=True)])
    return bits, jax.random.randint(of_shifts, (count, 2), 0, sides)


def smooth(bits: Array, shift: Array, size: tuple[int, int]) -> Float[Array, "h w"]:
    """A grid (gh, gw), upsampled bilinearly to one cell more than the image has, and as much of it as the image."""
    rows = _interpolation(bits.shape[0], shift[0], size[0], bits.dtype)
    columns = _interpolation(bits.shape[1], shift[1], size[1], bits.dtype)
    return jnp.einsum("ha,ab,wb->hw", rows, bits, columns, precision="highest")


def _interpolation(cells: int, shift: Array, size: int, dtype: Any) -> Array:
    """How much each of a row of cells counts in each pixel (size, cells); mirrored at the outermost centers."""
    stretched = (cells + 1) * math.ceil(size / cells)
    centers = (jnp.arange(size) + shift + 0.5).astype(dtype) * (cells / stretched) - 0.5
    mirrored = (cells - 1) - jnp.abs((cells - 1) - jnp.abs(centers))  # as the authors' scikit-image does
    centers = jnp.clip(mirrored, 0, cells - 1)
    return jnp.maximum(0, 1 - jnp.abs(centers[:, None] - jnp.arange(cells)))


def _check_masks(masks: Any, size: tuple[int, int]) -> None:
    if len(masks.shape) != 3 or tuple(masks.shape[1:]) != size or not masks.shape[0]:
        raise ValueError(f"masks are (v, {size[0]}, {size[1]}), as large as the images; got shape {tuple(masks.shape)}")
    if isinstance(masks, jax.core.Tracer):
        return
    values = np.asarray(masks, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"masks are in [0, 1]; got {values.min():g} to {values.max():g}")
    if not values.any(0).all():
        raise ValueError(f"no mask shows the pixel {tuple(int(i) for i in np.argwhere(~values.any(0))[0])}")
