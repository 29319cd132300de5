"""From the units of a layer to the image: the backward pass that the whole room stands on.

The map of unit u is the derivative of its summed activation, Σ aᵤ, with respect to the image, under one of the
backward rules. A plain `vmap` of that derivative would push one-hot images through the layer's own convolution. But a
convolution's bias, batch norm and ReLU treat each channel by itself, so one backward step with ones gives the
cotangent of every unit at once; and what a single channel sends back through its convolution needs one slice of the
kernel, not all of it:

    d = ∂(Σ a)/∂z           z: the convolution's output, d: (n, h, w, u), once for all units
    cₜ = shift(dᵤ, t) Wₜᵤ    t: the places of the kernel; summed, the cotangent of the convolution's input for unit u

From there on the units are a batch axis of the rest of the network (`trunk`), whose forward pass was done once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array

from jaxcam.neurons.precision import in_bfloat16
from jaxcam.program.layers import Anatomy, Place
from jaxcam.program.recognize import is_affine
from jaxcam.program.rewrite import folds, rewrites
from jaxcam.program.trace import Node, Replacements, Value, replay
from jaxcam.program.transform import canonical, rectifier_replacements


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerPass:
    """One layer at one batch of images, ready to send any of its units back. A pytree, so `jit` takes and gives it.

    Attributes:
        activation: the layer's value, (n, …, u).
        dead: for each image and unit whether the unit is silent there, (n, u).
        first: units (b,) ↦ cotangents of the layer's input, (…, b).
        trunk: such a cotangent ↦ (the cotangent of the images, or of the value the pass started from,).
    """

    activation: Array
    dead: Array
    first: Partial
    trunk: Callable[[Array], tuple[Array]]

    def maps(self, units: Array) -> Array:
        """Units (b,) ↦ their maps (b, n, h, w, c); a dead unit's map is black."""
        return self.finish(units, self.sent(units))

    def sent(self, units: Array) -> Array:
        """Units (b,) ↦ what they send back to where the pass started, (b, …)."""
        return jax.vmap(self.trunk, in_axes=-1)(self.first(units))[0]

    def finish(self, units: Array, maps: Array) -> Array:
        """What came back to the images, (b, n, h, w, c), with the maps of dead units set to zero."""
        return blackened(self.dead[:, units], maps)


def blackened(dead: Array, maps: Array) -> Array:
    """Maps (b, n, h, w, c), zero where a unit is dead (n, b)."""
    return jnp.where(dead.T.reshape(*maps.shape[:2], *[1] * (maps.ndim - 2)), 0, maps)


def layer_pass(
    anatomy: Anatomy,
    values: Mapping[Value, Any],
    place: Place,
    rule: str,
    start: Value,
    precision: str = "float32",
) -> LayerPass:
    """Runs the network forward from a value to a layer, and prepares the way back to that value.

    Args:
        anatomy: the model's.
        values: the model's arrays, and the value at `start`.
        place: the layer.
        rule: "guided", "gradient" or "deconv".
        start: the images, or a value that they reach the layer through (`cuts.py`).
        precision: of the matrix products (`precision.py`).
    """
    replacements = all_replacements(anatomy, rule, precision)
    folded = folded_too(anatomy, replacements, precision)
    x = values[start]

    def to(value: Value, image: Array) -> Array:
        return replay(anatomy.program, {**values, start: image}, [value], folded)[0]

    if not starts_alone(anatomy, place):
        activation, trunk = jax.vjp(lambda image: to(place.value, image), x)
        assert place.axes.units is not None
        first = Partial(
            functools.partial(_one_hot, axis=place.axes.units, shape=activation.shape, dtype=activation.dtype)
        )
    else:
        source, kernel = place.node.operands
        signal, trunk = jax.vjp(lambda image: to(source, image), x)
        output = place.node.outputs[0]
        assert output is not None
        (z,) = replay(anatomy.program, {**values, source: signal}, [output], replacements)
        (weights,) = replay(anatomy.program, values, [kernel])

        def chain(z: Array) -> Array:
            return replay(anatomy.program, {**values, output: z}, [place.value], replacements)[0]

        activation, pull_chain = jax.vjp(chain, z)
        (d,) = pull_chain(jnp.ones_like(activation))
        step = _dense_step if place.node.name == "dot_general" else _conv_step
        first = Partial(functools.partial(step, place.node, signal.shape), d, weights)

    activation = canonical(activation, place)
    dead = jnp.all(activation == 0, axis=tuple(range(1, activation.ndim - 1)))
    return LayerPass(activation, dead, first, trunk)


def all_replacements(anatomy: Anatomy, rule: str, precision: str = "float32") -> Replacements:
    """A rule's rectifiers, and the products of a program rewritten: faster, or in fewer bits."""
    products = rewrites(anatomy.program)
    if precision == "bfloat16":
        products = {**products, **in_bfloat16(anatomy, products)}
    return {**products, **rectifier_replacements(anatomy, rule)}


def folded_too(anatomy: Anatomy, replacements: Replacements, precision: str) -> Replacements:
    """The same for a stretch between inputs of layers, where batch norm can go into the kernels."""
    return replacements if precision == "bfloat16" else {**replacements, **folds(anatomy.program)}


def starts_alone(anatomy: Anatomy, place: Place) -> bool:
    """Whether a layer starts with a convolution or matrix product whose units each need one slice of its kernel."""
    node, program = place.node, anatomy.program
    if not is_affine(node, anatomy.live):
        return False
    kernel_is_right = isinstance(node.inputs[0], Value) and node.inputs[0] in anatomy.live
    if node.name == "conv_general_dilated":
        params = node.params
        grouped = params["feature_group_count"] != 1 or params["batch_group_count"] != 1
        return (
            kernel_is_right
            and not grouped
            and not set(params["lhs_dilation"]) - {1}
            and isinstance(node.inputs[1], Value)
        )
    ranks = [len(program.avals[v].shape) for v in node.operands]
    return kernel_is_right and ranks == [2, 2] and node.params["dimension_numbers"] == (((1,), (0,)), ((), ()))


def _one_hot(units: Array, *, axis: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Seeds for a layer of another kind: one for each unit, ones all over its channel."""
    hot = jax.nn.one_hot(units, shape[axis], axis=0, dtype=dtype)
    spread = [shape[axis] if i == axis else 1 for i in range(len(shape))]
    return jnp.broadcast_to(hot.reshape(*spread, len(units)), (*shape, len(units)))


def _dense_step(node: Node, shape: tuple[int, ...], d: Array, weights: Array, units: Array) -> Array:
    """Units ↦ the cotangents of a dense layer's input, from one column of its matrix each."""
    return d[:, None, units] * weights[:, units]


def _conv_step(node: Node, shape: tuple[int, ...], d: Array, weights: Array, units: Array) -> Array:
    """Units ↦ the cotangents of a convolution's input, from one slice of its kernel each.

    Args:
        node: the convolution.
        shape: of its input.
        d: the cotangents of its output, for all units at once.
        weights: its kernel.
        units: which units, (b,).

    Returns:
        (*shape, b)
    """
    params, spec = node.params, node.params["dimension_numbers"]
    spatial = range(len(spec.lhs_spec) - 2)
    d = jnp.transpose(d, (spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1]))[..., units]
    weights = jnp.transpose(weights, (*spec.rhs_spec[2:], spec.rhs_spec[1], spec.rhs_spec[0]))[..., units]
    sizes = [shape[axis] for axis in spec.lhs_spec[2:]]
    # Place t of the kernel takes the input's pixel q from the output's pixel y with y·stride + t·dilation − padding =
    # q: spread the outputs by the stride, pad, and each place is one slice.
    config, starts = [(0, 0, 0)], []
    for axis in spatial:
        k, dilation, stride = weights.shape[axis], params["rhs_dilation"][axis], params["window_strides"][axis]
        low = (k - 1) * dilation - params["padding"][axis][0]
        length = (d.shape[1 + axis] - 1) * stride + 1
        config.append((low, (k - 1) * dilation + sizes[axis] - low - length, stride - 1))
        starts.append([(k - 1 - t) * dilation for t in range(k)])
    config.append((0, 0, 0))
    spread = jax.lax.pad(d, jnp.zeros((), d.dtype), config)
    result = jnp.zeros((), d.dtype)
    # A sum of products, not a matrix product: the places are few, and XLA makes one loop of it.
    for place in np.ndindex(*weights.shape[:-2]):
        corner = [starts[axis][t] for axis, t in enumerate(place)]
        stops = [start + size for start, size in zip(corner, sizes, strict=True)]
        near = jax.lax.slice(spread, (0, *corner, 0), (d.shape[0], *stops, len(units)))
        result += near[..., None, :] * weights[place]
    order = (spec.lhs_spec[0], *spec.lhs_spec[2:], spec.lhs_spec[1])
    return jnp.transpose(result, (*(order.index(axis) for axis in range(len(order))), len(order)))
