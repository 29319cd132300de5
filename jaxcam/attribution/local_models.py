"""LIME: a linear model of the score, in terms of which segments of the image are there."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxcam.attribution.asking import Question, ask, check_chunk, check_count, check_key
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.removing import check_number, stand_in_of
from jaxcam.attribution.segments import Segments, coalition_scores, painted, segments_of
from jaxcam.attribution.targets import Target

# Segment counts are rounded up to a multiple of this, so that batches which differ a little share a compilation.
ROUNDED = 8


def lime(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    key: Any,
    segments: Segments = None,
    samples: int = 1000,
    kernel_width: float = 0.25,
    regularization: float = 1.0,
    baseline: Baseline = "mean",
    chunk: int | None = None,
) -> Float[Array, "n h w"]:
    """What each segment adds to the score, in the linear model that fits best around the image.

    Of many z ∈ {0, 1}ˢ, each segment there with probability 1/2 and the first z all ones, the coefficients β of
    min Σᵢ wᵢ (s(x_zᵢ) − β₀ − β·zᵢ)² + α‖β‖², with wᵢ = exp(−dᵢ²/2σ²) and d the cosine distance of z and the whole,
    1 − √(share of segments that are there). Every pixel of the map has the β of its segment.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,). The package lime explains probabilities: `lambda z: jax.nn.softmax(z)[:, k]`.
        key: of the random samples, `jax.random.key(seed)`.
        segments: "slic", "grid", "felzenszwalb", "quickshift", or maps (n, h, w) of integers, such as those of
            `segment`; None for about 49 pieces by SLIC.
        samples: how many z; several times as many as segments.
        kernel_width: σ.
        regularization: α, from 0 up.
        baseline: what replaces a segment that is not there: "mean" (the segment's mean color), a number, an array like
            x or like one image, "blur", or None for zeros.
        chunk: how many samples at once; None for what fits. The answer does not depend on it.

    Returns:
        Raw maps (n, h, w), signed, in units of the score.

    Raises:
        TypeError: images, target, key, segments or baseline of a wrong kind.
        ValueError: what `saliency` raises; segments or baseline of another shape, a width not above 0, a negative
            regularization, samples or a chunk below 1.

    Example:
        >>> net = lambda x: x.sum((1, 2))
        >>> halves = jnp.array([[[0, 1]]])
        >>> x = jnp.array([[[[1.0], [4.0]]]])
        >>> found = lime(net, x, 0, key=jax.random.key(0), segments=halves, baseline=0.0, regularization=0.0)
        >>> found[0, 0].round(3).tolist()
        [1.0, 4.0]

    Ribeiro et al., "Why Should I Trust You?", 2016. Differs from: of the package lime we take distance, kernel, width,
    ridge regression and stand-in, but SLIC by default where it has quickshift, and no selection of features. When it
    misleads: with α > 0 and few samples the coefficients shrink; another segmentation gives another explanation.
    """
    check_chunk(chunk)
    check_key(key)
    options = {
        "samples": check_count(samples, "samples"),
        "kernel_width": check_number(kernel_width, "kernel_width", 0, above=True),
        "regularization": check_number(regularization, "regularization", 0),
        "chunk": chunk,
    }
    maps, counts = segments_of(segments, x)
    size = math.ceil(counts.max() / ROUNDED) * ROUNDED
    stand_in = stand_in_of(baseline, x, maps)
    return ask(_lime, model, x, target, stand_in, maps, jnp.asarray(counts), key, size=size, **options)


def _lime(
    question: Question,
    x: Array,
    stand_in: Array,
    segments: Array,
    counts: Array,
    key: Array,
    size: int,
    samples: int,
    kernel_width: float,
    regularization: float,
    chunk: int | None,
) -> Array:
    question = question.settled(x)
    there = present(counts, size)
    kept = random_pieces(key, samples, size)[:, None] & there
    scores = coalition_scores(question, x, stand_in, segments, kept, chunk)
    distances = 1 - jnp.sqrt(jnp.sum(kept, -1) / counts).astype(x.dtype)
    weights = jnp.exp(-(distances**2) / (2 * kernel_width**2))
    fit = jax.vmap(lambda z, y, w: ridge(z.astype(y.dtype), y, w, regularization), in_axes=1)
    return painted(fit(kept, scores, weights), segments)


def present(counts: Array, size: int) -> Bool[Array, "n s"]:
    """Which of `size` numbers are pieces of each image, given how many it has (n,)."""
    return jnp.arange(size) < counts[:, None]


def random_pieces(key: Array, samples: int, size: int) -> Bool[Array, "v s"]:
    """Each piece there or not by a coin of its own, which does not depend on how many others there are."""
    draw = jax.vmap(lambda piece: jax.random.bernoulli(jax.random.fold_in(key, piece), 0.5, (samples,)))
    return draw(jnp.arange(size)).T.at[0].set(True)


def ridge(z: Array, y: Array, weights: Array, alpha: float) -> Float[Array, " s"]:
    """The coefficients of a weighted linear fit with a free intercept; of several that fit alike, the smallest.

    Args:
        z: (v, s); columns of zeros get the coefficient 0.
        y: (v,).
        weights: (v,), not all zero.
        alpha: of Σ wᵢ (yᵢ − β₀ − β·zᵢ)² + α‖β‖².
    """
    shares = weights / jnp.sum(weights)
    centered = z - shares @ z
    gram = jnp.einsum("vs,v,vt->st", centered, weights, centered, precision="highest")
    right = jnp.einsum("vs,v,v->s", centered, weights, y - shares @ y, precision="highest")
    return jnp.linalg.lstsq(gram + alpha * jnp.eye(z.shape[1], dtype=z.dtype), right)[0]
