"""Deletion and insertion: does the score fall when the pixels a map points at are taken away, and rise when only these
are there?"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask, check_chunk, check_count
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.budget import chunk_size, mapped
from jaxcam.attribution.removing import stand_in_of
from jaxcam.attribution.targets import Target
from jaxcam.quality.asked import check_score, checked_maps, per_pixel, score_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Curve:
    """The score of each image while its pixels are exchanged, the most important ones first.

    Attributes:
        fractions: the share of pixels (or patches) exchanged, (steps + 1,), from 0 to 1.
        curve: the score at each of them, (n, steps + 1).
        area: the area under each curve (n,), by trapezoids: the mean score on the way.
    """

    fractions: Float[Array, " s"]
    curve: Float[Array, "n s"]
    area: Float[Array, " n"]


def deletion(
    model: Any,
    x: Array,
    maps: Any,
    target: Target = None,
    *,
    steps: int = 32,
    baseline: Baseline = None,
    score: str = "probability",
    absolute: bool = False,
    patch: int = 1,
    chunk: int | None = None,
) -> Curve:
    """How fast the score falls as the pixels a map holds important are taken away, most important first.

    curve(k/s) = p(x with the round(k/s · hw) pixels of largest m replaced by x₀), with p the target's probability, s
    the steps, m the map summed over channels and x₀ the baseline. A small area is good.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        maps: one for each image, (n, h', w') or (n, h', w', c); smaller ones are upsampled bilinearly.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        steps: in how many parts the pixels are taken away; the paper takes one row's worth at a time.
        baseline: what stands in their place: None for zeros (black, or the mean color where images are normalized), a
            number, "mean" (each image's own color), "blur", or an array like x or one image of it.
        score: "probability", the softmax of the outputs, or "output", the outputs as they are; a callable target gets
            them as they are in any case.
        absolute: whether strong evidence against the target is important too: |map| instead of the map with its sign.
        patch: the side, in pixels, of squares that are exchanged as a whole, ranked by the mean of the map in them; 1
            for single pixels.
        chunk: how many steps at once; None for what fits in memory. It does not change the answer.

    Returns:
        A `Curve`; its first values are the score of x itself, its last those of the baseline.

    Raises:
        TypeError: images, maps or target of a wrong kind.
        ValueError: a map of another batch size, constant or with NaN; what every method raises.

    Example:
        >>> import jax.numpy as jnp
        >>> lit = lambda x: x.sum((1, 2))  # one output: how many pixels are lit
        >>> image = jnp.ones((1, 2, 2, 1))
        >>> deletion(lit, image, jnp.arange(4.0).reshape(1, 2, 2), steps=4, score="output").curve.tolist()
        [[4.0, 3.0, 2.0, 1.0, 0.0]]

    Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018. When it misleads: an
    image with holes is none the network was trained on; a map may win by pointing at what breaks it fastest. Single
    pixels strewn about break a network sooner than as many in one place, so maps of different grain are to be compared
    by patches (Samek et al. 2017). Ties are taken row by row, and a rectified map has many.
    """
    replaced = stand_in_of(baseline, x)
    return _curve(model, x, replaced, maps, target, steps, score, absolute, patch, chunk, insert=False)


def insertion(
    model: Any,
    x: Array,
    maps: Any,
    target: Target = None,
    *,
    steps: int = 32,
    baseline: Baseline = "blur",
    score: str = "probability",
    absolute: bool = False,
    patch: int = 1,
    chunk: int | None = None,
) -> Curve:
    """How fast the score rises as the pixels a map holds important appear, most important first.

    curve(k/s) = p(x₀ with the round(k/s · hw) pixels of largest m taken from x), with p the target's probability, s the
    steps, m the map summed over channels and x₀ the baseline. A large area is good.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        maps: one for each image, (n, h', w') or (n, h', w', c); smaller ones are upsampled bilinearly.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        steps: in how many parts the pixels appear.
        baseline: where they appear: "blur" (the image blurred), None for zeros, a number, "mean", or an array.
        score: "probability", the softmax of the outputs, or "output", the outputs as they are.
        absolute: whether strong evidence against the target is important too.
        patch: the side, in pixels, of squares that are exchanged as a whole, ranked by the mean of the map in them.
        chunk: how many steps at once; None for what fits in memory. It does not change the answer.

    Returns:
        A `Curve`; its first values are the score of the baseline, its last those of x itself.

    Raises:
        TypeError: images, maps or target of a wrong kind.
        ValueError: a map of another batch size, constant or with NaN; what every method raises.

    Example:
        >>> import jax.numpy as jnp
        >>> lit = lambda x: x.sum((1, 2))
        >>> image, order = jnp.array([[[[5.0], [1.0]]]]), jnp.array([[[2.0, 1.0]]])
        >>> insertion(lit, image, order, steps=2, baseline=0, score="output").curve.tolist()
        [[0.0, 5.0, 6.0]]

    Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018. Differs from: the
    blur's standard deviation is a tenth of the longer side, for images of any size; the paper's is 5 of 224 pixels,
    where much can still be made out. When it misleads: see `deletion`; where the blurred image already scores high,
    the area says little.
    """
    return _curve(model, x, stand_in_of(baseline, x), maps, target, steps, score, absolute, patch, chunk, insert=True)


def _curve(
    model: Any,
    x: Any,
    replaced: Array,
    maps: Any,
    target: Target,
    steps: int,
    score: str,
    absolute: bool,
    patch: int,
    chunk: int | None,
    insert: bool,
) -> Curve:
    check_count(steps, "steps")
    check_score(score)
    check_chunk(chunk)
    check_count(patch, "patch")
    maps = checked_maps(maps, x)
    pieces = -(-x.shape[1] // patch) * -(-x.shape[2] // patch)
    if steps > pieces:
        raise ValueError(
            f"steps is at most the number of {'pixels' if patch == 1 else 'patches'}, {pieces}; got {steps}"
        )
    options = {"steps": steps, "score": score, "absolute": absolute, "patch": patch, "chunk": chunk, "insert": insert}
    return ask(_curves, model, x, target, replaced, maps, **options)


def _curves(
    question: Question,
    x: Array,
    replaced: Array,
    maps: Array,
    *,
    steps: int,
    score: str,
    absolute: bool,
    patch: int,
    chunk: int | None,
    insert: bool,
) -> Curve:
    question = question.settled(x)
    h, w = x.shape[1], x.shape[2]
    rank = ranked(in_patches(per_pixel(maps, (h, w), absolute), patch))
    pieces = rank[0].size
    rank = rank.repeat(patch, 1).repeat(patch, 2)[:, :h, :w, None]
    before, after = (replaced, x) if insert else (x, replaced)
    counts = jnp.asarray(np.rint(np.arange(steps + 1) / steps * pieces).astype(int))

    def at(count: Array) -> Array:
        return score_of(question, jnp.where(rank < count, after, before), score)

    curve = mapped(at, counts, chunk_size(question.model, x, steps + 1, chunk)).T
    fractions = (counts / pieces).astype(curve.dtype)
    return Curve(fractions, curve, jax.scipy.integrate.trapezoid(curve, fractions, axis=1))


def in_patches(values: Array, side: int) -> Array:
    """The mean of each square of pixels, (n, h / side, w / side) rounded up; those at the far edges may be smaller.

    Args:
        values: (n, h, w).
        side: of a square.
    """
    if side == 1:
        return values
    (height, width), (rest_h, rest_w) = values.shape[1:], (-size % side for size in values.shape[1:])
    shape = (-1, (height + rest_h) // side, side, (width + rest_w) // side, side)
    there = jnp.pad(jnp.ones((1, height, width), values.dtype), ((0, 0), (0, rest_h), (0, rest_w)))
    sums = jnp.pad(values, ((0, 0), (0, rest_h), (0, rest_w))).reshape(shape).sum((2, 4))
    return sums / there.reshape(shape).sum((2, 4))


def ranked(values: Array) -> Array:
    """The place of each pixel in the order of importance: 0 for the largest value; ties row by row.

    Args:
        values: (n, h, w).
    """
    flat = values.reshape(values.shape[0], -1)
    order = jnp.argsort(flat, axis=1, stable=True, descending=True)
    return jnp.argsort(order, axis=1).reshape(values.shape)
