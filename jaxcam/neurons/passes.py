"""One layer by the plain pass, under anybody's transformation, and integrated gradients, which are many plain passes.

The engine runs layers in pieces and chunks of its own (`cuts.py`); inside a user's `jit` or `vmap` it cannot, and a
layer is one function here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.neurons.backward import LayerPass, blackened, layer_pass
from jaxcam.neurons.precision import products
from jaxcam.program.layers import study
from jaxcam.program.transform import given


def path(x: Array, steps: int) -> Array:
    """Images on the straight way from black to x by the midpoint rule, then x: (steps·n + n, h, w, c)."""
    places = jnp.asarray((np.arange(steps) + 0.5) / steps, x.dtype)
    return jnp.concatenate([(places.reshape(-1, *[1] * x.ndim) * x).reshape(-1, *x.shape[1:]), x])


def prepare(
    model: Any, x: Array, layer: str, rule: str, steps: int = 0, precision: str = "float32"
) -> LayerPass | PathPass:
    """One layer by the plain pass; by integrated gradients in so many steps, if any are given."""
    images = path(x, steps) if steps else x
    with products(precision):
        anatomy, arrays = study(model, images)
    values = given(anatomy, arrays, images)
    state = layer_pass(anatomy, values, anatomy.find(layer), rule, anatomy.x, precision=precision)
    return PathPass(state, x) if steps else state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PathPass:
    """A layer's pass along the straight path from black to the images: integrated gradients by the midpoint rule.

    IGᵤ(x) = x · (1/m) Σᵢ ∂Σaᵤ/∂x at (i − ½)/m · x.

    Attributes:
        path: the pass at the m points of the path, and at the images themselves.
        x: the images (n, h, w, c).
    """

    path: LayerPass
    x: Array

    @property
    def activation(self) -> Array:
        return self.path.activation[-len(self.x) :]

    @property
    def dead(self) -> Array:
        return self.path.dead[-len(self.x) :]

    def maps(self, units: Array) -> Array:
        """Units (b,) ↦ their maps (b, n, h, w, c); a dead unit's map is black."""
        return self.finish(units, self.sent(units))

    def sent(self, units: Array) -> Array:
        """Units (b,) ↦ their derivatives at all points of the path, (b, m·n + n, h, w, c)."""
        return self.path.sent(units)

    def finish(self, units: Array, derivatives: Array) -> Array:
        """The integral of the derivatives, (b, n, h, w, c)."""
        along = derivatives[:, : -len(self.x)].reshape(len(units), -1, *self.x.shape)
        return blackened(self.dead[:, units], jnp.mean(along, axis=1) * self.x)


def maps_in_chunks(
    state: LayerPass | PathPass, units: Array, chunk: int, reduce: Callable[[Array], Array] = lambda maps: maps
) -> Array:
    """Maps under an outer `jit`, where nothing can depend on values: the plain pass, chunk by chunk.

    Args:
        state: the layer's pass.
        units: (m,).
        chunk: how many go back at once.
        reduce: applied to the maps (b, n, h, w, c) of each chunk as they appear; keeps the first axis.
    """
    count = len(units)
    chunk = min(chunk, count)
    filled = jnp.resize(units, (-(-count // chunk), chunk))
    reduced = jax.lax.map(lambda some: reduce(state.maps(some)), filled)
    return reduced.reshape(-1, *reduced.shape[2:])[:count]
