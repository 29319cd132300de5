"""Shapley values of segments: what each adds to the score, averaged over all orders in which they can appear."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxcam.attribution.asking import Question, ask, check_chunk, check_count, check_key
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.completeness import Complete, exact
from jaxcam.attribution.local_models import ROUNDED, present
from jaxcam.attribution.removing import stand_in_of
from jaxcam.attribution.segments import Segments, coalition_scores, painted, segments_of
from jaxcam.attribution.targets import Target

# Exact Shapley values ask about 2ˢ coalitions of s segments: 4096 at most.
MOST = 12


def shapley_values(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    segments: Segments = None,
    baseline: Baseline = "mean",
    chunk: int | None = None,
) -> Float[Array, "n h w"]:
    """The exact Shapley value of each of a few segments, from the scores of all coalitions.

    φⱼ = Σ_{S ∌ j} |S|! (s − |S| − 1)! / s! · (v(S ∪ {j}) − v(S)), with v(S) the score of the image of which only the
    segments in S are there. Summed over segments, φ is s(x) − s(x₀). Every pixel of the map has the φ of its segment.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        segments: maps (n, h, w) of integers with at most 12 pieces each, such as those of `segment`, or a kind that it
            knows; None for a grid of 3 × 3.
        baseline: what replaces a segment that is not there: "mean" (the segment's mean color), a number, an array like
            x or like one image, "blur", or None for zeros.
        chunk: how many coalitions at once; None for what fits. The answer does not depend on it.

    Returns:
        Raw maps (n, h, w), signed, in units of the score.

    Raises:
        TypeError: images, target, segments or baseline of a wrong kind.
        ValueError: what `saliency` raises; more than 12 segments, segments or baseline of another shape, a chunk
            below 1; outside `jit`, values whose sum is off by more than rounding.

    Example:
        >>> net = lambda x: x.prod((1, 2))
        >>> x = jnp.array([[[[2.0], [3.0]]]])
        >>> shapley_values(net, x, 0, segments=jnp.array([[[0, 1]]]), baseline=1.0)[0, 0].tolist()
        [2.0, 3.0]

    Shapley, "A Value for n-Person Games", 1953. When it misleads: most coalitions are images that no network has seen.
    """
    check_chunk(chunk)
    maps, counts = segments_of(segments, x, ("grid", 9))
    size = int(counts.max())
    if size > MOST:
        raise ValueError(
            f"{size} segments have 2^{size} coalitions, exact values take at most {MOST} segments; take fewer, "
            "jc.segment(x, 'grid', count=9), or jc.kernel_shap"
        )
    stand_in = stand_in_of(baseline, x, maps)
    factors = jnp.asarray(_shapley_weights(counts, size), stand_in.dtype)
    return ask(_shapley_values, model, x, target, stand_in, maps, jnp.asarray(counts), factors, chunk=chunk)


def _shapley_values(
    question: Question, x: Array, stand_in: Array, segments: Array, counts: Array, factors: Array, chunk: int | None
) -> Complete:
    question = question.settled(x)
    size = factors.shape[-1] - 1
    there = present(counts, size)
    kept = all_coalitions(size)[:, None] & there
    scores = coalition_scores(question, x, stand_in, segments, kept, chunk)
    sizes = jnp.sum(kept, -1).T
    # a coalition counts for its members as the one they joined, against the others as the one they did not join
    joined, left = (jnp.take_along_axis(table, sizes, 1).T[..., None] for table in factors)
    values = jnp.einsum("vns,vn->ns", jnp.where(kept, joined, -left) * there, scores, precision="highest")
    return exact(painted(values, segments), values, scores[-1] - scores[0], scores.T)


def _shapley_weights(counts: np.ndarray, size: int) -> np.ndarray:
    """What a coalition of k of an image's s pieces counts for its members, and against the others (2, n, size + 1).

    Each coalition of an image with fewer than `size` pieces comes up 2^(size − s) times.
    """
    factors = np.zeros((2, len(counts), size + 1))
    for image, s in enumerate(counts):
        for k in range(s + 1):
            times = math.comb(s, k) * 2 ** (size - int(s))
            factors[0, image, k] = 1 / (k * times) if k else 0
            factors[1, image, k] = 1 / ((s - k) * times) if k < s else 0
    return factors


def kernel_shap(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    key: Any = None,
    segments: Segments = None,
    samples: int = 1000,
    paired: bool = True,
    baseline: Baseline = "mean",
    chunk: int | None = None,
) -> Float[Array, "n h w"]:
    """Shapley values of segments, estimated by a linear fit to the scores of random coalitions.

    min Σ_z π(z) (s(x_z) − s(x₀) − φ·z)² under Σⱼ φⱼ = s(x) − s(x₀), with z ∈ {0, 1}ˢ the coalitions of k < s segments
    and π = (s − 1) / (C(s, k) k (s − k)): its exact solution is the Shapley values. Where `samples` reaches all 2ˢ
    coalitions they are all asked and the answer is exact; else the z are drawn with probability ∝ π and count alike.
    The sum over segments is s(x) − s(x₀) in either case. Every pixel of the map has the φ of its segment.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        key: of the random coalitions, `jax.random.key(seed)`; not needed where all are asked.
        segments: "slic", "grid", "felzenszwalb", "quickshift", or maps (n, h, w) of integers, such as those of
            `segment`; None for about 49 pieces by SLIC.
        samples: how many coalitions; several times as many as segments.
        paired: whether each coalition drawn is followed by its complement, which halves the variance or better.
        baseline: what replaces a segment that is not there: "mean" (the segment's mean color), a number, an array like
            x or like one image, "blur", or None for zeros.
        chunk: how many coalitions at once; None for what fits. The answer does not depend on it.

    Returns:
        Raw maps (n, h, w), signed, in units of the score.

    Raises:
        TypeError: images, target, key, segments or baseline of a wrong kind.
        ValueError: what `saliency` raises; segments or baseline of another shape, samples or a chunk below 1; outside
            `jit`, values whose sum is off by more than rounding.

    Example:
        >>> net = lambda x: x.prod((1, 2))
        >>> x = jnp.array([[[[2.0], [3.0]]]])
        >>> kernel_shap(net, x, 0, segments=jnp.array([[[0, 1]]]), baseline=1.0)[0, 0].round().tolist()
        [2.0, 3.0]

    Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017; Covert and Lee, "Improving
    KernelSHAP", 2021, for pairs. Differs from: the package shap asks all small and large coalitions first and selects
    features by a lasso; here all are drawn and none selected. When it misleads: most coalitions are images that no
    network has seen.
    """
    check_chunk(chunk)
    count = check_count(samples, "samples")
    maps, counts = segments_of(segments, x)
    largest = int(counts.max())
    every = largest < 31 and 2**largest <= count
    size = largest if every else math.ceil(largest / ROUNDED) * ROUNDED
    stand_in = stand_in_of(baseline, x, maps)
    if every:
        weights = jnp.asarray(np.stack([_kernel(int(s), size) for s in counts]), stand_in.dtype)
        return ask(_kernel_shap_of_all, model, x, target, stand_in, maps, jnp.asarray(counts), weights, chunk=chunk)
    check_key(key)
    chances = jnp.asarray(np.stack([_cumulated(int(s), size) for s in counts]), stand_in.dtype)
    options = {"samples": count, "paired": bool(paired), "chunk": chunk}
    return ask(_kernel_shap, model, x, target, stand_in, maps, jnp.asarray(counts), chances, key, **options)


def _kernel_shap_of_all(
    question: Question, x: Array, stand_in: Array, segments: Array, counts: Array, weights: Array, chunk: int | None
) -> Complete:
    size = weights.shape[-1] - 1
    kept = all_coalitions(size)[:, None] & present(counts, size)
    chosen = jnp.take_along_axis(weights, jnp.sum(kept, -1).T, 1).T
    return _fitted(question, x, stand_in, segments, counts, kept, chosen, chunk)


def _kernel_shap(
    question: Question,
    x: Array,
    stand_in: Array,
    segments: Array,
    counts: Array,
    chances: Array,
    key: Array,
    samples: int,
    paired: bool,
    chunk: int | None,
) -> Complete:
    kept = random_coalitions(key, samples, counts, chances, paired)
    return _fitted(question, x, stand_in, segments, counts, kept, jnp.ones(kept.shape[:2], x.dtype), chunk)


def _fitted(
    question: Question,
    x: Array,
    stand_in: Array,
    segments: Array,
    counts: Array,
    kept: Array,
    weights: Array,
    chunk: int | None,
) -> Complete:
    question = question.settled(x)
    scores = coalition_scores(question, x, stand_in, segments, kept, chunk)
    empty = question.scores(stand_in)
    there = present(counts, kept.shape[-1])
    fit = jax.vmap(constrained, in_axes=(1, 1, 1, 0, 0))
    owed = question.scores(x) - empty
    values = fit(kept.astype(x.dtype), scores - empty, weights, owed, there)
    return exact(painted(values, segments), values, owed, jnp.stack([empty, empty + owed], 1))


def all_coalitions(size: int) -> Bool[Array, "v s"]:
    """All 2ˢ subsets of s pieces, from none to all."""
    return (jnp.arange(2**size)[:, None] >> jnp.arange(size)) & 1 == 1


def random_coalitions(key: Array, samples: int, counts: Array, chances: Array, paired: bool) -> Bool[Array, "v n s"]:
    """Coalitions of pieces that are neither empty nor whole, drawn by the Shapley kernel.

    The draws of an image do not depend on the other images of the batch, nor on how many pieces those have.

    Args:
        key: of all draws.
        samples: v.
        counts: how many pieces each image has (n,).
        chances: of a coalition of at most k pieces (n, s + 1).
        paired: whether each second coalition is the complement of the one before it.
    """
    draws = -(-samples // 2) if paired else samples
    of_sizes, of_pieces = jax.random.split(key)
    size = chances.shape[-1] - 1
    place = jax.random.uniform(of_sizes, (draws,), chances.dtype)
    wanted = jnp.sum(place[:, None, None] >= chances, -1)  # (v, n)
    order = jax.vmap(lambda piece: jax.random.uniform(jax.random.fold_in(of_pieces, piece), (draws,)))
    there = present(counts, size)
    values = jnp.where(there, order(jnp.arange(size)).T[:, None], jnp.inf)
    ranks = jnp.argsort(jnp.argsort(values, -1), -1)
    kept = (ranks < wanted[..., None]) & there
    if not paired:
        return kept
    return jnp.stack([kept, there & ~kept], 1).reshape(2 * draws, *kept.shape[1:])[:samples]


def constrained(z: Array, y: Array, weights: Array, total: Array, there: Array) -> Float[Array, " s"]:
    """The φ that fits φ·z to y best under Σφ = total; of several that fit alike, the most even.

    Args:
        z: (v, s); 0 for pieces that are not there.
        y: (v,).
        weights: (v,), not all zero.
        total: the sum.
        there: which pieces there are (s,); the others get 0.
    """
    mask = there.astype(z.dtype)
    even = mask / jnp.sum(mask)
    # φ = total · even + u, with Σu = 0: a free least-squares problem in the plane of the constraint
    flat = jnp.diag(mask) - jnp.outer(even, mask)
    planar = jnp.matmul(z, flat, precision="highest")
    shares = weights / jnp.sum(weights)
    rest = y - total * jnp.matmul(z, even, precision="highest")
    gram = jnp.einsum("vs,v,vt->st", planar, shares, planar, precision="highest")
    right = jnp.einsum("vs,v,v->s", planar, shares, rest, precision="highest")
    bend = jnp.linalg.lstsq(gram, right)[0]
    return total * even + jnp.matmul(flat, bend, precision="highest")


def _kernel(count: int, size: int) -> np.ndarray:
    """π of a coalition of k pieces, for k from 0 to `size`; 0 for none and all, whose fit the constraint enforces."""
    return np.array([mass / math.comb(count, k) if mass else 0.0 for k, mass in enumerate(_masses(count, size))])


def _cumulated(count: int, size: int) -> np.ndarray:
    """The probability of a coalition of at most k pieces, for k from 0 to `size`."""
    sums = np.cumsum(_masses(count, size))
    return sums / sums[-1]


def _masses(count: int, size: int) -> np.ndarray:
    """What all coalitions of k pieces weigh together, for k from 0 to `size`."""
    masses = np.zeros(size + 1)
    inner = np.arange(1, count)
    masses[1:count] = (count - 1) / (inner * (count - inner))
    if count == 1:  # no coalition is between none and all: the constraint alone decides
        masses[1] = 1
    return masses
