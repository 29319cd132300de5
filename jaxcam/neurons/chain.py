"""Chains of convolution, ReLU and max pooling: what the active backward pass can walk down.

Below a layer, as long as each convolution feeds the next through nothing but bias, batch norm, a rectifier and a max
pool, the way back is a product of small matrices between active entries (`active.py`). `chain_below` finds that
stretch in a program; `activity` computes, in one forward pass, what of it one image makes active.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.neurons.active import Convolution
from jaxcam.program.layers import Anatomy, Place
from jaxcam.program.recognize import is_affine
from jaxcam.program.rewrite import first_maximum, windows
from jaxcam.program.trace import Node, Replacements, Value, replay

_NHWC = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


@dataclasses.dataclass(frozen=True)
class Link:
    """One convolution of a chain.

    Attributes:
        convolution: its equation.
        rectified: the value after its bias, batch norm and rectifier.
        pool: the equation that pools that value, if one does.
    """

    convolution: Node
    rectified: Value
    pool: Node | None

    @property
    def top(self) -> Value:
        """The value above: pooled, if anything pools. It tells a link from others with the same convolution."""
        top = self.rectified if self.pool is None else self.pool.outputs[0]
        assert top is not None
        return top

    @property
    def source(self) -> Value:
        return self.convolution.operands[0]

    @property
    def output(self) -> Value:
        output = self.convolution.outputs[0]
        assert output is not None
        return output


def chain_below(anatomy: Anatomy, place: Place) -> list[Link]:
    """The convolutions below a layer, highest first, down to the first thing that is none."""
    makers = {value: node for node in anatomy.program.nodes for value in node.outputs if value is not None}
    links: list[Link] = []
    value = place.node.operands[0]
    while (link := _link(anatomy, makers, value)) is not None:
        links.append(link)
        value = link.source
    return links


def _link(anatomy: Anatomy, makers: dict[Value, Node], value: Value) -> Link | None:
    value, pool = _named(makers, value), None
    node = makers.get(value)
    if node is not None and node.name == "reduce_window_max":
        params = node.params
        spatial = params["window_dimensions"][0] == params["window_dimensions"][3] == 1
        if not spatial or set(params["base_dilation"]) | set(params["window_dilation"]) != {1}:
            return None
        pool, value = node, _named(makers, node.operands[0])
    activation = anatomy.activations.get(value)
    if activation is None:
        return None
    rectified, value = value, activation.source
    while (node := makers.get(value)) is not None and not is_affine(node, anatomy.live):
        varying = node.varying(anatomy.live)
        same = bool(varying) and anatomy.program.avals[varying[0]].shape == anatomy.program.avals[value].shape
        if node.name not in {"add", "sub", "mul", "div", "name"} or len(varying) != 1 or not same:
            return None
        value = varying[0]
    if node is None or not is_convolution(node, anatomy):
        return None
    return Link(node, rectified, pool)


def _named(makers: dict[Value, Node], value: Value) -> Value:
    """The value under its tags."""
    while value in makers and makers[value].name == "name":
        value = makers[value].operands[0]
    return value


def is_convolution(node: Node, anatomy: Anatomy) -> bool:
    """Whether a node is a plain two-dimensional convolution of the images, channels last, in single precision."""
    if node.name != "conv_general_dilated" or len(node.operands) != 2 or node.operands[0] not in anatomy.live:
        return False
    params, avals = node.params, anatomy.program.avals
    grouped = params["feature_group_count"] != 1 or params["batch_group_count"] != 1
    # The walk is in float32: what is in double precision, or in half, stays that on the plain way.
    single = {avals[v].dtype for v in (*node.operands, *node.outputs) if v is not None} == {np.dtype(np.float32)}
    layout = tuple(params["dimension_numbers"]) == _NHWC
    return single and layout and not grouped and set(params["lhs_dilation"]) == {1}


def activity(
    anatomy: Anatomy, values: dict[Value, Any], links: list[Link], replacements: Replacements
) -> list[dict[str, Array]]:
    """What an image lets through on the way back, for each link.

    Returns:
        For each link "passed", the derivative of its rectified value with respect to its convolution's output (n, h,
        w, u);
        "kernel"; and with pooling "winners", which place of each window holds the maximum (n, h', w', u).
    """
    wanted = [v for link in links for v in (link.output, link.rectified, link.convolution.operands[1])]
    found = dict(zip(wanted, replay(anatomy.program, values, wanted, replacements), strict=True))
    result = []
    for link in links:

        def chain(z: Array, link: Link = link) -> Array:
            return replay(anatomy.program, {**values, link.output: z}, [link.rectified], replacements)[0]

        _, pull = jax.vjp(chain, found[link.output])
        (passed,) = pull(jnp.ones_like(found[link.rectified]))
        facts = {"passed": passed, "kernel": found[link.convolution.operands[1]]}
        if link.pool is not None:
            places = windows(found[link.rectified], link.pool.params)
            pooled = link.pool(found[link.rectified])[0]
            facts["winners"] = jnp.argmax(jnp.stack(first_maximum(places, pooled)), 0)
        result.append(facts)
    return result


def geometry(anatomy: Anatomy, link: Link, kernel: np.ndarray) -> Convolution:
    """A link's convolution for one image."""
    params = link.convolution.params
    padding = _pair(low for low, _ in params["padding"])
    input_shape, output_shape = (anatomy.program.avals[v].shape[1:] for v in (link.source, link.output))
    strides, dilation = _pair(params["window_strides"]), _pair(params["rhs_dilation"])
    return Convolution(kernel, strides, padding, dilation, input_shape, output_shape)


def _pair(numbers: Iterable[int]) -> tuple[int, int]:
    """Two numbers of an equation; older versions of JAX keep some of them as NumPy's."""
    first, second = numbers
    return int(first), int(second)


def pooling(link: Link) -> dict[str, tuple[int, int]] | None:
    """The window of a link's pooling."""
    if link.pool is None:
        return None
    params = link.pool.params
    padding = _pair(low for low, _ in params["padding"][1:3])
    size, strides = _pair(params["window_dimensions"][1:3]), _pair(params["window_strides"][1:3])
    return {"size": size, "strides": strides, "padding": padding}
