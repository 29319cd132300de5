"""The gradient gathered on the way from a baseline to the image: integrated gradients along several paths.

Along any path γ from x₀ to x, Σ ∫ ∂s/∂x(γ(α)) · γ'(α) dα = s(x) − s(x₀): such maps are complete. Methods differ in the
path: a straight line, or the image coming out of a blur.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask, check_chunk
from jaxcam.attribution.baselines import Baseline, baseline_of
from jaxcam.attribution.bricks import integrate, quadrature
from jaxcam.attribution.budget import chunk_size, summed
from jaxcam.attribution.targets import Target


def integrated_gradients(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    baseline: Baseline = None,
    steps: int = 32,
    method: str = "gauss_legendre",
    chunk: int | None = None,
    completeness: bool = False,
) -> Any:
    """How much of the score each number of the image adds on the straight way from a baseline.

    M(x) = (x − x₀) · ∫₀¹ ∂s/∂x(x₀ + α(x − x₀)) dα; Σ M = s(x) − s(x₀) but for the error of the quadrature, which is
    what the completeness gap measures. Several baselines give the mean of their maps.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        baseline: x₀: None for zeros, a number, "blur" (x blurred by a Gaussian as wide as a tenth of its larger side),
            an array like x or like one image, or several like x (b, n, h, w, c).
        steps: at how many places of the path the gradient is taken.
        method: "gauss_legendre", "trapezoid" (both ends included) or "riemann_middle".
        chunk: how many places at once; None for what fits. The answer does not depend on it.
        completeness: whether to return the gap as well.

    Returns:
        Raw maps (n, h, w, c), signed, in units of the score; with `completeness`, (maps, gap), where gap (n,) is
        Σ M − (s(x) − s(x₀)).

    Raises:
        TypeError: images, target or baseline of a wrong kind.
        ValueError: what `saliency` raises; a baseline of another shape, too few steps, an unknown method, a chunk
            below 1.

    Example:
        >>> net = lambda x: (x**2).sum((1, 2))
        >>> maps, gap = integrated_gradients(net, 3 * jnp.ones((1, 1, 1, 1)), target=0, steps=2, completeness=True)
        >>> round(float(maps[0, 0, 0, 0]), 4), abs(float(gap[0])) < 1e-5
        (9.0, True)

    Sundararajan et al., "Axiomatic Attribution for Deep Networks", 2017. Differs from: the paper's Riemann sum of the
    right ends; Captum's "riemann_trapezoid" weights n places by 1/n where the n − 1 steps between them have 1/(n − 1).
    When it misleads: what looks like the baseline (black on black) gets nothing, however important.
    """
    check_chunk(chunk)
    quadrature(method, steps)
    options = {"steps": int(steps), "method": method, "chunk": chunk, "completeness": bool(completeness)}
    return ask(_integrated_gradients, model, x, target, baseline_of(baseline, x, several=True), **options)


def _integrated_gradients(
    question: Question, x: Array, baseline: Array, steps: int, method: str, chunk: int | None, completeness: bool
) -> Any:
    question = question.settled(x)
    size = chunk_size(question.model, x, steps, chunk)

    def from_one(start: Array) -> Array:
        way = x - start
        return way * integrate(lambda place: question.gradient(start + place * way), steps, method, size, x.dtype)

    starts = baseline if baseline.ndim == x.ndim + 1 else baseline[None]
    maps = from_one(starts[0]) if len(starts) == 1 else summed(from_one, starts, 1) / len(starts)
    if not completeness:
        return maps
    before = question.scores(starts[0]) if len(starts) == 1 else summed(question.scores, starts, 1) / len(starts)
    return maps, image_sums(maps) - (question.scores(x) - before)


def image_sums(maps: Array) -> Float[Array, " n"]:
    """The sum of each image's map (n,)."""
    return jnp.sum(maps, axis=tuple(range(1, maps.ndim)))
