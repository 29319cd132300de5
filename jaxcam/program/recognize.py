"""What an equation means: recognized by what it computes, never by whose library wrote it.

`max(x, 0)`, `where(x > 0, x, 0)`, `x * (x > 0)`, `clip(x, 0, 6)` and `jax.nn.relu` are all the same thing to an
explanation, so `activations` finds each of them and says which value goes in and which comes out. Everything here
reads programs; nothing evaluates or changes them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcam.program.trace import Node, Program, Value

# Operations that are linear in what depends on the input, whatever else they take.
LINEAR = frozenset(
    [
        "add",
        "add_any",
        "sub",
        "neg",
        "reshape",
        "transpose",
        "broadcast_in_dim",
        "squeeze",
        "expand_dims",
        "slice",
        "dynamic_slice",
        "dynamic_update_slice",
        "pad",
        "concatenate",
        "reduce_sum",
        "reduce_window_sum",
        "convert_element_type",
        "rev",
        "copy",
        "copy_p",
        "name",
        "gather",
        "scatter-add",
        "scatter_add",
        "cumsum",
        "reduce_precision",
        "split",
        "sharding_constraint",
        "device_put",
        "real",
        "imag",
        "stop_gradient",
        "psum",
        "optimization_barrier",
    ]
)
# Operations that pass one of their operands on: piecewise linear, with a derivative everybody agrees on.
SELECTING = frozenset(
    [
        "max",
        "min",
        "clamp",
        "reduce_max",
        "reduce_min",
        "reduce_window_max",
        "select_n",
        "sort",
        "cummax",
        "cummin",
        "select_and_gather_add",
    ]
)
# Linear in one operand if the others do not depend on the input.
BILINEAR = frozenset(["mul", "conv_general_dilated", "dot_general"])


@dataclasses.dataclass(frozen=True)
class Activation:
    """A rectifier: the value that goes in and the one that comes out.

    Attributes:
        kind: "relu", "clipped_relu" (ReLU6 and its like) or "leaky_relu".
        source: the value it is applied to.
        result: the value it gives.
        inner: the values in between that nobody else reads.
    """

    kind: str
    source: Value
    result: Value
    inner: frozenset[Value] = frozenset()


def uniform(program: Program) -> dict[Value, float]:
    """The values of a program that are known to be one number everywhere, and that number."""
    known: dict[Value, float] = {}
    for value, constant in program.constants.items():
        if isinstance(constant, np.ndarray | np.generic | bool | int | float) and np.size(constant) == 1:
            known[value] = float(np.reshape(constant, ())[()])
    for node in program.nodes:
        if (
            node.name in {"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "copy", "neg"}
            and node.outputs[0] is not None
        ):
            number = number_of(node.inputs[0], known)
            if number is not None:
                known[node.outputs[0]] = -number if node.name == "neg" else number
    return known


def number_of(atom: Value | core.Literal, known: dict[Value, float]) -> float | None:
    """The number that a literal, or a value known to be uniform, stands for."""
    if not isinstance(atom, Value):
        return float(atom.val) if np.ndim(atom.val) == 0 and np.isrealobj(atom.val) else None
    return known.get(atom)


def activations(program: Program) -> dict[Value, Activation]:
    """Every rectifier of a program, by the value it gives."""
    known = uniform(program)
    makers = {value: node for node in program.nodes for value in node.outputs if value is not None}
    found: dict[Value, Activation] = {}
    for node in program.nodes:
        result = node.outputs[0] if node.outputs else None
        if result is None:
            continue
        hit = _recognize(node, known, makers)
        if hit is not None and program.avals[hit[1]].shape == program.avals[result].shape:
            found[result] = Activation(hit[0], hit[1], result, frozenset(hit[2]))
    return found


def _recognize(
    node: Node, known: dict[Value, float], makers: dict[Value, Node]
) -> tuple[str, Value, set[Value]] | None:
    if node.body is not None:
        return _of_body(node)
    if node.name == "max":
        return _of_max(node, known, makers)
    if node.name == "clamp":
        low, x, high = node.inputs
        if number_of(low, known) == 0 and isinstance(x, Value):
            limit = number_of(high, known)
            return ("relu" if limit == math.inf else "clipped_relu"), x, set()
    if node.name == "select_n" and len(node.inputs) == 3:
        return _of_select(node, known, makers)
    if node.name == "mul":
        return _of_mask(node, known, makers)
    return None


def _of_max(node: Node, known: dict[Value, float], makers: dict[Value, Node]) -> tuple[str, Value, set[Value]] | None:
    for x, other in (node.inputs, node.inputs[::-1]):
        if not isinstance(x, Value):
            continue
        if number_of(other, known) == 0:
            return "relu", x, set()
        slope = _slope(other, x, known, makers)  # max(x, a·x)
        if slope is not None and 0 < slope < 1:
            return "leaky_relu", x, _values(other)
    return None


def _of_body(node: Node) -> tuple[str, Value, set[Value]] | None:
    """A custom derivative around a rectifier (jax.nn.relu and relu6 are such)."""
    body = node.body
    assert body is not None
    if len(node.operands) != 1 or len(body.outputs) != 1 or not isinstance(body.outputs[0], Value):
        return None
    inside = activations(body)
    result, clipped = body.outputs[0], False
    maker = next((n for n in body.nodes if result in n.outputs), None)
    if maker is not None and maker.name == "min" and result not in inside:
        known = uniform(body)
        for x, limit in (maker.inputs, maker.inputs[::-1]):
            if isinstance(x, Value) and x in inside and number_of(limit, known) is not None:
                result, clipped = x, True
    hit = inside.get(result)
    if hit is None or hit.source not in body.inputs:
        return None
    return ("clipped_relu" if clipped else hit.kind), node.operands[0], set()


def _values(*atoms: Value | core.Literal) -> set[Value]:
    return {atom for atom in atoms if isinstance(atom, Value)}


def _comparison(atom: Any, known: dict[Value, float], makers: dict[Value, Node]) -> tuple[Value, bool] | None:
    """For x > 0 or its like: x, and whether the comparison is true where x is positive."""
    maker = makers.get(atom) if isinstance(atom, Value) else None
    if maker is None or maker.name not in {"gt", "ge", "lt", "le"}:
        return None
    left, right = maker.inputs
    if isinstance(left, Value) and number_of(right, known) == 0:
        return left, maker.name in {"gt", "ge"}
    if isinstance(right, Value) and number_of(left, known) == 0:
        return right, maker.name in {"lt", "le"}
    return None


def _slope(atom: Any, x: Value, known: dict[Value, float], makers: dict[Value, Node]) -> float | None:
    """a, if the value is a·x."""
    maker = makers.get(atom) if isinstance(atom, Value) else None
    if maker is None or maker.name != "mul":
        return None
    for left, right in (maker.inputs, maker.inputs[::-1]):
        if left is x or (isinstance(left, Value) and left == x):
            return number_of(right, known)
    return None


def _of_select(
    node: Node, known: dict[Value, float], makers: dict[Value, Node]
) -> tuple[str, Value, set[Value]] | None:
    compared = _comparison(node.inputs[0], known, makers)
    if compared is None:
        return None
    x, positive_if_true = compared
    when_false, when_true = node.inputs[1:]
    positive, negative = (when_true, when_false) if positive_if_true else (when_false, when_true)
    if not isinstance(positive, Value) or positive != x:
        return None
    inner = _values(node.inputs[0])
    if number_of(negative, known) == 0:
        return "relu", x, inner
    if _slope(negative, x, known, makers) is not None:
        return "leaky_relu", x, inner | _values(negative)
    return None


def _of_mask(node: Node, known: dict[Value, float], makers: dict[Value, Node]) -> tuple[str, Value, set[Value]] | None:
    for x, mask in (node.inputs, node.inputs[::-1]):
        if not isinstance(x, Value) or not isinstance(mask, Value):
            continue
        maker = makers.get(mask)
        if maker is None or maker.name != "convert_element_type":
            continue
        compared = _comparison(maker.inputs[0], known, makers)
        if compared == (x, True):
            return "relu", x, {mask, *maker.operands}
    return None


def is_affine(node: Node, live: set[Value]) -> bool:
    """Whether a node is a convolution or matrix product of a thing that depends on the input and one that does not."""
    if node.name not in {"conv_general_dilated", "dot_general"}:
        return False
    left, right = (isinstance(atom, Value) and atom in live for atom in node.inputs)
    return left != right


def is_piecewise_linear(node: Node, live: set[Value]) -> bool:
    """Whether a node is linear in the values of `live`, or passes one of its operands on."""
    varying = len(node.varying(live))
    if varying == 0 or node.name in LINEAR or node.name in SELECTING:
        return True
    if node.name in BILINEAR:
        return varying == 1
    if node.name == "div":
        return not isinstance(node.inputs[1], Value) or node.inputs[1] not in live
    # Comparisons, indices and the like: no gradient flows through them.
    return all(not jnp.issubdtype(aval.dtype, jnp.inexact) for aval in _avals(node))


def _avals(node: Node) -> list[Any]:
    return [variable.aval for variable in node.equation.outvars]
