"""What relevance passes through: a program as pieces, each of which one rule is responsible for.

Kinds of pieces, by what their equations compute:

    conv, dense   a kernel with its bias and the batch norms and
                  normalizations beside it                        (an affine map, see affine.py)
    scale         shifts and scales that are beside no kernel     (a batch norm before a ReLU or after a concatenation)
    mean, add     average and sum pooling; sums of two values     (linear, without weights)
    factor        scales without a shift                          (x / 2)
    activation    one number in, one number out, not linear       (ReLU, GELU, whoever wrote it)
    select        one of several numbers is passed on             (max pooling, maxout)
    move          numbers change places                           (reshape, concatenate, pad, slice)
    none          anything else: a product of two values of the input, softmax

`dismantle` follows the program back from its outputs, so what no output depends on is no piece.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxcam.program.affine import Affine, affine_maps
from jaxcam.program.layers import Anatomy
from jaxcam.program.recognize import SELECTING
from jaxcam.program.trace import Node, Program, Value

_MOVING = frozenset(
    [
        *("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "dynamic_slice", "pad"),
        *("dynamic_update_slice", "concatenate", "stack", "unstack", "split", "tile", "rev", "gather", "scatter"),
        *("copy", "copy_p", "name", "convert_element_type", "reduce_precision", "optimization_barrier"),
        *("device_put", "sharding_constraint", "stop_gradient"),
    ]
)
_ADDING = frozenset(["add", "add_any", "sub", "cumsum", "scatter-add", "scatter_add"])
_LINEAR_POINTWISE = frozenset(["add", "add_any", "sub", "neg", "copy", "copy_p", "name", "convert_element_type"])
_POINTWISE = _LINEAR_POINTWISE | frozenset(
    [
        *("mul", "div", "rem", "max", "min", "clamp", "select_n", "abs", "sign", "square", "sqrt", "rsqrt", "cbrt"),
        *("pow", "integer_pow", "exp", "exp2", "expm1", "log", "log1p", "logistic", "erf", "erfc", "erf_inv"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
        *("floor", "ceil", "round", "is_finite", "gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not", "xor"),
    ]
)


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """One part of a program that one rule is responsible for.

    Attributes:
        kind: see the top of this file.
        layer: the layer it belongs to, or the last one before it.
        nodes: its equations, in order.
        sources: the values it is computed from that depend on the input, each once.
        others: those that do not.
        result: the value that it gives.
        affine: the map, for "conv", "dense", "scale" and "factor".
    """

    kind: str
    layer: str
    nodes: tuple[Node, ...]
    sources: tuple[Value, ...]
    others: tuple[Value, ...]
    result: Value
    affine: Affine | None = None


def dismantle(anatomy: Anatomy) -> list[Piece]:
    """The pieces of a model's program, in the order of its evaluation.

    Args:
        anatomy: of the model.
    """
    program, live = anatomy.program, anatomy.live
    namer = _Namer(anatomy)
    maps = {found.result: found for found in affine_maps(program, live)}
    active = _activations(program, live)
    needed = {atom for atom in program.outputs if isinstance(atom, Value)}
    pieces: list[Piece] = []
    for node in reversed(program.nodes):
        wanted = [value for value in node.outputs if value is not None and value in needed and value in live]
        if not wanted:
            continue
        result = wanted[0]
        if result in maps:
            found = maps[result]
            piece = Piece(found.kind, "", found.nodes, (found.source,), found.others, result, found)
        elif result in active:
            source, nodes = active[result]
            piece = Piece("activation", "", nodes, (source,), _others(nodes, live), result)
        else:
            sources = tuple(dict.fromkeys(node.varying(live)))
            piece = Piece(_kind(node, program, live), "", (node,), sources, _others((node,), live), result)
        needed.update(piece.sources)
        if jnp.issubdtype(program.avals[result].dtype, jnp.inexact):
            pieces.append(dataclasses.replace(piece, layer=namer.layer(piece)))
    return pieces[::-1]


def _others(nodes: tuple[Node, ...], live: set[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(value for node in nodes for value in node.operands if value not in live))


def _kind(node: Node, program: Program, live: set[Value]) -> str:
    """The kind of an equation that is neither in an affine map nor an activation."""
    varying = node.varying(live)
    if not all(jnp.issubdtype(program.avals[value].dtype, jnp.inexact) for value in varying):
        return "none"
    match node.name:
        case "max" | "min":
            return "select" if len(varying) == 2 else "none"
        case "select_n":
            return "move" if node.inputs[0] not in varying else "none"
        case "convert_element_type":
            return "move"
    if node.name in _ADDING:
        return "add"
    if node.name in SELECTING:
        return "select"
    return "move" if node.name in _MOVING else "none"


def _activations(program: Program, live: set[Value]) -> dict[Value, tuple[Value, tuple[Node, ...]]]:
    """For each value that is a nonlinear function of one other, number by number: that other and the equations between.

    The other is the nearest one: silu is x ↦ x · logistic(x), although x itself may be a ReLU of something.
    """
    roots: dict[Value, tuple[Value, ...]] = {}  # a value and all it is a pointwise function of, nearest first
    makers: dict[Value, Node] = {}
    found: dict[Value, tuple[Value, tuple[Node, ...]]] = {}
    for node in program.nodes:
        varying = node.varying(live)
        if not varying or len(node.outputs) != 1 or (result := node.outputs[0]) is None:
            continue
        makers[result] = node
        roots[result] = (result,)
        if not _is_pointwise(node, program, varying):
            continue
        ancestries = [roots.get(value, (value,)) for value in varying]
        shared = set(ancestries[0]).intersection(*ancestries)
        source = next((value for value in ancestries[0] if value in shared), None)
        if source is None:
            continue
        roots[result] = (result, *ancestries[0][ancestries[0].index(source) :])
        if _bends(node, varying) and jnp.issubdtype(program.avals[result].dtype, jnp.inexact):
            found[result] = (source, _between(source, result, makers, live))
    return found


def _is_pointwise(node: Node, program: Program, varying: list[Value]) -> bool:
    """Whether each number of the result comes from the numbers at the same place."""
    (result,) = node.outputs
    assert result is not None
    shape = program.avals[result].shape
    if any(program.avals[value].shape != shape for value in varying):
        return False
    if node.body is not None:  # a derivative of its own: pointwise if all it computes is, numbers apart
        read = [atom for operand, atom in zip(node.inputs, node.body.inputs, strict=True) if operand in varying]
        live = node.body.depending_on(read)
        inside = [inner for inner in node.body.nodes if inner.varying(live)]
        return all(
            len(inner.outputs) == 1 and inner.outputs[0] is not None and _is_pointwise(inner, node.body, vs)
            for inner in inside
            if (vs := inner.varying(live))
        )
    return node.name in _POINTWISE


def _bends(node: Node, varying: list[Value]) -> bool:
    """Whether a pointwise node is not linear."""
    match node.name:
        case "mul":
            return len(varying) == 2
        case "div":
            return not (len(varying) == 1 and node.inputs[0] == varying[0])
        case "select_n":
            return node.inputs[0] in varying
    return node.body is not None or node.name not in _LINEAR_POINTWISE


def _between(source: Value, result: Value, makers: dict[Value, Node], live: set[Value]) -> tuple[Node, ...]:
    """The equations that compute a value from another, in order."""
    nodes: list[Node] = []
    seen = {source}

    def visit(value: Value) -> None:
        if value in seen:
            return
        seen.add(value)
        node = makers[value]
        for operand in node.varying(live):
            visit(operand)
        nodes.append(node)

    visit(result)
    return tuple(nodes)


class _Namer:
    """Which layer a piece belongs to: that which starts with one of its equations, or whose value was the last."""

    def __init__(self, anatomy: Anatomy) -> None:
        self.starts = {id(place.node): place.name for place in anatomy.places}
        own = {place.value: place.name for place in anatomy.places}
        order = {place.name: index for index, place in enumerate(anatomy.places)}
        self.last: dict[Value, str] = {}
        for node in anatomy.program.nodes:
            before = [self.last[value] for value in node.operands if value in self.last]
            for value in node.outputs:
                if value in own:
                    self.last[value] = own[value]
                elif value is not None and before:
                    self.last[value] = max(before, key=order.__getitem__)

    def layer(self, piece: Piece) -> str:
        kernel = () if piece.affine is None else (piece.affine.node,)
        for node in (*kernel, *piece.nodes):
            if id(node) in self.starts:
                return self.starts[id(node)]
        return self.last.get(piece.result, "")
