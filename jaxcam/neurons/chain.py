"""What the active backward pass can walk down: convolutions, rectifiers, max pooling and residual sums.

A link is a rectified value, pooled or not, and what is summed under the rectifier: convolutions of links further down,
or such links as they are (a skip). As long as nothing stands between but bias, batch norm and the like, the way back
is a product of small matrices between active entries (`active.py`). `links_below` finds these links in a program;
`activity` computes what of a link one image makes active.

    value of a link = pool(rectify(s(Σ branches)))      branch: s(convolution(link)) or s(link)
                                                        s: channel by channel: bias, batch norm
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
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
class Branch:
    """One term of the sum under a rectifier.

    Attributes:
        root: the term.
        entry: what the term is, but for scales and shifts: a convolution's output, or the value of a link.
        convolution: its equation; None for a skip.
        below: the value that the convolution reads, or the skip brings.
    """

    root: Value
    entry: Value
    convolution: Node | None
    below: Value


@dataclasses.dataclass(frozen=True)
class Link:
    """A rectified sum.

    Attributes:
        branches: the terms.
        total: their sum.
        rectified: the value after batch norm and rectifier.
        pool: the equation that pools that value, if one does.
    """

    branches: tuple[Branch, ...]
    total: Value
    rectified: Value
    pool: Node | None

    @property
    def top(self) -> Value:
        """The value above: pooled, if anything pools. It is what a link is known by."""
        top = self.rectified if self.pool is None else self.pool.outputs[0]
        assert top is not None
        return top


def links_below(anatomy: Anatomy, place: Place) -> list[Link]:
    """The links below a layer, highest first; none unless all ways lead over links, to the images and nothing else."""
    program = anatomy.program
    order = {value: i for i, node in enumerate(program.nodes) for value in node.outputs if value is not None}
    makers = {value: node for node in program.nodes for value in node.outputs if value is not None}
    found: dict[Value, Link] = {}
    bottoms: set[Value] = set()
    waiting = [_named(makers, place.node.operands[0])]
    while waiting:
        value = waiting.pop()
        if value in found or value in bottoms:
            continue
        if (link := _link(anatomy, makers, value)) is None:
            bottoms.add(value)
        else:
            found[value] = link
            waiting += [branch.below for branch in link.branches]
    # A rectifier that is read pooled and as it is would be clipped twice, and not once for both together.
    apart = len({link.rectified for link in found.values()}) == len(found)
    if not found or not apart or len(bottoms) > 1 or not anatomy.is_input(next(iter(bottoms))):
        return []
    return sorted(found.values(), key=lambda link: -order[link.top])


def bottom(links: list[Link]) -> Value:
    """The value where a walk down ends: the images, or these scaled and shifted."""
    tops = {link.top for link in links}
    (found,) = {branch.below for link in links for branch in link.branches} - tops
    return found


def _link(anatomy: Anatomy, makers: dict[Value, Node], value: Value) -> Link | None:
    pool, node = None, makers.get(value)
    if node is not None and node.name == "reduce_window_max":
        params = node.params
        spatial = params["window_dimensions"][0] == params["window_dimensions"][3] == 1
        if not spatial or set(params["base_dilation"]) | set(params["window_dilation"]) != {1}:
            return None
        pool, value = node, _named(makers, node.operands[0])
    activation = anatomy.activations.get(value)
    if activation is None:
        return None
    total = _unscaled(anatomy, makers, activation.source)
    node = makers.get(total)
    terms = node.varying(anatomy.live) if node is not None and node.name == "add" else [total]
    if any(anatomy.program.avals[term].shape != anatomy.program.avals[total].shape for term in terms):
        return None
    branches = tuple(_branch(anatomy, makers, term) for term in terms)
    # A single skip is no sum, and a dense layer or a convolution of another kind no branch.
    known = [branch for branch in branches if branch is not None]
    if len(known) < len(branches) or not any(branch.convolution for branch in known):
        return None
    return Link(tuple(known), total, value, pool)


def _branch(anatomy: Anatomy, makers: dict[Value, Node], root: Value) -> Branch | None:
    entry = _unscaled(anatomy, makers, root)
    node = makers.get(entry)
    if node is None or not is_affine(node, anatomy.live):
        return Branch(root, entry, None, entry)
    if not is_convolution(node, anatomy):
        return None
    return Branch(root, entry, node, _named(makers, node.operands[0]))


def _unscaled(anatomy: Anatomy, makers: dict[Value, Node], value: Value) -> Value:
    """The value before scales, shifts and tags."""
    shapes = anatomy.program.avals
    while (node := makers.get(value)) is not None and node.name in {"add", "sub", "mul", "div", "name"}:
        varying = node.varying(anatomy.live)
        if len(varying) != 1 or shapes[varying[0]].shape != shapes[value].shape or _is_divisor(node, varying[0]):
            break
        value = varying[0]
    return value


def _is_divisor(node: Node, varying: Value) -> bool:
    return node.name == "div" and node.inputs[0] is not varying


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
    anatomy: Anatomy, values: Mapping[Value, Any], links: Sequence[Link], replacements: Replacements
) -> list[dict[str, Any]]:
    """What an image lets through on the way back, for each link.

    Args:
        anatomy: the network's.
        values: its arrays, and the images or a value that the links depend on the images through.
        links: which.
        replacements: the rule's.

    Returns:
        For each link "passed", the derivative of its rectified value with respect to the sum (n, h, w, u), and for
        each branch "scales", that of the sum with respect to the branch's entry, and "kernels", None for a skip; with
        pooling "winners", which place of each window holds the maximum (n, h', w', u).
    """
    program = anatomy.program
    constants = {value: array for value, array in values.items() if value not in anatomy.live}
    wanted = [value for link in links for value in (link.total, link.rectified)]
    found = dict(zip(wanted, replay(program, values, wanted, replacements), strict=True))

    def slope(above: Value, below: Value) -> Array:
        """The derivative of one value with respect to another that it is made of entry by entry."""
        at = found[below] if below in found else jnp.zeros(program.avals[below].shape, program.avals[below].dtype)
        value, pull = jax.vjp(lambda z: replay(program, {**constants, below: z}, [above], replacements)[0], at)
        return pull(jnp.ones_like(value))[0]

    result = []
    for link in links:
        convolutions = [branch.convolution for branch in link.branches]
        facts: dict[str, Any] = {
            "passed": slope(link.rectified, link.total),
            # Scales and shifts are linear: the slope is the same anywhere.
            "scales": [slope(branch.root, branch.entry) for branch in link.branches],
            "kernels": [node and replay(program, constants, [node.operands[1]])[0] for node in convolutions],
        }
        if link.pool is not None:
            places = windows(found[link.rectified], link.pool.params)
            pooled = link.pool(found[link.rectified])[0]
            facts["winners"] = jnp.argmax(jnp.stack(first_maximum(places, pooled)), 0)
        result.append(facts)
    return result


def geometry(anatomy: Anatomy, node: Node, kernel: np.ndarray) -> Convolution:
    """A convolution for one image."""
    params, shapes = node.params, anatomy.program.avals
    padding = _pair(low for low, _ in params["padding"])
    strides, dilation = _pair(params["window_strides"]), _pair(params["rhs_dilation"])
    below, above = node.operands[0], node.outputs[0]
    assert above is not None
    return Convolution(kernel, strides, padding, dilation, shapes[below].shape[1:], shapes[above].shape[1:])


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
