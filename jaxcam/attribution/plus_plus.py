"""Grad-CAM++: Grad-CAM with higher derivatives, in the closed form and as the derivatives themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, check_chunk
from jaxcam.attribution.bricks import check_one_of
from jaxcam.attribution.budget import chunk_size, mapped
from jaxcam.attribution.layer_maps import Layers, Map, at_layers, chosen, place_by_place, weighted
from jaxcam.attribution.targets import Target, score
from jaxcam.program.exposure import above


def grad_cam_plus_plus(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    layer: Layers = None,
    derivatives: str = "closed",
    epsilon: float = 0.0,
    relu: bool = True,
    chunk: int | None = None,
) -> Map:
    """Grad-CAM whose weights count each place by how much it matters: for several objects of one class.

    M = max(Σᵤ wᵤ aᵤ, 0), wᵤ = Σ α · max(Y′, 0) over space, with α = Y″ / (2Y″ + (Σ aᵤ) · Y‴) and Y = exp(s), whose
    derivatives are with respect to aᵤ at one place. Up to the factor exp(s), which is left out, Y′ is g = ∂s/∂aᵤ, and
    in the closed form Y″ is g² and Y‴ is g³: exact wherever what follows the layer is piecewise linear (dense, ReLU,
    pooling), since then s″ = s‴ = 0.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        layer: see `grad_cam`.
        derivatives: "closed" for the closed form, "true" for the derivatives of exp(s) themselves, by three nested
            directional derivatives for each number of the layer: for small layers, and for heads that are not
            piecewise linear (GELU, softmax targets).
        epsilon: added to the denominator of α; pytorch-grad-cam has 1e-6, which is not small beside squares of
            gradients.
        relu: whether negative values become 0, as in the paper.
        chunk: for "true", how many numbers of the layer at once; None for what fits.

    Returns:
        Maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name. Not negative unless
        relu=False; divided by exp(s), so maps of two targets differ in scale from the paper's.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `grad_cam` raises; no such kind of derivatives, a negative epsilon, a chunk below 1.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME").sum((2, 3))
        >>> grad_cam_plus_plus(net, jnp.array([[[[0.5], [1.5]]]])).tolist()
        [[[0.25, 0.75]]]

    Chattopadhay et al., "Grad-CAM++", 2018. Differs from: the paper and pytorch-grad-cam both use the closed form;
    a denominator of 0 gives α = 0.
    """
    check_one_of(derivatives, ("closed", "true"), "kind of derivatives")
    check_chunk(chunk)
    if not epsilon >= 0:
        raise ValueError(f"epsilon is 0 or more; got {epsilon!r}")
    options = {"derivatives": derivatives, "epsilon": float(epsilon), "relu": bool(relu), "chunk": chunk}
    return at_layers(_grad_cam_plus_plus, model, x, target, layer, **options)


def _grad_cam_plus_plus(
    question: Question, x: Array, *, layer: Any, derivatives: str, epsilon: float, relu: bool, chunk: int | None
) -> dict[str, Array]:
    if derivatives == "closed":

        def combine(a: Array, g: Array) -> Array:
            return weighted(a, _plus_plus(a, g, g**2, g**3, epsilon))

        return place_by_place(combine, question, x, layer, relu)
    question = question.settled(x)
    maps = {}
    for name in chosen(question.model, x, layer):
        activations, rest = above(question.model, x, name)
        places = activations[0].size
        size = chunk_size(question.model, x, places, chunk)

        def scores(a: Array, rest: Callable[[Array], Any] = rest) -> Array:
            return score(rest(a), question.target)

        s1, s2, s3 = _three_derivatives(scores, activations, size)
        weights = _plus_plus(activations, s1, s1**2 + s2, s1**3 + 3 * s1 * s2 + s3, epsilon)
        maps[name] = weighted(activations, weights, relu)
    return maps


def _plus_plus(a: Array, first: Array, second: Array, third: Array, epsilon: float) -> Float[Array, "n u"]:
    """The weights from the three derivatives of Y = exp(s), each divided by Y."""
    below = 2 * second + jnp.sum(a, (1, 2), keepdims=True) * third + epsilon
    alpha = jnp.where(below == 0, 0, second / jnp.where(below == 0, 1, below))
    return jnp.sum(alpha * jnp.maximum(first, 0), (1, 2))


def _three_derivatives(scores: Callable[[Array], Array], a: Array, chunk: int) -> tuple[Array, ...]:
    """∂s/∂aₑ, ∂²s/∂aₑ² and ∂³s/∂aₑ³ for every number e of each image's activations."""

    def along(place: Array) -> tuple[Array, ...]:
        direction = jnp.broadcast_to(jax.nn.one_hot(place, a[0].size, dtype=a.dtype).reshape(a.shape[1:]), a.shape)

        def derivative(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
            return lambda values: jax.jvp(function, (values,), (direction,))[1]

        first = derivative(scores)
        second = derivative(first)
        return first(a), second(a), derivative(second)(a)

    found = mapped(along, jnp.arange(a[0].size), chunk)
    return tuple(jnp.moveaxis(values, 0, 1).reshape(a.shape) for values in found)
