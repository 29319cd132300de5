"""Does a map predict what the score loses when the image is perturbed? Infidelity and sensitivity-n."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask, check_chunk, check_count, check_key
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.budget import chunk_size, mapped
from jaxcam.attribution.removing import stand_in_of
from jaxcam.attribution.targets import Target
from jaxcam.quality.asked import check_like, check_score, checked_maps, per_pixel, score_of

Perturbation = Callable[[Array, Array], Array]


def noise(key: Array, image: Array, sigma: float = 0.2) -> Array:
    """A perturbation for `infidelity`: independent normal numbers."""
    return sigma * jax.random.normal(key, image.shape, image.dtype)


def square(key: Array, image: Array, side: float = 0.3) -> Array:
    """A perturbation for `infidelity`: all that a square at random holds, which is thereby made black."""
    h, w, _ = image.shape
    length = max(1, round(side * min(h, w)))
    top_key, left_key = jax.random.split(key)
    top = jax.random.randint(top_key, (), 0, h - length + 1)
    left = jax.random.randint(left_key, (), 0, w - length + 1)
    rows, columns = jnp.arange(h)[:, None], jnp.arange(w)[None, :]
    inside = (rows >= top) & (rows < top + length) & (columns >= left) & (columns < left + length)
    return image * inside[..., None]


PERTURBATIONS: dict[str, Perturbation] = {"noise": noise, "square": square}


def infidelity(
    model: Any,
    x: Array,
    maps: Any,
    target: Target = None,
    *,
    key: Array,
    samples: int = 64,
    perturbation: str | Perturbation = "noise",
    scaled: bool = False,
    score: str = "output",
    chunk: int | None = None,
) -> Float[Array, " n"]:
    """How badly a map predicts what the score loses when the image is perturbed.

    infidelity = E[(Iᵀ M − (s(x) − s(x − I)))²] over perturbations I, with s the target's score; if scaled, of the best
    multiple βM, β = E[Iᵀ M · (s(x) − s(x − I))] / E[(Iᵀ M)²]. Small is good, 0 the best.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        maps: like x, in units of score per unit of x (a gradient; divide an attribution by x − x₀).
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        key: of `jax.random`; the same draws are made for each image.
        samples: how many perturbations.
        perturbation: "noise" (normal, standard deviation 0.2 in units of x), "square" (a square of 0.3 of the shorter
            side is made black), or a function (key, image (h, w, c)) ↦ I, like the image.
        scaled: whether a map is good that is right up to a factor.
        score: "output", the outputs as they are, or "probability", their softmax.
        chunk: how many perturbations at once; None for what fits in memory. It does not change the answer.

    Returns:
        One mean square for each image, (n,), ≥ 0, in units of the score squared.

    Raises:
        TypeError: images, maps, target or key of a wrong kind.
        ValueError: maps unlike x, no such perturbation, or no samples; what every method raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> lit = lambda x: 2 * x.sum((1, 2))
        >>> image, key = jnp.ones((1, 2, 2, 1)), jax.random.key(0)
        >>> [bool(infidelity(lit, image, scale * image, key=key)[0] < 1e-9) for scale in (1, 2)]
        [False, True]

    Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", 2019. When it misleads: under small noise the
    gradient wins by definition; under squares, what resembles occlusion.
    """
    check_score(score)
    check_key(key)
    check_chunk(chunk)
    check_count(samples, "samples")
    maps = checked_maps(maps, x, ranks=False)
    check_like(maps, x)
    draw = perturbation
    if isinstance(perturbation, str):
        if perturbation not in PERTURBATIONS:
            raise ValueError(f"no perturbation '{perturbation}'; there are {', '.join(PERTURBATIONS)}, or a function")
        draw = PERTURBATIONS[perturbation]
    options = {"samples": samples, "draw": draw, "scaled": scaled, "score": score, "chunk": chunk}
    return ask(_infidelity, model, x, target, maps, key, **options)


def _infidelity(
    question: Question,
    x: Array,
    maps: Array,
    key: Array,
    *,
    samples: int,
    draw: Perturbation,
    scaled: bool,
    score: str,
    chunk: int | None,
) -> Array:
    question = question.settled(x)
    reached = score_of(question, x, score)

    def one(sample: Array) -> tuple[Array, Array]:
        taken = jax.vmap(functools.partial(draw, jax.random.fold_in(key, sample)))(x)
        if taken.shape != x.shape:
            raise ValueError(f"a perturbation is like its image, {x.shape[1:]}; this one gives {taken.shape[1:]}")
        return jnp.sum(taken * maps, (1, 2, 3)), reached - score_of(question, x - taken, score)

    size = chunk_size(question.model, x, samples, chunk)
    said, lost = mapped(one, jnp.arange(samples), size)
    if scaled:
        square_of = jnp.mean(said**2, 0)
        said = said * jnp.where(square_of > 0, jnp.mean(said * lost, 0) / jnp.where(square_of > 0, square_of, 1), 0)
    return jnp.mean((said - lost) ** 2, 0)


def sensitivity_n(
    model: Any,
    x: Array,
    maps: Any,
    target: Target = None,
    *,
    key: Array,
    sizes: Sequence[int] | None = None,
    samples: int = 100,
    baseline: Baseline = None,
    score: str = "output",
    chunk: int | None = None,
) -> Float[Array, "n s"]:
    """How well the attribution of random sets of pixels goes with what the score loses without them.

    For each size k: the Pearson correlation, over random sets S of k pixels, of Σ_{i∈S} Mᵢ with s(x) − s(x without S),
    pixels being replaced by the baseline x₀. 1 is the best.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        maps: one for each image, (n, h', w') or (n, h', w', c); channels are summed, small ones upsampled bilinearly.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        key: of `jax.random`; the same sets are drawn for each image.
        sizes: how many pixels a set has, each from 1 to h·w − 1; None for eight from 1 to 0.8·h·w in equal ratios.
        samples: how many sets of each size, at least 2.
        baseline: what stands in the pixels' place: None for zeros, a number, "mean", "blur", or an array.
        score: "output", the outputs as they are, or "probability", their softmax.
        chunk: how many sets at once; None for what fits in memory. It does not change the answer.

    Returns:
        One correlation for each image and size, (n, s), in [−1, 1]; 0 where sums or scores do not vary at all.

    Raises:
        TypeError: images, maps, target or key of a wrong kind.
        ValueError: a map of another batch size, sizes that are none, too few samples; what every method raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> lit = lambda x: x.sum((1, 2))
        >>> image = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> sensitivity_n(lit, image, image, key=jax.random.key(0), sizes=[1, 2]).round(4).tolist()
        [[1.0, 1.0]]

    Ancona et al., "Towards Better Understanding of Gradient-based Attribution Methods for Deep Neural Networks", 2018.
    Differs from: sets are of pixels with all their channels, so that maps of one number a pixel can be compared.
    """
    check_score(score)
    check_key(key)
    check_chunk(chunk)
    check_count(samples, "samples", 2)
    maps = checked_maps(maps, x, ranks=False)
    pixels = x.shape[1] * x.shape[2]
    if pixels < 2:
        raise ValueError("images of a single pixel have no sets of pixels")
    if sizes is None:
        sizes = np.unique(np.geomspace(1, max(1, 0.8 * pixels), 8).round().astype(int)).tolist()
    sizes = tuple(sizes)
    if not sizes:
        raise ValueError("sizes names at least one number of pixels")
    for size in sizes:
        check_count(size, "each of sizes")
        if size >= pixels:
            raise ValueError(f"a set has fewer pixels than the image, {pixels}; got {size}")
    options = {"samples": samples, "score": score, "chunk": chunk}
    return ask(_sensitivity_n, model, x, target, maps, stand_in_of(baseline, x), key, np.asarray(sizes), **options)


def _sensitivity_n(
    question: Question,
    x: Array,
    maps: Array,
    replaced: Array,
    key: Array,
    sizes: Array,
    *,
    samples: int,
    score: str,
    chunk: int | None,
) -> Array:
    question = question.settled(x)
    h, w = x.shape[1], x.shape[2]
    values = per_pixel(maps, (h, w))
    reached = score_of(question, x, score)

    def one(number: Array) -> tuple[Array, Array]:
        order = jax.random.permutation(jax.random.fold_in(key, number), h * w)
        chosen = (order < sizes[number // samples]).reshape(h, w)
        without = score_of(question, jnp.where(chosen[..., None], replaced, x), score)
        return jnp.sum(values * chosen, (1, 2)), reached - without

    count = len(sizes) * samples
    pairs = mapped(one, jnp.arange(count), chunk_size(question.model, x, count, chunk))
    said, lost = (part.reshape(len(sizes), samples, -1) for part in pairs)
    return _correlation(said, lost).T


def _correlation(a: Array, b: Array) -> Array:
    """Pearson's, along axis 1; 0 where either does not vary beyond rounding."""

    def standard(values: Array) -> Array:
        apart = values - values.mean(1, keepdims=True)
        norm = jnp.sqrt(jnp.sum(apart**2, 1, keepdims=True))
        rounding = 4 * jnp.finfo(values.dtype).eps * jnp.sqrt(jnp.sum(values**2, 1, keepdims=True))
        return jnp.where(norm > rounding, apart / jnp.where(norm > rounding, norm, 1), 0)

    return jnp.clip(jnp.sum(standard(a) * standard(b), 1), -1, 1)
