"""What a layer costs, and what of the image it sees.

Work is counted where nearly all of it is: 2 operations, a product and a sum, for each weight that a convolution or
dense layer applies at each place.

The receptive field of a value is followed along each axis of the image as three numbers, through every equation: a unit
at place i sees the pixels from `start` + i·`step` on, `size` of them. A window of k numbers s apart makes

    size' = size + (k − 1)·step·dilation      step' = s·step      start' = start − padding·step

and a sum of values sees what any of them does. What has no place any more (a global pool, a dense layer) sees all.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from jaxcam.program.layers import study
from jaxcam.program.recognize import is_affine
from jaxcam.program.trace import Node, Program, Value

_WINDOWS = frozenset(["reduce_window_max", "reduce_window_min", "reduce_window_sum", "reduce_window"])
# Results of the operands' shape whose places are not the operands' places.
_MOVING = frozenset(["rev", "sort", "top_k", "cumsum", "cummax", "cummin", "cumprod", "cumlogsumexp"])


@dataclasses.dataclass(frozen=True)
class View:
    """What a value sees along one axis of the image: `size` pixels from `start` + i·`step` on, at place i."""

    axis: int
    size: int = 1
    step: int = 1
    start: int = 0

    def windowed(self, width: Any, stride: Any = 1, dilation: Any = 1, before: Any = 0) -> View:
        # Under vmap JAX gives some of these as numpy numbers.
        size = self.size + int(width - 1) * int(dilation) * self.step
        return View(self.axis, size, self.step * int(stride), self.start - int(before) * self.step)


Views = dict[int, View]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a layer costs for one image, and what it sees.

    Attributes:
        layer: its name.
        operations: floating-point operations of its convolution or matrix product, 0 where it has none.
        field: height and width of what one of its units sees, in pixels, padding included; None for all of the image.
    """

    layer: str
    operations: int
    field: tuple[int, int] | None


def costs(model: Any, x: Any) -> list[Cost]:
    """What each layer of a model costs for one image, and how much of the image its units see.

    Args:
        model: any callable `x -> outputs`.
        x: a batch (n, h, w, c), or a `jax.ShapeDtypeStruct` of one.

    Returns:
        One `Cost` for each layer that `layers` lists, in its order.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> pool = lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
        >>> [cost.field for cost in costs(lambda x: pool(pool(x)), jnp.ones((1, 9, 9, 1)))]
        [(3, 3), (7, 7)]
    """
    anatomy, _ = study(model, x)
    program, live = anatomy.program, anatomy.live
    n = program.avals[anatomy.x].shape[0]
    seen = _follow(program, anatomy.x, live)
    return [
        Cost(place.name, _operations(place.node, program, live) // n, _field(seen.get(place.value, {})))
        for place in anatomy.places
    ]


def _field(views: Views) -> tuple[int, int] | None:
    by_axis = {view.axis: view.size for view in views.values()}
    return (by_axis[1], by_axis[2]) if {1, 2} <= by_axis.keys() else None


def _operations(node: Node, program: Program, live: set[Value]) -> int:
    if not is_affine(node, live):
        return 0
    output = node.outputs[0]
    assert output is not None
    places = math.prod(program.avals[output].shape)
    avals: list[Any] = [variable.aval for variable in node.equation.invars]
    if node.name == "dot_general":
        contracted = node.params["dimension_numbers"][0][0]
        return 2 * places * math.prod(avals[0].shape[axis] for axis in contracted)
    units = avals[1].shape[node.params["dimension_numbers"].rhs_spec[0]]
    return 2 * places * math.prod(avals[1].shape) // units


def _follow(program: Program, x: Value, live: set[Value]) -> dict[Value, Views]:
    """For each value what it sees, by its axes."""
    seen: dict[Value, Views] = {x: {1: View(1), 2: View(2)}}
    for node in program.nodes:
        operands = [value for value in node.varying(live) if value in seen]
        if not operands:
            continue
        for output in node.outputs:
            if output is not None:
                seen[output] = _after(node, program, operands, seen, output)
    return seen


def _after(node: Node, program: Program, operands: list[Value], seen: dict[Value, Views], output: Value) -> Views:
    views = seen[operands[0]]
    params, old, new = node.params, program.avals[operands[0]].shape, program.avals[output].shape
    match node.name:
        case "conv_general_dilated":
            return _convolved(node, views)
        case "dot_general":
            return _multiplied(node, operands[0], views)
        case "transpose":
            return {to: views[a] for to, a in enumerate(params["permutation"]) if a in views}
        case "broadcast_in_dim":
            kept = [int(axis) for axis in params["broadcast_dimensions"]]
            return {to: views[a] for a, to in enumerate(kept) if a in views and old[a] == new[to]}
        case "squeeze":
            left = [axis for axis in range(len(old)) if axis not in params["dimensions"]]
            return {to: views[a] for to, a in enumerate(left) if a in views}
        case "reshape":
            return _reshaped(views, old, new)
        case "unstack":
            left = [axis for axis in range(len(old)) if axis != params["axis"]]
            return {to: views[a] for to, a in enumerate(left) if a in views}
        case "split":
            before, along = sum(int(size) for size in params["sizes"][: node.outputs.index(output)]), params["axis"]
            return {
                axis: dataclasses.replace(view, start=view.start + before * view.step) if axis == along else view
                for axis, view in views.items()
            }
        case "optimization_barrier":
            atom = node.inputs[node.outputs.index(output)]
            return seen.get(atom, {}) if isinstance(atom, Value) else {}
        case "pad":
            return {
                axis: dataclasses.replace(view, start=view.start - int(params["padding_config"][axis][0]) * view.step)
                for axis, view in views.items()
            }
        case "slice":
            strides = params["strides"] or [1] * len(old)
            return {
                axis: dataclasses.replace(
                    view,
                    start=view.start + int(params["start_indices"][axis]) * view.step,
                    step=view.step * int(strides[axis]),
                )
                for axis, view in views.items()
            }
    if node.name in _WINDOWS:
        sizes, steps = params["window_dimensions"], params["window_strides"]
        return {a: v.windowed(sizes[a], steps[a], 1, params["padding"][a][0]) for a, v in views.items()}
    if "axes" in params and node.name.startswith(("reduce_", "arg")):
        left = [axis for axis in range(len(old)) if axis not in params["axes"]]
        return {to: views[a] for to, a in enumerate(left) if a in views}
    joined = params["dimension"] if node.name == "concatenate" else None
    alike = [
        seen[value]
        for value in operands
        if all(a == b or i == joined for i, (a, b) in enumerate(zip(program.avals[value].shape, new, strict=False)))
        and len(program.avals[value].shape) == len(new)
    ]
    if len(alike) < len(operands) or node.name in _MOVING:
        return {}
    shared = set.intersection(*(set(v) for v in alike)) - {joined}
    return {axis: _joined([v[axis] for v in alike]) for axis in sorted(shared)}


def _joined(views: list[View]) -> View:
    """What is seen through any of several values."""
    start = min(view.start for view in views)
    end = max(view.start + view.size for view in views)
    return View(views[0].axis, end - start, max(view.step for view in views), start)


def _convolved(node: Node, views: Views) -> Views:
    params = node.params
    spec = params["dimension_numbers"]
    kernel: Any = node.equation.invars[1].aval
    found: Views = {}
    for place, (before, after, width) in enumerate(
        zip(spec.lhs_spec[2:], spec.out_spec[2:], spec.rhs_spec[2:], strict=True)
    ):
        if before in views and params["lhs_dilation"][place] == 1:
            found[after] = views[before].windowed(
                kernel.shape[width],
                params["window_strides"][place],
                params["rhs_dilation"][place],
                params["padding"][place][0],
            )
    return found


def _multiplied(node: Node, operand: Value, views: Views) -> Views:
    (left_contract, right_contract), (left_batch, right_batch) = node.params["dimension_numbers"]
    on_left = node.inputs[0] == operand
    contracted, batch = (left_contract, left_batch) if on_left else (right_contract, right_batch)
    avals: list[Any] = [variable.aval for variable in node.equation.invars]
    free = [axis for axis in range(len(avals[0 if on_left else 1].shape)) if axis not in (*contracted, *batch)]
    before = len(batch) if on_left else len(avals[0].shape) - len(left_contract)
    places = {axis: to for to, axis in enumerate(batch)} | {axis: before + to for to, axis in enumerate(free)}
    return {places[axis]: view for axis, view in views.items() if axis in places}


def _reshaped(views: Views, old: tuple[int, ...], new: tuple[int, ...]) -> Views:
    """Axes that a reshape leaves alone: of the same length, and with as many numbers before."""
    found: Views = {}
    for axis, view in views.items():
        before = math.prod(old[:axis])
        for to, length in enumerate(new):
            if length == old[axis] and math.prod(new[:to]) == before and to not in found:
                found[to] = view
                break
    return found


def edges(model: Any, x: Any) -> list[tuple[str, str]]:
    """Which layers read which: the graph of a network.

    Args:
        model: any callable `x -> outputs`.
        x: a batch (n, h, w, c), or a `jax.ShapeDtypeStruct` of one.

    Returns:
        Pairs (read, reader) of layers' names, in the order of the readers; "" for the images.

    Example:
        >>> import jax.numpy as jnp
        >>> edges(lambda x: x + x @ jnp.ones((3, 3)), jnp.ones((1, 2, 2, 3)))
        [('', 'dense_0'), ('', 'add_0'), ('dense_0', 'add_0')]
    """
    anatomy, _ = study(model, x)
    own = {place.value: place.name for place in anatomy.places}
    order = {"": -1} | {place.name: index for index, place in enumerate(anatomy.places)}
    last: dict[Value, set[str]] = {anatomy.x: {""}}
    for node in anatomy.program.nodes:
        before = set().union(*(last.get(value, set()) for value in node.operands))
        for value in node.outputs:
            if value is not None and before:
                last[value] = {own[value]} if value in own else before
    found: list[tuple[str, str]] = []
    for place in anatomy.places:
        read = set().union(*(last.get(value, set()) for value in place.node.operands))
        found += [(source, place.name) for source in sorted(read, key=order.__getitem__)]
    return found
