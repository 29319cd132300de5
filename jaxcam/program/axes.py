"""Which axis of a value counts the images and which the units.

Flax keeps channels last, Equinox first, `jax.vmap` puts the images anywhere. An explanation needs both axes of every
layer, so they are followed from the input, where they are known, through every equation that keeps them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxcam.program.recognize import is_affine
from jaxcam.program.trace import Node, Program, Value


class Axes(NamedTuple):
    """The image axis and the unit axis of a value; None where there is none or it cannot be told."""

    images: int | None
    units: int | None


def follow_axes(program: Program, x: Value, live: set[Value]) -> dict[Value, Axes]:
    """The axes of every value that depends on the input x, an array (n, …, c)."""
    known = {x: Axes(0, len(program.avals[x].shape) - 1)}
    for node in program.nodes:
        operands = node.varying(known)
        if not operands:
            continue
        for output in node.outputs:
            if output is not None:
                found = after(node, program, operands, known, live, output)
                # Under vmap JAX gives some axes as numpy numbers.
                known[output] = Axes(*(None if axis is None else int(axis) for axis in found))
    return known


def after(
    node: Node, program: Program, operands: list[Value], known: dict[Value, Axes], live: set[Value], output: Value
) -> Axes:
    source = _counterpart(node, output)
    if source not in operands:
        source = operands[0]
    axes, shape, new_shape = known[source], program.avals[source].shape, program.avals[output].shape
    params = node.params

    def moved(place: dict[int, int]) -> Axes:
        return Axes(*(None if axis is None else place.get(axis) for axis in axes))

    match node.name:
        case "conv_general_dilated" if is_affine(node, live):
            spec = params["dimension_numbers"].out_spec
            return Axes(spec[0], spec[1])
        case "dot_general":
            return _after_dot(node, program, known, live)
        case "transpose":
            return moved({old: new for new, old in enumerate(params["permutation"])})
        case "broadcast_in_dim":
            kept = [int(axis) for axis in params["broadcast_dimensions"]]  # numpy numbers where vmap put them
            return moved({old: new for old, new in enumerate(kept) if shape[old] == new_shape[new]})
        case "squeeze":
            left = [axis for axis in range(len(shape)) if axis not in params["dimensions"]]
            return moved({old: new for new, old in enumerate(left)})
        case "reshape":
            return _through_reshape(axes, shape, new_shape)
        case "concatenate" | "split" | "optimization_barrier" | "sort":
            return axes
        case "unstack":
            left = [axis for axis in range(len(shape)) if axis != params["axis"]]
            return moved({old: new for new, old in enumerate(left)})
        case "stack":
            return moved({old: old + (old >= params["axis"]) for old in range(len(shape))})
    if "axes" in params and node.name.startswith("reduce"):
        left = [axis for axis in range(len(shape)) if axis not in params["axes"]]
        return moved({old: new for new, old in enumerate(left)})
    # Elementwise or windowed: the operand of the result's rank tells.
    for operand in operands:
        if len(program.avals[operand].shape) == len(new_shape):
            return known[operand]
    return Axes(None, None)


def _counterpart(node: Node, output: Value) -> Value | None:
    """The operand that one of several results is made from, where each has its own (sort, optimization_barrier)."""
    if len(node.outputs) == 1 or len(node.outputs) != len(node.inputs):
        return None
    atom = node.inputs[node.outputs.index(output)]
    return atom if isinstance(atom, Value) else None


def _through_reshape(axes: Axes, shape: tuple[int, ...], new_shape: tuple[int, ...]) -> Axes:
    """Axes that a reshape leaves alone: same length, as many elements before."""

    def places(old: int | None) -> list[int]:
        if old is None:
            return []
        before = math.prod(shape[:old])
        return [
            new for new, length in enumerate(new_shape) if length == shape[old] and math.prod(new_shape[:new]) == before
        ]

    # Only axes of length 1 can be taken for one another: images are then the first of them, units the last.
    images, units = places(axes.images)[:1], places(axes.units)[-1:]
    return Axes(images[0] if images else None, units[0] if units and units != images else None)


def _after_dot(node: Node, program: Program, known: dict[Value, Axes], live: set[Value]) -> Axes:
    (left_contract, right_contract), (left_batch, right_batch) = node.params["dimension_numbers"]
    left, right = node.inputs
    sides = []
    for atom, contracted, batch in ((left, left_contract, left_batch), (right, right_contract, right_batch)):
        rank = atom.val.ndim if not isinstance(atom, Value) else len(program.avals[atom].shape)
        sides.append([axis for axis in range(rank) if axis not in contracted and axis not in batch])
    free = len(left_batch)
    place = {("left", axis): free + i for i, axis in enumerate(sides[0])}
    place |= {("right", axis): free + len(sides[0]) + i for i, axis in enumerate(sides[1])}
    place |= {("left", axis): i for i, axis in enumerate(left_batch)}
    place |= {("right", axis): i for i, axis in enumerate(right_batch)}
    if not is_affine(node, live):
        return Axes(None, None)
    on_left = isinstance(left, Value) and left in live
    axes = known[left if on_left else right]  # type: ignore[index]
    varying, kernel = ("left", 1) if on_left else ("right", 0)
    images = None if axes.images is None else place.get((varying, axes.images))
    units = place[("right" if kernel else "left", sides[kernel][-1])] if sides[kernel] else None
    return Axes(images, units)
