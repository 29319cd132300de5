"""What an equation means: recognized by what it computes, never by whose library wrote it.

`max(x, 0)`, `where(x > 0, x, 0)`, `x * (x > 0)`, `clip(x, 0, 6)` and `jax.nn.relu` are all the same thing to an
explanation, so `activations` finds each of them and says which value goes in and which comes out. Everything here
reads programs; nothing evaluates or changes them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Container, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array

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
        "stack",
        "unstack",
        "tile",
        "reduce_sum",
        "reduce_window_sum",
        "convert_element_type",
        "rev",
        "copy",
        "copy_p",
        "name",
        "gather",
        "scatter",
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
        "pvary",
        "conj",
        "optimization_barrier",
    ]
)
# Operations that pass one of their operands on: piecewise linear, with a derivative everybody agrees on.
SELECTING = frozenset(
    [
        "reduce_max",
        "reduce_min",
        "reduce_window_max",
        "sort",
        "top_k",
        "cummax",
        "cummin",
        "select_and_gather_add",
    ]
)
# Linear in one operand if the others do not depend on the input.
BILINEAR = frozenset(["mul", "conv_general_dilated", "dot_general"])
# A constant with more numbers than this is a weight, not the zero of somebody's `maximum(x, zero)`.
_LARGEST_CONSTANT = 4096


@dataclasses.dataclass(frozen=True)
class Activation:
    """A rectifier: the value that goes in and the one that comes out.

    Attributes:
        kind: "relu", "clipped_relu" (ReLU6 and its like) or "leaky_relu".
        source: the value it is applied to.
        result: the value it gives.
        inner: the values in between.
        slope: of the negative side, 0 but for a leaky ReLU.
        limit: the largest value it gives, infinite but for a clipped ReLU.
        custom: whether there is a derivative of somebody's own in it (`jax.custom_vjp`).
    """

    kind: str
    source: Value
    result: Value
    inner: frozenset[Value] = frozenset()
    slope: float = 0.0
    limit: float = math.inf
    custom: bool = False

    def pull_back(self, rectify: Callable[[Array], Array], x: Array, cotangent: Array) -> Array:
        """The derivative at x times a cotangent.

        At a kink it is the derivative of the side where the rectifier is off, however it is written. JAX's own depends
        on the spelling: at 0, `maximum(x, 0)` has ½, `where(x >= 0, x, 0)` has 1 and `jax.nn.relu` has 0.

        Args:
            rectify: the rectifier itself, for what has a derivative of its own: that is kept.
            x: where.
            cotangent: of the result.
        """
        clipped = self.limit < math.inf
        if self.custom:
            aside = jnp.where(x == 0, -1, x)  # a number on the side where it is off
            aside = jnp.where(x == self.limit, 2 * self.limit, aside) if clipped else aside
            return jax.vjp(rectify, aside.astype(x.dtype))[1](cotangent)[0]
        passed = jnp.where(x < self.limit, cotangent, 0) if clipped else cotangent
        return jnp.where(x > 0, passed, self.slope * cotangent if self.slope else 0).astype(x.dtype)


def uniform(program: Program) -> dict[Value, float]:
    """The values of a program that are known to be one number everywhere, and that number."""
    known: dict[Value, float] = {}
    for value, constant in program.constants.items():
        if (number := _only_number(constant)) is not None:
            known[value] = number
    for node in program.nodes:
        if (
            node.name in {"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "copy", "neg"}
            and node.outputs[0] is not None
        ):
            number = number_of(node.inputs[0], known)
            if node.name == "convert_element_type":
                number = _converted(number, program.avals[node.outputs[0]].dtype)
            if number is not None:
                known[node.outputs[0]] = -number if node.name == "neg" else number
    return known


def _converted(number: float | None, dtype: Any) -> float | None:
    """A number as another type has it, 0.9 as an integer is 0; None where that cannot be told."""
    if number is None:
        return None
    if jnp.issubdtype(dtype, jnp.integer):
        return float(int(number)) if jnp.iinfo(dtype).min <= number <= jnp.iinfo(dtype).max else None
    if jnp.issubdtype(dtype, jnp.bool_):
        return float(number != 0)
    if not jnp.issubdtype(dtype, jnp.floating):
        return None
    with np.errstate(over="ignore"):
        return float(np.asarray(number).astype(dtype))


def _only_number(constant: Any) -> float | None:
    """The number that an array holds everywhere, if there is one and it can be seen (a traced array cannot)."""
    if isinstance(constant, jax.core.Tracer) or not 0 < np.size(constant) <= _LARGEST_CONSTANT:
        return None
    if not any(jnp.issubdtype(jnp.result_type(constant), kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        return None
    numbers = np.asarray(constant)
    return float(numbers.flat[0]) if (numbers == numbers.flat[0]).all() else None


def number_of(atom: Value | core.Literal, known: dict[Value, float]) -> float | None:
    """The number that a literal, or a value known to be uniform, stands for."""
    if not isinstance(atom, Value):
        return float(atom.val) if np.ndim(atom.val) == 0 and np.isrealobj(atom.val) else None
    return known.get(atom)


def activations(program: Program) -> dict[Value, Activation]:
    """Every rectifier of a program, by the value it gives."""
    finder = _Finder(program)
    for node in program.nodes:
        result = node.outputs[0] if node.outputs else None
        hit = None if result is None else finder.recognize(node)
        if hit is None or result is None or program.avals[hit.source].shape != program.avals[result].shape:
            continue
        for value in hit.inner:
            # min(max(x, 0), 6) is one rectifier, unless somebody reads max(x, 0) as well.
            if finder.alone(value, node):
                finder.found.pop(value, None)
        finder.found[result] = dataclasses.replace(hit, result=result)
    return finder.found


def _hit(kind: str, source: Value, inner: Iterable[Value | core.Literal] = (), **shape: Any) -> Activation:
    """A rectifier whose result is filled in by `activations`."""
    return Activation(kind, source, -1, frozenset(value for value in inner if isinstance(value, Value)), **shape)


class _Finder:
    """Looks at one node after the other, with what is known of those before."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.found: dict[Value, Activation] = {}
        self.known = uniform(program)
        self.makers = {value: node for node in program.nodes for value in node.outputs if value is not None}
        self.readers = program.consumers()

    def alone(self, value: Value, node: Node) -> bool:
        """Whether nobody but the node reads a value."""
        return self.readers[value] == [node] and value not in self.program.outputs

    def maker(self, atom: Value | core.Literal, *names: str) -> Node | None:
        """The node that makes a value, if it is one of these operations."""
        node = self.makers.get(atom) if isinstance(atom, Value) else None
        return node if node is not None and node.name in names else None

    def recognize(self, node: Node) -> Activation | None:
        if node.body is not None:
            return self.of_body(node)
        match node.name:
            case "max":
                return self.of_max(node)
            case "min":
                return self.of_min(node)
            case "clamp":
                return self.of_clamp(node)
            case "select_n" if len(node.inputs) == 3:
                return self.of_select(node)
            case "mul":
                return self.of_mask(node)
        return None

    def of_body(self, node: Node) -> Activation | None:
        """A custom derivative around a rectifier (jax.nn.relu is such)."""
        body = node.body
        assert body is not None
        if len(node.operands) != 1 or len(body.outputs) != 1 or not isinstance(body.outputs[0], Value):
            return None
        hit = activations(body).get(body.outputs[0])
        if hit is None or hit.source not in body.inputs:
            return None
        return _hit(hit.kind, node.operands[0], slope=hit.slope, limit=hit.limit, custom=True)

    def of_max(self, node: Node) -> Activation | None:
        for x, other in (node.inputs, node.inputs[::-1]):
            if not isinstance(x, Value):
                continue
            if number_of(other, self.known) == 0:
                clip = self.maker(x, "min")
                if clip is not None and self.alone(x, node):  # max(min(x, 6), 0)
                    for source, bound in (clip.inputs, clip.inputs[::-1]):
                        limit = number_of(bound, self.known) or 0
                        if isinstance(source, Value) and limit > 0:
                            return _hit("clipped_relu", source, [x], limit=limit)
                return _hit("relu", x)
            slope = self.slope(other, x)
            if slope is not None and 0 < slope < 1:  # max(x, a·x)
                return _hit("leaky_relu", x, [other], slope=slope)
        return None

    def of_min(self, node: Node) -> Activation | None:
        for x, other in (node.inputs, node.inputs[::-1]):
            before = self.found.get(x) if isinstance(x, Value) else None
            limit = number_of(other, self.known) or 0
            if before is not None and before.kind == "relu" and limit > 0:
                inner = {*before.inner, x}  # min(max(x, 0), 6)
                return _hit("clipped_relu", before.source, inner, limit=limit, custom=before.custom)
        return None

    def of_clamp(self, node: Node) -> Activation | None:
        low, x, high = node.inputs
        limit = number_of(high, self.known)
        if number_of(low, self.known) != 0 or not isinstance(x, Value) or limit is None or limit <= 0:
            return None
        return _hit("relu" if limit == math.inf else "clipped_relu", x, limit=limit)

    def of_select(self, node: Node) -> Activation | None:
        compared = self.comparison(node.inputs[0])
        if compared is None:
            return None
        x, positive_if_true = compared
        when_false, when_true = node.inputs[1:]
        positive, negative = (when_true, when_false) if positive_if_true else (when_false, when_true)
        if not isinstance(positive, Value) or positive != x:
            return None
        if number_of(negative, self.known) == 0:
            return _hit("relu", x, [node.inputs[0]])
        slope = self.slope(negative, x)
        if slope is not None and 0 <= slope < 1:
            return _hit("leaky_relu", x, [node.inputs[0], negative], slope=slope)
        return None

    def of_mask(self, node: Node) -> Activation | None:
        for x, mask in (node.inputs, node.inputs[::-1]):
            maker = self.maker(mask, "convert_element_type")
            if isinstance(x, Value) and maker is not None and self.comparison(maker.inputs[0]) == (x, True):
                return _hit("relu", x, [mask, *maker.operands])
        return None

    def comparison(self, atom: Value | core.Literal) -> tuple[Value, bool] | None:
        """For x > 0 or its like: x, and whether the comparison is true where x is positive."""
        maker = self.maker(atom, "gt", "ge", "lt", "le")
        if maker is None:
            return None
        left, right = maker.inputs
        if isinstance(left, Value) and number_of(right, self.known) == 0:
            return left, maker.name in {"gt", "ge"}
        if isinstance(right, Value) and number_of(left, self.known) == 0:
            return right, maker.name in {"lt", "le"}
        return None

    def slope(self, atom: Value | core.Literal, x: Value) -> float | None:
        """a, if the value is a·x (or x / (1/a))."""
        maker = self.maker(atom, "mul", "div")
        if maker is None:
            return None
        left, right = maker.inputs
        if maker.name == "mul" and isinstance(right, Value) and right == x:
            left, right = right, left
        number = number_of(right, self.known)
        if not isinstance(left, Value) or left != x or not number:
            return None
        return number if maker.name == "mul" else 1 / number


def is_affine(node: Node, live: set[Value]) -> bool:
    """Whether a node is a convolution or matrix product of a thing that depends on the input and one that does not."""
    if node.name not in {"conv_general_dilated", "dot_general"}:
        return False
    left, right = (isinstance(atom, Value) and atom in live for atom in node.inputs)
    return left != right


def is_piecewise_linear(node: Node, live: Container[Value]) -> bool:
    """Whether a node is linear in the values of `live`, or passes one of them on as max pooling does.

    What clips a single value (`min(x, 1)`, a learned slope) is not: it bends like a rectifier, so a rule must know it.
    """
    varying = node.varying(live)
    avals: list[Any] = [variable.aval for variable in node.equation.outvars]
    if not varying or not any(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals):
        return True  # comparisons, indices and the like: no gradient flows through them
    match node.name:
        case "div":
            return node.inputs[1] not in varying
        case "select_n":
            return node.inputs[0] not in varying
        case "max" | "min":
            idle = -math.inf if node.name == "max" else math.inf
            return len(varying) == 2 or any(number_of(atom, {}) == idle for atom in node.inputs)
    return node.name in LINEAR or node.name in SELECTING or (node.name in BILINEAR and len(varying) == 1)
