"""The values a network passes from stage to stage: what is tested for its distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask, check_images
from jaxcam.attribution.targets import per_output
from jaxcam.program import layers as layers_of
from jaxcam.program import tap

LOGITS = "logits"

RANKS = {"tag": 2, "add": 1, "concat": 1}
"""Of layers of one size those that close a block: the next block may begin with a convolution of the same size."""


def stages(model: Any, x: Any) -> list[str]:
    """What each stage of a network hands on: one layer for each size that its layers have.

    It is the last value of that size that its author tagged; else the last sum or concatenation; else the last layer.
    Left out are a first size with one convolution only (a stem), and layers that are the classifier already: as many
    units as outputs.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), or a `jax.ShapeDtypeStruct` of them.

    Returns:
        Names that `jc.tap` takes, in network order.

    Raises:
        ValueError: the network has no layer with space.

    Example:
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x, jnp.ones((5, 4, 1, 1)), (1, 1), "SAME").mean((1, 2))
        >>> stages(net, jnp.ones((1, 4, 3, 3)))
        ['conv_0']
    """
    outputs = jax.eval_shape(lambda images: model(images), jax.ShapeDtypeStruct(np.shape(x), jnp.float32))
    classes = outputs.shape[-1]
    last: dict[tuple[int, ...], tuple[int, str]] = {}
    convolutions: dict[tuple[int, ...], int] = {}
    for layer in layers_of(model, x):
        size = layer.shape[:-1]
        if len(size) != 2 or max(size) < 2:
            continue
        convolutions[size] = convolutions.get(size, 0) + (layer.kind == "conv")
        rank = RANKS.get(layer.kind, 0)
        if layer.kind != "pool" and layer.units != classes and rank >= last.get(size, (0, ""))[0]:
            last[size] = rank, layer.name
    if not last:
        raise ValueError("the network has no layer with space; name layers that jaxcam layers lists")
    first = next(iter(convolutions))
    if convolutions[first] < 2 and len(last) > 1:
        last.pop(first, None)
    return [name for _, name in last.values()]


def layer_values(model: Any, x: Array, layers: Sequence[str] | None = None) -> dict[str, Float[np.ndarray, "n m"]]:
    """The values of a network's stages as samples: for each image the mean over the channels of each place.

    vₗ(y, x) = meanᵤ aₗ(y, x, u), flattened; and the logits as they are.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        layers: names that `jc.layers` lists; None for the last layer of each stage. A layer without space gives its
            units.

    Returns:
        By the layer's name (n, m), m its places; last, as "logits", the outputs (n, k).

    Raises:
        TypeError: images or model of a wrong kind.
        ValueError: no such layer, or what every method raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((4, 1, 1, 1)), (1, 1), "SAME").mean((2, 3))
        >>> values = layer_values(net, jnp.arange(9.0).reshape(1, 3, 3, 1), ["conv_0"])
        >>> {name: found.shape for name, found in values.items()}
        {'conv_0': (1, 9), 'logits': (1, 4)}

    Utkin and Nagorny, 2024.
    """
    check_images(x)
    if isinstance(layers, str):
        layers = [layers]
    names = tuple(stages(model, x[:1]) if layers is None else layers)
    found = ask(_values, model, x, None, layers=names)
    return {name: np.asarray(found[name]) for name in (*names, LOGITS)}


def _values(question: Question, x: Array, *, layers: tuple[str, ...]) -> dict[str, Array]:
    taken = tap(question.model, list(layers))(x) if layers else {}
    means = {name: _sample(value) for name, value in taken.items()}
    return means | {LOGITS: per_output(question.outputs(x))}


def _sample(value: Array) -> Float[Array, "n m"]:
    """One number for each place, or for each unit where there is only one place."""
    if value.ndim < 3 or value[0, ..., 0].size == 1:
        return value.reshape(len(value), -1)
    return value.mean(-1).reshape(len(value), -1)
