"""What all class activation maps have in common: which layers, what is in them, and how units become one map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask
from jaxcam.attribution.targets import Contrast, Target, score
from jaxcam.program.exposure import expose, first_nonlinear, pooled_then_affine, spatial_layers
from jaxcam.program.layers import Anatomy, study
from jaxcam.program.rewrite import accelerate

# One map (n, h, w), or for several layers a dict of them, each as large as its layer.
Map = Float[Array, "n h w"] | dict[str, Float[Array, "n _ _"]]
Layers = str | Sequence[str] | None


def at_layers(
    inner: Callable[..., dict[str, Array]],
    model: Any,
    x: Any,
    target: Target,
    layer: Layers,
    *arrays: Any,
    **options: Any,
) -> Any:
    """Asks an inner function about one layer, or several; a single map, or a dict of them in the order asked for.

    Args:
        inner: (question, x, *arrays, layer, **options) ↦ {layer: map}.
        model: any callable `x -> outputs`.
        x: images (n, h, w, c).
        target: see `score`.
        layer: a name, several, or None for the method's own choice.
        *arrays: see `ask`.
        **options: see `ask`.

    Raises:
        TypeError: a layer that is no name.
        ValueError: no layers at all.
    """
    several = isinstance(layer, list | tuple)
    names = tuple(layer) if layer is not None and not isinstance(layer, str) and several else layer
    if not (names is None or isinstance(names, str) or (several and all(isinstance(name, str) for name in names))):
        raise TypeError(f"a layer is a name that jc.layers(model, x) lists, or several in a list; got {layer!r}")
    if several and not names:
        raise ValueError("layer=[] asks for no map; name at least one layer, or leave it out for the last with space")
    maps = ask(inner, model, x, target, *arrays, layer=names, **options)
    return {name: maps[name] for name in names} if isinstance(names, tuple) else next(iter(maps.values()))


def chosen(model: Any, x: Any, layer: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the layers to look at, each with units over space.

    Args:
        model: any callable `x -> outputs`.
        x: images; shapes are enough.
        layer: a name, several, or None for the last layer whose units have more than one place and that is no
            pooling: the last convolution's, or the sum, concatenation or tag that follows it.

    Raises:
        ValueError: no such layer, a layer without space, or a model without a convolution.
    """
    anatomy, _ = study(model, x)
    if layer is None:
        if (complaint := anatomy.unopened("conv_general_dilated")) is not None:
            raise ValueError(f"which layer is the last cannot be told: {complaint}; or name a layer")
        found = spatial_layers(anatomy)
        if not found:
            raise ValueError(no_space(anatomy))
        return (found[-1].name,)
    names = (layer,) if isinstance(layer, str) else layer
    for name in names:
        shape = anatomy.layer(anatomy.find(name)).shape
        if len(shape) != 3:
            raise ValueError(
                f"layer '{name}' has no space: its value is {shape}, a class activation map needs (h, w, u); "
                f"{_instead(anatomy)}"
            )
    return names


def pooled_layers(question: Question, x: Array, layer: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The layers of whose mean over space the scores are an affine function: where a class activation map is exact.

    Raises:
        ValueError: there is none, or those named are not such; the operation in the way is named.
    """
    anatomy, _ = study(question.model, x)
    if callable(question.target):
        outputs = jax.eval_shape(question.model, x)
        if (culprit := first_nonlinear(question.target, outputs)) is not None:
            raise ValueError(
                f"cam is exact for targets that are linear in the outputs; this one has '{culprit}'. Explain a logit, "
                "or use grad_cam"
            )
    names = chosen(question.model, x, layer)
    summed = not callable(question.target) or isinstance(question.target, Contrast)
    if layer is None:
        for place in reversed(spatial_layers(anatomy, pools=True)):
            if pooled_then_affine(anatomy, place, summed) is None:
                return (place.name,)
    for name in names:
        if (complaint := pooled_then_affine(anatomy, anatomy.find(name), summed)) is not None:
            raise ValueError(
                f"cam needs a global average pool and then at most a dense layer after layer '{name}', but "
                f"{complaint}; grad_cam and hires_cam take any head"
            )
    return names


def no_space(anatomy: Anatomy) -> str:
    """The message for a model none of whose layers could be drawn."""
    if not any(place.kind == "conv" for place in anatomy.places):
        return "the model has no convolution, so no layer has units over space; jc.saliency explains any model"
    return (
        "after its first convolution no layer of the model has units over more than one place; give larger images, or "
        "name a layer"
    )


def _instead(anatomy: Anatomy) -> str:
    found = [place.name for place in spatial_layers(anatomy)]
    return f"the last with space is '{found[-1]}'" if found else no_space(anatomy)


def activations_and_gradients(
    question: Question, x: Array, names: tuple[str, ...]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The activations of layers (n, h, w, u) and ∂(Σ scores)/∂ these, from one forward and one backward pass."""
    exposed = expose(question.model, names)
    faster = accelerate(exposed)

    def total(deltas: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        outputs, activations = faster(x, deltas)
        return jnp.sum(score(outputs, question.target)), activations

    gradients, activations = jax.grad(total, has_aux=True)(exposed.zeros(x))
    return activations, gradients


def weighted(
    activations: Float[Array, "n h w u"], weights: Float[Array, "n u"], relu: bool = False
) -> Float[Array, "n h w"]:
    """Σᵤ wᵤ aᵤ, and of that the positive part if asked for."""
    maps = jnp.einsum("nhwu,nu->nhw", activations, weights)
    return jnp.maximum(maps, 0) if relu else maps


def place_by_place(
    combine: Callable[[Array, Array], Array], question: Question, x: Array, layer: Any, relu: bool
) -> dict[str, Array]:
    """Maps made of activations and gradients at the same layer."""
    names = chosen(question.model, x, layer)
    activations, gradients = activations_and_gradients(question, x, names)
    maps = {name: combine(activations[name], gradients[name]) for name in names}
    return {name: jnp.maximum(found, 0) if relu else found for name, found in maps.items()}
