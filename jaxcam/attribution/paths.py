"""The gradient gathered on the way from a baseline to the image: integrated gradients along several paths.

Along any path γ from x₀ to x, Σ ∫ ∂s/∂x(γ(α)) · γ'(α) dα = s(x) − s(x₀): such maps are complete. Methods differ in the
path: a straight line, the image coming out of a blur, or a way around steep gradients.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.attribution.asking import Question, ask, check_chunk, check_images
from jaxcam.attribution.baselines import Baseline, baseline_of, blurred
from jaxcam.attribution.bricks import integrate, quadrature
from jaxcam.attribution.budget import chunk_size, summed
from jaxcam.attribution.completeness import Complete, on_path
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
            below 1; outside `jit`, a map whose sum is off by a thousand times what the score does on the path.

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


def blur_integrated_gradients(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    sigma: float | int | None = None,
    steps: int = 32,
    method: str = "gauss_legendre",
    chunk: int | None = None,
    completeness: bool = False,
) -> Any:
    """How much of the score each number of the image adds while the image comes out of a blur.

    M(x) = ∫ ∂s/∂x(γ(α)) · γ'(α) dα, with γ(α) = x blurred by a Gaussian of σ(1 − α): no color is a baseline, and no
    step of the path shows structure that the image does not have. Σ M = s(x) − s(γ(0)).

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        sigma: the largest standard deviation, in pixels; None for a quarter of the larger side.
        steps: at how many places of the path the gradient is taken.
        method: "gauss_legendre", "trapezoid" (both ends included) or "riemann_middle".
        chunk: how many places at once; None for what fits. The answer does not depend on it.
        completeness: whether to return the gap as well.

    Returns:
        Raw maps (n, h, w, c), signed, in units of the score; with `completeness`, (maps, gap), where gap (n,) is
        Σ M − (s(x) − s(γ(0))).

    Raises:
        TypeError: images or target of a wrong kind.
        ValueError: what `saliency` raises; a sigma that is not positive, too few steps, an unknown method, a chunk
            below 1; outside `jit`, a map whose sum is off by a thousand times what the score does on the path.

    Example:
        >>> net = lambda x: (x**2).sum((1, 2))
        >>> flat = jnp.ones((1, 4, 4, 1))
        >>> bool(abs(blur_integrated_gradients(net, flat, target=0)).max() < 1e-5)
        True

    Xu et al., "Attribution in Scale and Space", 2020. Differs from: the paper blurs with a sampled kernel and takes
    γ' by finite differences; here the blur is exact in the image's frequencies, mirrored at the edges, and γ' its
    derivative.
    """
    check_chunk(chunk)
    quadrature(method, steps)
    check_images(x)
    if sigma is None:
        sigma = max(x.shape[1:3]) / 4
    _check_positive(sigma, "sigma", "a number of pixels above 0", np.inf)
    options = {"steps": int(steps), "method": method, "chunk": chunk, "completeness": bool(completeness)}
    return ask(_blur_integrated_gradients, model, x, target, jnp.asarray(sigma, x.dtype), **options)


def guided_integrated_gradients(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    baseline: Baseline = None,
    steps: int = 100,
    fraction: float | int = 0.25,
    max_distance: float | int = 0.02,
    completeness: bool = False,
) -> Any:
    """How much of the score each number of the image adds, on a way that avoids steep gradients.

    M(x) = Σₖ ∂s/∂x(γₖ) · (γₖ₊₁ − γₖ) from x₀ to x: each step covers the same L1 distance, and the numbers with the
    smallest |∂s/∂x| go first; none gets further than `max_distance` from the straight path.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        baseline: x₀: None for zeros, a number, "blur" (x blurred by a Gaussian as wide as a tenth of its larger side),
            an array like x or like one image.
        steps: of the path, one after the other.
        fraction: the share of the numbers, those of the smallest gradients, that moves at once, in (0, 1].
        max_distance: how far a number may run ahead of the straight path or stay behind, as a share of its way, (0, 1].
        completeness: whether to return the gap as well.

    Returns:
        Raw maps (n, h, w, c), signed, in units of the score; with `completeness`, (maps, gap), where gap (n,) is
        Σ M − (s(x) − s(x₀)).

    Raises:
        TypeError: images, target or baseline of a wrong kind.
        ValueError: what `saliency` raises; a baseline of another shape, steps below 1, a fraction or distance outside
            (0, 1]; outside `jit`, a map whose sum is off by a thousand times what the score does on the path.

    Example:
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -2.0]])
        >>> maps = guided_integrated_gradients(net, jnp.ones((1, 1, 2, 1)), target=1, steps=4)
        >>> [round(float(v), 4) for v in maps[0, 0, :, 0]]
        [-2.0, -2.0]

    Kapishnikov et al., "Guided Integrated Gradients: an Adaptive Path Method for Removing Noise", 2021; PAIR's fraction
    and distance. Differs from: no anchors between the baseline and the image; `max_distance` keeps to the path. When it
    misleads: the path runs along the network's kinks, where its gap shrinks slowly with more steps; ask for it.
    """
    quadrature("riemann_middle", steps)
    _check_positive(fraction, "fraction", "above 0 and at most 1", 1)
    _check_positive(max_distance, "max_distance", "above 0 and at most 1", 1)
    start = baseline_of(baseline, x)
    numbers = (jnp.asarray(number, start.dtype) for number in (fraction, max_distance))
    options = {"steps": int(steps), "completeness": bool(completeness)}
    return ask(_guided_integrated_gradients, model, x, target, start, *numbers, **options)


def _check_positive(number: Any, name: str, meaning: str, most: float | int) -> None:
    """Raises unless a number is above 0, finite and at most `most`."""
    if isinstance(number, jax.core.Tracer):
        return
    real = isinstance(number, int | float | np.number) and not isinstance(number, bool)
    if not real or not 0 < number <= most or np.isinf(number):
        raise ValueError(f"{name} is {meaning}; got {number!r}")


def _integrated_gradients(
    question: Question, x: Array, baseline: Array, steps: int, method: str, chunk: int | None, completeness: bool
) -> Complete:
    question = question.settled(x)
    size = chunk_size(question.model, x, steps, chunk)

    def from_one(start: Array) -> tuple[Array, Array, Array]:
        way, first = x - start, question.scores(start)

        def integrand(place: Array) -> tuple[Array, Array]:
            gradient, scores = question.gradient_and_scores(start + place * way)
            return gradient, jnp.abs(scores - first)

        gradient, moved = integrate(integrand, steps, method, size, x.dtype)
        return way * gradient, moved, first

    starts = baseline if baseline.ndim == x.ndim + 1 else baseline[None]
    if len(starts) == 1:
        maps, moved, first = from_one(starts[0])
    else:
        maps, moved, first = (total / len(starts) for total in summed(from_one, starts, 1))
    return _complete(question, x, maps, moved, first, completeness)


def _blur_integrated_gradients(
    question: Question,
    x: Array,
    sigma: Array,
    steps: int,
    method: str,
    chunk: int | None,
    completeness: bool,
) -> Complete:
    question = question.settled(x)
    first = question.scores(blurred(x, sigma))

    def integrand(place: Array) -> tuple[Array, Array]:
        image, direction = jax.jvp(lambda a: blurred(x, (1 - a) * sigma), (place,), (jnp.ones_like(place),))
        gradient, scores = question.gradient_and_scores(image)
        return direction * gradient, jnp.abs(scores - first)

    maps, moved = integrate(integrand, steps, method, chunk_size(question.model, x, steps, chunk), x.dtype)
    return _complete(question, x, maps, moved, first, completeness)


def _guided_integrated_gradients(
    question: Question,
    x: Array,
    baseline: Array,
    fraction: Array,
    max_distance: Array,
    steps: int,
    completeness: bool,
) -> Complete:
    question = question.settled(x)
    flat = (len(x), -1)
    end, start = x.reshape(flat), baseline.reshape(flat)
    first = question.scores(baseline)

    def step(state: tuple[Array, Array, Array], number: Array) -> tuple[tuple[Array, Array, Array], None]:
        here, maps, moved = state
        gradient, scores = question.gradient_and_scores(here.reshape(x.shape))
        gradient = gradient.reshape(flat)
        place = (number + 1) / jnp.asarray(steps, x.dtype)
        there = jax.vmap(guided_step, (0, 0, 0, 0, None, None, None))(
            here, gradient, start, end, place, fraction, max_distance
        )
        return (there, maps + (there - here) * gradient, moved + jnp.abs(scores - first) / steps), None

    nothing = jnp.zeros_like(end), jnp.zeros_like(first)
    (_, maps, moved), _ = jax.lax.scan(step, (start, *nothing), jnp.arange(steps))
    return _complete(question, x, maps.reshape(x.shape), moved, first, completeness)


def guided_step(
    here: Array, gradient: Array, start: Array, end: Array, place: Array, fraction: Array, max_distance: Array
) -> Array:
    """The next point of one image's guided path: numbers of the smallest gradients move first, as far as they may.

    Args:
        here: the point now (d,).
        gradient: at that point (d,).
        start: the baseline (d,).
        end: the image (d,).
        place: α, how much of the L1 distance is to be covered after this step.
        fraction: the share of the numbers that moves at once.
        max_distance: how far a number may be from the straight path, in α.
    """
    way = end - start
    lower, upper = jnp.maximum(place - max_distance, 0), jnp.minimum(place + max_distance, 1)
    furthest = start + upper * way
    whole = jnp.sum(jnp.abs(way))
    ahead = jnp.where(way == 0, upper, (here - start) / jnp.where(way == 0, 1, way))
    here = jnp.where(ahead < lower, start + lower * way, here)
    rank = jnp.floor(fraction * (len(here) - 1)).astype(int)

    def left(point: Array) -> Array:
        """What is still to be covered in this step."""
        return jnp.sum(jnp.abs(end - point)) - whole * (1 - place)

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        point, _, rounds = state
        enough = 16 * jnp.finfo(point.dtype).eps * whole
        return (left(point) > enough) & (rounds * fraction < 2)  # at most 1/fraction rounds are ever needed

    def move(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        point, size, rounds = state
        size = jnp.where(point == furthest, jnp.inf, size)
        moving = (size <= jnp.sort(size)[rank]) & jnp.isfinite(size)
        possible = jnp.sum(jnp.where(moving, jnp.abs(furthest - point), 0))
        share = left(point) / jnp.where(possible > 0, possible, 1)
        nearer = jnp.where(share < 1, point + share * (furthest - point), furthest)
        return jnp.where(moving, nearer, point), size, rounds + 1

    return jax.lax.while_loop(goes_on, move, (here, jnp.abs(gradient), jnp.zeros((), here.dtype)))[0]


def _complete(question: Question, x: Array, maps: Array, moved: Array, first: Array, completeness: bool) -> Complete:
    """The maps; if asked for, with what their sums (n,) are too large by.

    Args:
        question: the score s.
        x: images.
        maps: of them.
        moved: see `on_path`.
        first: s(x₀).
        completeness: whether it is asked for.
    """
    last = question.scores(x)
    answer = (maps, jnp.sum(maps, (1, 2, 3)) - (last - first)) if completeness else maps
    return on_path(answer, maps, last - first, jnp.stack([first, last], 1), moved)
