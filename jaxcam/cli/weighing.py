"""A model's arrays: their names, how many numbers they hold, and a fingerprint that tells one training from another."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcam.neurons.candidates import Selected
from jaxcam.program.layers import path_name, study


def arrays_of(model: Any) -> list[tuple[str, Any]]:
    """A model's floating-point arrays, with the names that the program room gives to their places."""
    flat = jax.tree_util.tree_flatten_with_path(model)[0]
    return [
        (path_name(path), leaf)
        for path, leaf in flat
        if isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]


def parameters(model: Any) -> int:
    """How many numbers a model has learned: of an NNX module its parameters, else all its floating-point numbers."""
    model = model.transformed_model if isinstance(model, Selected) else model
    if isinstance(model, nnx.Module):
        return sum(int(leaf.size) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return sum(int(np.prod(array.shape)) for _, array in arrays_of(model))


def constants(model: Any, images: Any) -> int:
    """How many floating-point numbers a function holds inside, where no pytree shows them: Keras, a bare closure."""
    found = study(model, images)[0].program.constants.values()
    return sum(int(np.size(array)) for array in found if jnp.issubdtype(jnp.result_type(array), jnp.floating))


def fingerprint(model: Any) -> str:
    """The sha256 of a model's arrays: another training, another fingerprint. Of a model without arrays that of none."""
    digest = hashlib.sha256()
    for name, array in arrays_of(model):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def of_layers(model: Any, layers: Sequence[str]) -> list[int]:
    """How many floating-point numbers the arrays under each layer's name hold."""
    sizes = [(name, int(np.prod(array.shape))) for name, array in arrays_of(model)]
    return [sum(size for name, size in sizes if f"{name}.".startswith(f"{layer}.")) for layer in layers]
