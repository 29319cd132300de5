"""A module's weights as named arrays, and back."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

Module = TypeVar("Module", bound=nnx.Module)

# The keys of dropout are no weights: they say nothing about what was learned, and a seed brings them back.
WEIGHTS = nnx.Not(nnx.RngState)


def weights_of(model: nnx.Module) -> dict[str, Any]:
    """The arrays of an NNX module, parameters and batch statistics, by their paths.

    Args:
        model: any NNX module.

    Returns:
        Name → array, sorted by name: `features.conv0.kernel`.

    Example:
        >>> sorted(weights_of(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
        ['bias', 'kernel']
    """
    flat = nnx.to_flat_state(nnx.state(model, WEIGHTS))
    named = {".".join(map(str, path)): variable.get_value() for path, variable in flat}
    return dict(sorted(named.items()))


def filled(model: Module, arrays: Mapping[str, np.ndarray]) -> Module:
    """The module with other weights, the one given left as it is.

    Args:
        model: any NNX module, or its blueprint.
        arrays: by name, as many as `weights_of` lists, in the same shapes.

    Returns:
        A new module.

    Example:
        >>> zeros = {"bias": np.zeros(3), "kernel": np.zeros((2, 3))}
        >>> float(filled(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), zeros)(np.ones((1, 2))).sum())
        0.0
    """
    definition, weights, *rest = nnx.split(model, WEIGHTS, ...)
    flat = [
        (path, variable.replace(jnp.asarray(arrays[".".join(map(str, path))], variable.get_value().dtype)))
        for path, variable in nnx.to_flat_state(weights)
    ]
    result: Module = nnx.merge(definition, nnx.from_flat_state(flat), *rest)
    return result
