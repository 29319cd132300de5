"""The scales and shifts before a kernel, merged into it: a normalization of the images, a batch norm that goes first.

    y = K ∗ M(a·x + b)  =  (K·a) ∗ M(x) + K ∗ M(b),     M a change of layout, a crop, a padding with zeros

a goes into the kernel where it is one number for each channel that the kernel reads. b may be anything: what becomes of
it is as large as the result. That matters where the kernel is padded with zeros: a shift before the padding is no
constant after the kernel, since at the border less of it comes in.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.recognize import number_of
from jaxcam.program.trace import Node, Program, Value

SHIFTS = frozenset(["add", "add_any", "sub"])
SCALES = frozenset(["mul", "div"])
# Changes no number, only how it is stored.
KEEPING = frozenset(["convert_element_type", "copy", "copy_p", "name", "reduce_precision"])
LAYOUT = frozenset(["reshape", "squeeze", "expand_dims", "transpose", "broadcast_in_dim"])


@dataclasses.dataclass(frozen=True, eq=False)
class Prescale:
    """The equations between a value and the kernel that reads it: shifts, scales and changes of layout.

    Attributes:
        source: the value that goes in.
        nodes: the equations, in order; the first is a shift or a scale.
        result: the value that the kernel reads.
        axes: pairs of an axis of `result` and the axis of the kernel that reads it.
        units: the axis of the units in the kernel, of a convolution.
        groups: how many groups a convolution has.
    """

    source: Value
    nodes: tuple[Node, ...]
    result: Value
    axes: tuple[tuple[int, int], ...]
    units: int | None
    groups: int

    def move(self, x: Array, known: Mapping[Value, Any]) -> Array:
        """M(x): the changes of layout alone, what the kernel reads where there is no scale and no shift.

        Args:
            x: the source.
            known: the values that the equations read besides.
        """
        return self._run(x, known, lambda node, step, value: value if is_arithmetic(node) else step(value))

    def merged(self, kernel: Array, x: Array, known: Mapping[Value, Any]) -> Array:
        """K·a, as large as the kernel.

        Args:
            kernel: K.
            x: anything of the source's shape and dtype.
            known: the values that the equations read besides.
        """

        def slope(node: Node, step: Callable[[Array], Array], value: Array) -> Array:
            if node.name == "pad":  # the zeros around are scaled by whatever the others are
                return jnp.pad(value, [(low, high) for low, high, _ in node.params["padding_config"]], mode="edge")
            return jax.jvp(step, (jnp.zeros_like(value),), (value,))[1]

        scale = self._run(jnp.ones_like(x), known, slope)
        read = sorted(axis for axis, _ in self.axes)  # along the others the scale is one number
        scale = scale[tuple(slice(None) if axis in read else 0 for axis in range(scale.ndim))]
        to = dict(self.axes)
        places = [to[axis] for axis in read]
        if self.units is not None:  # each group of units reads its own channels
            scale = jnp.repeat(scale.reshape(self.groups, -1), kernel.shape[self.units] // self.groups, 0)
            places = [self.units, *places]
        order = sorted(range(len(places)), key=places.__getitem__)
        scale = jnp.transpose(scale, order)
        return kernel * jnp.expand_dims(scale, [axis for axis in range(kernel.ndim) if axis not in places])

    def _run(
        self,
        x: Array,
        known: Mapping[Value, Any],
        evaluate: Callable[[Node, Callable[[Array], Array], Array], Array],
    ) -> Array:
        """Sends x through the equations, each evaluated as a function of the one value that varies."""
        before, value = self.source, x
        for node in self.nodes:

            def step(value: Array, node: Node = node, before: Value = before) -> Array:
                return node(*(value if operand == before else known[operand] for operand in node.operands))[0]

            value = evaluate(node, step, value)
            (output,) = node.outputs
            assert output is not None
            before = output
        return value


def is_arithmetic(node: Node) -> bool:
    """Whether a node of a chain shifts or scales, as opposed to moving numbers."""
    return node.name in SHIFTS or node.name in SCALES or node.name == "neg"


class Prescaling:
    """Looks for what stands before the kernels of one program.

    Args:
        program: any program.
        live: the values that depend on the input.
        varies: for each value that does not, the axes along which it may vary.
        numbers: the values known to be one number everywhere.
        is_step: whether a node shifts or scales one value, number by number.
    """

    def __init__(
        self,
        program: Program,
        live: set[Value],
        varies: Mapping[Value, frozenset[int]],
        numbers: dict[Value, float],
        is_step: Callable[[Node], bool],
    ) -> None:
        self.program, self.live, self.varies, self.numbers, self.is_step = program, live, varies, numbers, is_step
        self.makers = {value: node for node in program.nodes for value in node.outputs if value is not None}

    def of(self, node: Node, source: Value, taken: set[int]) -> Prescale | None:
        """What stands before a kernel; None if there is nothing to merge.

        Args:
            node: a convolution, or a matrix product of a value that depends on the input with one that does not.
            source: what it reads of these two.
            taken: the ids of equations that belong to another map.
        """
        units, groups = None, 1
        if node.name == "conv_general_dilated":
            layout, groups = node.params["dimension_numbers"], node.params["feature_group_count"]
            axes: tuple[tuple[int, int], ...] = ((layout.lhs_spec[1], layout.rhs_spec[1]),)
            units = layout.rhs_spec[0]
            if node.params["batch_group_count"] != 1:
                return None
        else:
            side = 0 if node.inputs[0] == source else 1
            (contract, batch) = node.params["dimension_numbers"]
            pairs = (zip(kind[side], kind[1 - side], strict=True) for kind in (contract, batch))
            axes = tuple(itertools.chain.from_iterable(pairs))
        scalable = frozenset(int(axis) for axis, _ in axes)
        nodes: list[Node] = []
        kept, value, start = 0, source, source
        while (maker := self.makers.get(value)) is not None and id(maker) not in taken:
            above = self._through(maker, value, scalable)
            if above is None:
                break
            nodes.append(maker)
            value, scalable = above
            if is_arithmetic(maker):
                kept, start = len(nodes), value
        if not kept:
            return None
        return Prescale(start, tuple(nodes[:kept][::-1]), source, axes, units, groups)

    def _through(self, node: Node, value: Value, scalable: frozenset[int]) -> tuple[Value, frozenset[int]] | None:
        """The value a node changes and the axes along which a scale of that may vary; None where the run ends."""
        varying = node.varying(self.live)
        if len(varying) != 1 or len(node.outputs) != 1:
            return None
        (before,) = varying
        old, new = self.program.avals[before], self.program.avals[value]
        if not all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in (old, new)):
            return None
        if self.is_step(node):
            others = [operand for operand in node.operands if operand not in self.live]
            fits = node.name not in SCALES or all(self.varies[operand] <= scalable for operand in others)
            return (before, scalable) if fits else None
        if node.name in KEEPING:
            return before, scalable
        if node.name == "transpose":
            return before, frozenset(int(node.params["permutation"][axis]) for axis in scalable)
        if node.name in LAYOUT and old.size == new.size and len(node.operands) == 1:
            return before, _before_reshape(old.shape, new.shape, scalable)
        if node.name == "slice" or (node.name == "pad" and self._pads_zeros(node)):
            changed = {axis for axis, size in enumerate(old.shape) if size != new.shape[axis]}
            return before, scalable - changed
        return None

    def _pads_zeros(self, node: Node) -> bool:
        plain = all(low >= 0 and high >= 0 and inside == 0 for low, high, inside in node.params["padding_config"])
        return plain and number_of(node.inputs[1], self.numbers) == 0


def _before_reshape(old: tuple[int, ...], new: tuple[int, ...], axes: frozenset[int]) -> frozenset[int]:
    """The axes of a value that lie, after a reshape, in some axes of the result and in no others."""
    found: set[int] = set()
    left = [axis for axis, size in enumerate(old) if size > 1]
    right = [axis for axis, size in enumerate(new) if size > 1]
    while left and right:
        here, there = [left.pop(0)], [right.pop(0)]
        sizes = old[here[0]], new[there[0]]
        while sizes[0] != sizes[1]:  # the next axes until both hold the same numbers
            if sizes[0] < sizes[1]:
                here.append(left.pop(0))
                sizes = sizes[0] * old[here[-1]], sizes[1]
            else:
                there.append(right.pop(0))
                sizes = sizes[0], sizes[1] * new[there[-1]]
        if axes.issuperset(there):
            found.update(here)
    return frozenset(found)
