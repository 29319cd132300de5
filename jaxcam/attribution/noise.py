"""The mean over noise: SmoothGrad around any method, and expected gradients over random baselines.

All images of a batch meet the same draws, so that a batch is explained as its images one by one; the noise of draw
number i depends on the key and on i alone, so that the chunk size changes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask, check_chunk, check_count, check_images, check_key
from jaxcam.attribution.bricks import SUMMARIES, check_one_of, smooth
from jaxcam.attribution.budget import chunk_size
from jaxcam.attribution.gradients import saliency
from jaxcam.attribution.targets import Target


def smooth_grad(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    key: Array,
    method: Callable[..., Any] = saliency,
    samples: int = 32,
    sigma: float | int = 0.15,
    kind: str = "mean",
    chunk: int | None = None,
) -> Any:
    """The mean of a method's maps over noisy copies of the image.

    M(x) = 1/s · Σᵢ m(x + σ(max x − min x) εᵢ), εᵢ ~ N(0, 1), with m the map of `method`; "squared" is the mean of m²
    and "variance" the variance of m over the draws.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x (without noise), or a
            callable outputs -> (n,).
        key: of `jax.random`; all images of a batch meet the same draws.
        method: any (model, x, target) -> maps; with options, as `functools.partial(jc.input_x_gradient, …)`.
        samples: how many draws, s.
        sigma: the noise's standard deviation as a share of each image's own range, maximum minus minimum.
        kind: "mean" (SmoothGrad), "squared" (SmoothGrad²) or "variance" (VarGrad).
        chunk: how many draws at once; None for what fits. The answer does not depend on it.

    Returns:
        Raw maps as `method` gives them, (n, h, w, c) for the gradient; "squared" and "variance" are nowhere negative.

    Raises:
        TypeError: images or target of a wrong kind, no key, a method that cannot be called.
        ValueError: what `saliency` and the method raise; an unknown kind, samples or chunk below 1, a negative sigma.

    Example:
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -2.0]])
        >>> smooth_grad(net, jnp.ones((1, 1, 2, 1)), target=1, key=jax.random.key(0), samples=4)[0, 0, :, 0].tolist()
        [-2.0, -2.0]

    Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017; Adebayo et al., "Local Explanation Methods for
    Deep Neural Networks Lack Sensitivity to Parameter Values", 2018 (VarGrad). Differs from: Captum's `stdevs` are
    absolute, and its noise differs from image to image. When it misleads: large noise explains the network far from the
    image, where its answer may be another.
    """
    check_one_of(kind, SUMMARIES, "kind")
    if not callable(method):
        raise TypeError(f"a method is a function of (model, x, target), such as jc.saliency; got {method!r}")
    options = _checked(key, samples, sigma, chunk)
    return ask(_smooth_grad, model, x, target, key, sigma, method=_comparable(method), kind=kind, **options)


def gradient_shap(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    key: Array,
    baselines: Array | np.ndarray | None = None,
    samples: int = 32,
    sigma: float | int = 0.0,
    chunk: int | None = None,
) -> Float[Array, "n h w c"]:
    """How much of the score each number of the image adds, on the way from a random baseline.

    M(x) = 1/s · Σᵢ (x̃ᵢ − bᵢ) · ∂s/∂x(bᵢ + αᵢ(x̃ᵢ − bᵢ)), with x̃ᵢ = x + σ(max x − min x) εᵢ, bᵢ one of the baselines
    and αᵢ ~ U(0, 1): integrated gradients, integral and mean over baselines both by chance. Σ M is s(x) minus the
    baselines' mean score in expectation only.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        key: of `jax.random`; all images of a batch meet the same draws.
        baselines: (b, h, w, c), drawn from uniformly, with repetition; None for zeros.
        samples: how many draws, s.
        sigma: the noise's standard deviation as a share of each image's own range, maximum minus minimum.
        chunk: how many draws at once; None for what fits. The answer does not depend on it.

    Returns:
        Raw maps (n, h, w, c), signed, in units of the score.

    Raises:
        TypeError: images or target of a wrong kind, no key.
        ValueError: what `saliency` raises; baselines of another shape, samples or chunk below 1, a negative sigma.

    Example:
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -2.0]])
        >>> black = jnp.zeros((1, 1, 2, 1))
        >>> maps = gradient_shap(net, jnp.ones((1, 1, 2, 1)), target=1, key=jax.random.key(0), baselines=black)
        >>> maps[0, 0, :, 0].tolist()
        [-2.0, -2.0]

    Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017; Erion et al., "Improving performance
    of deep learning models with axiomatic attribution priors and expected gradients", 2021. Differs from: Captum's
    `stdevs` are absolute.
    """
    options = _checked(key, samples, sigma, chunk)
    check_images(x)
    shape = tuple(np.shape(x)[1:])
    given = jnp.zeros((1, *shape), x.dtype) if baselines is None else jnp.asarray(baselines, x.dtype)
    if given.ndim != 4 or given.shape[1:] != shape or not len(given):
        raise ValueError(f"baselines are images (b, {', '.join(map(str, shape))}); got shape {given.shape}")
    if not isinstance(given, jax.core.Tracer) and not np.isfinite(np.asarray(given)).all():
        raise ValueError("the baselines have NaN or infinite values")
    noise = isinstance(sigma, jax.core.Tracer) or float(sigma) > 0
    return ask(_gradient_shap, model, x, target, key, sigma, given, noise=noise, **options)


def _checked(key: Any, samples: Any, sigma: Any, chunk: Any) -> dict[str, Any]:
    """The options of a mean over draws."""
    check_key(key)
    check_chunk(chunk)
    samples = check_count(samples, "samples")
    if not isinstance(sigma, jax.core.Tracer):
        number = isinstance(sigma, int | float | np.number | np.ndarray | jax.Array) and np.ndim(sigma) == 0
        if not number or not 0 <= float(sigma) < np.inf:
            raise ValueError(f"sigma is a share of each image's range, a number from 0 up; got {sigma!r}")
    return {"samples": samples, "chunk": chunk}


def _noisy(x: Array, key: Array, sigma: Any) -> Array:
    """Images with noise; the same noise, at each image's own scale, for all of them."""
    scale = jnp.asarray(sigma, x.dtype) * jnp.ptp(x, axis=(1, 2, 3), keepdims=True)
    return x + scale * jax.random.normal(key, x.shape[1:], x.dtype)


def _smooth_grad(
    question: Question,
    x: Array,
    key: Array,
    sigma: Array,
    method: Callable[..., Any],
    samples: int,
    kind: str,
    chunk: int | None,
) -> Any:
    question = question.settled(x)

    def one(draw: Array) -> Any:
        return method(question.model, _noisy(x, jax.random.fold_in(key, draw), sigma), question.target)

    around = method(question.model, x, question.target) if kind == "variance" else None
    return smooth(one, samples, kind, chunk_size(question.model, x, samples, chunk), around)


def _gradient_shap(
    question: Question,
    x: Array,
    key: Array,
    sigma: Array,
    baselines: Array,
    samples: int,
    noise: bool,
    chunk: int | None,
) -> Array:
    question = question.settled(x)
    for_noise, for_path = jax.random.split(key)
    # Drawn at once: each call of a generator takes XLA a second to compile.
    places, picks = jax.random.uniform(for_path, (samples, 2), x.dtype).T
    starts = jnp.minimum(picks * len(baselines), len(baselines) - 1).astype(int)

    def one(draw: Array) -> Array:
        start = baselines[starts[draw]]
        way = (_noisy(x, jax.random.fold_in(for_noise, draw), sigma) if noise else x) - start
        return way * question.gradient(start + places[draw] * way)

    return smooth(one, samples, "mean", chunk_size(question.model, x, samples, chunk))


class _Comparable(functools.partial[Any]):
    """A partial function equal to another of the same function and options: it compiles once, not at every call."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Comparable) and _parts(self) == _parts(other)

    def __hash__(self) -> int:
        return hash(_parts(self))


def _parts(call: functools.partial[Any]) -> Any:
    return call.func, call.args, frozenset(call.keywords.items())


def _comparable(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method; a partial of hashable options as one that is compared by value."""
    if not isinstance(method, functools.partial):
        return method
    try:
        hash(_parts(method))
    except TypeError:  # an array among the options: compared by identity
        return method
    return _Comparable(method.func, *method.args, **method.keywords)
