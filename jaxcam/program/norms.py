"""The scale of a normalization, found in the equations.

Batch norm computes γ · (z − μ) / √(σ² + ε) + β, in whatever order its author wrote that down: γ may be multiplied into
1/√(σ² + ε) first, or last. Along the scales and shifts that end in a layer's value, what comes by way of a square root
(or is divided by) is the statistic; what else multiplies is γ. Group and layer norm, whose statistics are the image's
own, are found by the same square root.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array, Float

from jaxcam.program.layers import Anatomy, Place, study
from jaxcam.program.recognize import is_affine
from jaxcam.program.trace import Node, Value, replay
from jaxcam.program.transform import given

_SAME = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "convert_element_type", "copy"}
_ROOTS = {"rsqrt", "sqrt", "pow", "integer_pow"}

Factors = list[Value | core.Literal]


def normalization_scale(model: Any, x: Any, layer: str) -> Float[Array, " u"] | None:
    """γ of the last normalization whose scales reach a layer with no convolution in between, one number for each unit.

    Args:
        model: any callable `x -> outputs`.
        x: images.
        layer: a name that `layers` lists.

    Returns:
        γ (u,), ones where the normalization has no scale of its own; None if there is no such normalization.

    Raises:
        ValueError: no such layer.
    """
    anatomy, arrays = study(model, x)
    place = anatomy.find(layer)
    factors = _Norms(anatomy).before(place)
    if factors is None:
        return None
    values = [atom for atom in factors if isinstance(atom, Value)]
    arrays_of = dict(zip(values, replay(anatomy.program, given(anatomy, arrays, x), values), strict=True))
    units = anatomy.layer(place).units
    scale = jnp.ones(units, anatomy.program.avals[place.value].dtype)
    for atom in factors:
        number = arrays_of[atom] if isinstance(atom, Value) else jnp.asarray(atom.val)
        scale = scale * jnp.broadcast_to(jnp.reshape(number, -1), (units,))
    return scale


class _Norms:
    """Looks for normalizations in one program."""

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy, self.program, self.live = anatomy, anatomy.program, anatomy.live
        self.makers = {value: node for node in self.program.nodes for value in node.outputs if value is not None}
        self.depth: dict[Value, int] = {anatomy.x: 0}  # how many convolutions deep a value is
        for node in self.program.nodes:
            before = max((self.depth[value] for value in node.varying(self.live)), default=0)
            inside = before + is_affine(node, self.live)
            self.depth.update({value: inside for value in node.outputs if value is not None and value in self.live})

    def before(self, place: Place) -> Factors | None:
        """What γ is made of; None if there is no normalization."""
        upstream, depth = self.program.leading_to(place.value), self.depth[place.value]
        units = self.anatomy.layer(place).units
        for node in reversed(self.program.nodes):
            value = node.outputs[0] if node.outputs else None
            # On the other way into a residual sum there are fewer convolutions: its normalization is another one.
            if value not in upstream or value not in self.live or value is None or self.depth[value] != depth:
                continue
            if depth > 0 and self.step(node) and (factors := self.run(value, units)) is not None:
                return factors
        return None

    def step(self, node: Node) -> bool:
        return node.name in {"mul", "div", "add", "sub"}

    def run(self, value: Value, units: int) -> Factors | None:
        """The factors of the scales that end in a value, if there is a statistic among them."""
        factors: Factors = []
        normalized = False
        while (node := self.makers.get(value)) is not None:
            varying = node.varying(self.live)
            if node.name in {"convert_element_type", "copy", "reshape", "transpose"} and len(varying) == 1:
                value = varying[0]
                continue
            if not self.step(node) or not varying:
                break
            if len(varying) == 2:  # the image's own statistic
                for operand in varying if node.name in {"mul", "div"} else ():
                    beside = self.beside_root(operand) if node.name == "mul" else []
                    if self.rooted(operand) and all(self.size(atom) in {1, units} for atom in beside):
                        return factors + beside
                break
            if node.name in {"mul", "div"}:
                first = isinstance(node.inputs[0], Value) and node.inputs[0] == varying[0]
                found, statistic = self.split(node.inputs[1 if first else 0])
                if node.name == "div":
                    if not first:
                        break
                    found, statistic = [], statistic or self.many(node.inputs[1])
                if any(self.size(atom) not in {1, units} for atom in found):
                    break
                factors += found
                normalized |= statistic
            value = varying[0]
        return factors if normalized else None

    def split(self, atom: Value | core.Literal) -> tuple[Factors, bool]:
        """The factors of a product that are no statistics, and whether there is a statistic as well."""
        node = self.makers.get(atom) if isinstance(atom, Value) else None
        if node is None:
            return [atom], False
        if node.name in _SAME:
            return self.split(node.inputs[0])
        if node.name in _ROOTS:
            return [], True
        if node.name == "mul":
            (left, one), (right, other) = (self.split(operand) for operand in node.inputs)
            return [*left, *right], one or other
        if node.name == "div":
            above, statistic = self.split(node.inputs[0])
            return above, statistic or self.split(node.inputs[1])[1]
        return [atom], False

    def rooted(self, value: Value) -> bool:
        """Whether a value is a root, but for its layout."""
        node = self.makers.get(value)
        while node is not None and node.name in {*_SAME, "mul"}:
            if node.name == "mul":
                return any(isinstance(operand, Value) and self.rooted(operand) for operand in node.inputs)
            node = self.makers.get(node.inputs[0]) if isinstance(node.inputs[0], Value) else None
        return node is not None and node.name in _ROOTS

    def beside_root(self, value: Value) -> Factors:
        """The factors that a root of the image's own was multiplied by, as Flax does with the scale of a layer norm."""
        factors: Factors = []
        while (node := self.makers.get(value)) is not None and node.name in {*_SAME, "mul"}:
            varying = node.varying(self.live)
            if len(varying) != 1:
                break
            for atom in node.inputs if node.name == "mul" else ():
                if atom != varying[0]:
                    factors += self.split(atom)[0]
            value = varying[0]
        return factors

    def many(self, atom: Value | core.Literal) -> bool:
        return self.size(atom) > 1

    def size(self, atom: Value | core.Literal) -> int:
        return math.prod(self.program.avals[atom].shape) if isinstance(atom, Value) else int(np.size(atom.val))
