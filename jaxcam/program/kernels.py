"""What a network learned, before it sees an image: the kernels of its layers, read off its program."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.layers import Anatomy, Place, study
from jaxcam.program.trace import Value, replay


def kernels(model: Any, x: Any) -> dict[str, Array]:
    """The kernels of a model's convolutions and dense layers, as they are multiplied with their inputs.

    Args:
        model: any callable `x -> outputs`.
        x: a batch (n, h, w, c), or a `jax.ShapeDtypeStruct` of one; only its shape counts.

    Returns:
        By layer, as `layers` lists them: (h, w, i, o) of a convolution, (i, o) of a dense layer, whatever the order the
        model keeps them in. Layers whose kernel depends on the image have none here. Batch norm is not part of them.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> found = kernels(lambda x: x.mean((1, 2)) @ jnp.ones((3, 2)), jnp.ones((1, 4, 4, 3)))
        >>> {name: kernel.shape for name, kernel in found.items()}
        {'dense_0': (3, 2)}
    """
    anatomy, arrays = study(model, x)
    program = anatomy.program
    given = dict(zip(program.inputs, arrays, strict=False))
    found = [(place, i) for place in anatomy.places if (i := _position(anatomy, place)) is not None]
    values = replay(program, given, [place.node.inputs[i] for place, i in found])
    return {
        place.name: _in_order(place, jnp.asarray(kernel), i) for (place, i), kernel in zip(found, values, strict=True)
    }


def _position(anatomy: Anatomy, place: Place) -> int | None:
    """Which operand of a layer's equation is a kernel; None where it has none, or one that depends on the image."""
    if place.node.name not in ("conv_general_dilated", "dot_general"):
        return None
    fixed = [i for i, atom in enumerate(place.node.inputs) if not (isinstance(atom, Value) and atom in anatomy.live)]
    return fixed[0] if len(fixed) == 1 else None


def _in_order(place: Place, kernel: Array, position: int) -> Array:
    """A kernel with its spatial axes first, then inputs, then outputs."""
    numbers = place.node.params["dimension_numbers"]
    if place.node.name == "conv_general_dilated":
        outputs, inputs, *spatial = numbers.rhs_spec
        return jnp.transpose(kernel, (*spatial, inputs, outputs))
    contracted = numbers[0][position]
    rest = [axis for axis in range(kernel.ndim) if axis not in contracted]
    return jnp.transpose(kernel, (*contracted, *rest))
