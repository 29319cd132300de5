"""Affine maps: a convolution or matrix product with its bias and batch norm, as one map y = W·x + b.

A rule of relevance speaks of weights and biases. A program has neither: it has a convolution, then perhaps a
reshape, a subtraction, a division by a square root, a multiplication, an addition. As long as the other operand of
each of these does not depend on the input, all of them together are one affine map from one value to one other. So
are a normalization of the images or a batch norm that stand right before it (prescale.py). `affine_maps` finds the
largest such maps, by what the equations compute; whose layer it was does not matter.

    affine_maps : (Program, live values)            ↦ [Affine]
    kernel, bias: the scales before and after a kernel are folded into it, the shifts are collected in b
    apply       : (x, W, b)                         ↦ y, for any W and b of these shapes
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.axes import Axes, after
from jaxcam.program.prescale import KEEPING, LAYOUT, SCALES, SHIFTS, Prescale, Prescaling
from jaxcam.program.recognize import is_affine, uniform
from jaxcam.program.trace import Node, Program, Value

_SUMS = frozenset(["reduce_sum", "reduce_window_sum"])


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """One affine map of a program.

    Attributes:
        kind: "conv", "dense"; "mean" for a sum over a window or some axes and the division that follows; "scale" for
            shifts, with scales or without, that are beside no kernel (a free-standing batch norm); "factor" for scales
            alone.
        source: the value that goes in.
        result: the value that comes out.
        node: the convolution or matrix product that holds the kernel; for the other kinds the first equation.
        chain: the other equations, in order.
        others: the values besides the source that it is computed from; for "conv" and "dense" the kernel first.
        units: the axis of the units in what `node` gives; None if it has none.
        kernel_units: the axis of the same units in the kernel.
        prescale: the scales and shifts before the kernel, if there are any.
        source_aval: shape and dtype of the source.
    """

    kind: str
    source: Value
    result: Value
    node: Node
    chain: tuple[Node, ...]
    others: tuple[Value, ...]
    units: int | None = None
    kernel_units: int | None = None
    prescale: Prescale | None = None
    source_aval: Any = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (*(self.prescale.nodes if self.prescale else ()), self.node, *self.chain)

    def __call__(self, x: Array, *others: Any) -> Array:
        """The map as the program computes it.

        Args:
            x: the source.
            *others: what `others` names, in that order.
        """
        known = {**dict(zip(self.others, others, strict=True)), self.source: x}
        return _run(self.nodes, known, self.result)

    def kernel(self, *others: Any) -> Array:
        """W: the kernel times the scales beside it, as large as the kernel; of a "scale" as large as the source."""
        zero = jnp.zeros(self.source_aval.shape, self.source_aval.dtype)
        if self.kind == "scale":
            return jax.jvp(lambda x: self(x, *others), (zero,), (jnp.ones_like(zero),))[1]
        kernel = self._kernel_with_chain(others)
        if self.prescale is None:
            return kernel
        return self.prescale.merged(kernel, zero, dict(zip(self.others, others, strict=True)))

    def _kernel_with_chain(self, others: tuple[Any, ...]) -> Array:
        """The kernel times the scales that follow it."""
        kernel = jnp.asarray(others[0])
        if not self.chain or self.units is None or self.kernel_units is None:
            return kernel * self._uniform_scale(others) if self.chain else kernel
        scale = self._scale(others)
        scale = scale[tuple(slice(None) if axis == self.units else 0 for axis in range(scale.ndim))]
        return kernel * jnp.expand_dims(scale, [axis for axis in range(kernel.ndim) if axis != self.kernel_units])

    def bias(self, x: Array, *others: Any) -> Array:
        """b: what the map gives where its source is zero, as large as the result."""
        if self.prescale is not None or self.kind == "scale":
            return self(jnp.zeros_like(x), *others)
        if not self.chain:
            return jnp.zeros_like(jax.eval_shape(lambda x: self(x, *others), x))
        return _run(self.chain, self._after_zero(others), self.result)

    def apply(self, x: Array, kernel: Array, bias: Array, *others: Any) -> Array:
        """The map with another kernel and bias: y = W·x + b.

        Args:
            x: the source.
            kernel: W, as large as the map's own kernel; of a "scale" as large as the source.
            bias: b, as large as the result.
            *others: what `others` names; only shapes and dtypes of these matter.
        """
        if self.kind == "scale":
            return x * kernel + bias
        known = dict(zip(self.others, others, strict=True))
        read = self.source if self.prescale is None else self.prescale.result
        moved = x if self.prescale is None else self.prescale.move(x, known)
        known |= {read: moved, self.others[0]: kernel}
        value = self.node(*(known[operand] for operand in self.node.operands))[0]
        for node in self.chain:  # the kernel has the scales already, b the shifts: only the layout is left to do
            if node.name in LAYOUT or node.name in KEEPING:
                value = node(value)[0]
        return value + bias.astype(value.dtype)

    def _after_zero(self, others: tuple[Any, ...]) -> dict[Value, Any]:
        (middle,) = self.node.outputs
        assert middle is not None
        aval: Any = self.node.equation.outvars[0].aval
        known: dict[Value, Any] = dict(zip(self.others, others, strict=True))
        return {**known, middle: jnp.zeros(aval.shape, aval.dtype)}

    def _scale(self, others: tuple[Any, ...]) -> Array:
        """∂y/∂z for each number z that the kernel gives."""
        known = self._after_zero(others)
        (middle,) = self.node.outputs
        assert middle is not None
        y, pull_back = jax.vjp(lambda z: _run(self.chain, {**known, middle: z}, self.result), known[middle])
        return pull_back(jnp.ones_like(y))[0]

    def _uniform_scale(self, others: tuple[Any, ...]) -> Array:
        return self._scale(others).ravel()[0]


def _run(nodes: tuple[Node, ...], known: Mapping[Value, Any], result: Value) -> Array:
    values = dict(known)
    for node in nodes:
        (output,) = node.outputs
        assert output is not None
        (values[output],) = node(*(values[operand] for operand in node.operands))
    return values[result]


def affine_maps(program: Program, live: set[Value]) -> list[Affine]:
    """Finds the largest affine maps of a program, in the order of its evaluation.

    Args:
        program: any program.
        live: the values that depend on the input.

    Returns:
        One `Affine` for each convolution and matrix product of a value that depends on the input with one that does
        not, together with what shifts and scales its units and what it reads; one for each sum or average pooling;
        and one for each run of shifts and scales that follows no kernel. Nobody else reads the values in between,
        but for what is before a kernel: that may be before several, and be read by others too, for whom it is a map
        of its own. No other equation is in two maps.
    """
    finder = _Finder(program, live)
    maps: list[Affine] = []
    taken: set[int] = set()
    # Kernels first, so that a batch norm goes to its convolution.
    for node in program.nodes:
        if is_affine(node, live) and node.outputs[0] is not None and len(node.operands) == 2:
            found = finder.from_kernel(node)
            if found is not None:
                maps.append(found)
                taken.update(id(part) for part in found.nodes)
        elif node.name in _SUMS and node.varying(live) and node.outputs[0] is not None:
            maps.append(found := finder.from_sum(node))
            taken.update(id(part) for part in found.nodes)
    prescaling = Prescaling(program, live, finder.varies, uniform(program), finder.is_step)
    maps = [finder.with_prescale(found, prescaling, taken) for found in maps]
    ends = {found.source for found in maps}
    for node in program.nodes:
        if id(node) not in taken and finder.is_step(node):
            found = finder.from_scale(node, taken, ends)
            maps.append(found)
            taken.update(id(part) for part in found.nodes)
    position = {id(node): index for index, node in enumerate(program.nodes)}
    return sorted(maps, key=lambda found: position[id(found.node)])


class _Finder:
    """Grows a map from its first equation as far as it goes."""

    def __init__(self, program: Program, live: set[Value]) -> None:
        self.program, self.live = program, live
        self.readers = program.consumers()
        self.returned = {atom for atom in program.outputs if isinstance(atom, Value)}
        self.varies = _variation(program, live)

    def from_kernel(self, node: Node) -> Affine | None:
        source = next(v for v in node.operands if v in self.live)
        kernel = next(v for v in node.operands if v not in self.live)
        if node.name == "conv_general_dilated":
            if node.operands[0] != source:
                return None  # a kernel made of the input
            kernel_units: int | None = node.params["dimension_numbers"].rhs_spec[0]
        else:
            kernel_units = self.free_axis(node, kernel)
        middle = node.outputs[0]
        assert middle is not None
        units = after(node, self.program, [source], {source: Axes(None, None)}, self.live, middle).units
        if kernel_units is None:
            units = None
        chain = self.grow(middle, None if units is None else int(units))
        others = self.others([node, *chain], kernel)
        result = chain[-1].outputs[0] if chain else middle
        assert result is not None
        kind = "conv" if node.name == "conv_general_dilated" else "dense"
        aval = self.program.avals[source]
        return Affine(kind, source, result, node, tuple(chain), others, units, kernel_units, source_aval=aval)

    def with_prescale(self, found: Affine, prescaling: Prescaling, taken: set[int]) -> Affine:
        """A map with what stands before its kernel."""
        if found.kind not in {"conv", "dense"}:
            return found
        prescale = prescaling.of(found.node, found.source, taken)
        if prescale is None:
            return found
        return dataclasses.replace(
            found,
            source=prescale.source,
            others=self.others([*prescale.nodes, *found.nodes], found.others[0]),
            prescale=prescale,
            source_aval=self.program.avals[prescale.source],
        )

    def from_sum(self, node: Node) -> Affine:
        (source,), (result,) = node.varying(self.live), node.outputs
        assert result is not None
        nodes, reader = [node], self.reader(result)
        while reader is not None and reader.name in LAYOUT:  # jnp.mean(keepdims=True) divides after a reshape
            (following,) = reader.outputs
            assert following is not None
            nodes.append(reader)
            reader = self.reader(following)
        if reader is None or reader.name not in SCALES or not self.is_step(reader):
            nodes = [node]
        else:
            nodes.append(reader)
            (result,) = reader.outputs
            assert result is not None
        return Affine("mean", source, result, node, tuple(nodes[1:]), self.others(nodes))

    def from_scale(self, node: Node, taken: set[int], ends: set[Value]) -> Affine:
        """A run of scales and shifts, as far as the first value of `ends`."""
        (source,) = node.varying(self.live)
        nodes = [node]
        value = node.outputs[0]
        while value is not None and value not in ends and (reader := self.reader(value)) is not None:
            if not self.is_step(reader) or id(reader) in taken:
                break
            nodes.append(reader)
            value = reader.outputs[0]
        result = nodes[-1].outputs[0]
        assert result is not None
        kind = "scale" if any(part.name in SHIFTS for part in nodes) else "factor"
        aval = self.program.avals[source]
        return Affine(kind, source, result, node, tuple(nodes[1:]), self.others(nodes), source_aval=aval)

    def grow(self, value: Value, units: int | None) -> list[Node]:
        """The equations after a kernel that belong to its map."""
        chain: list[Node] = []
        kept = 0  # a change of layout belongs to the map only if a shift or a scale follows it
        while (reader := self.reader(value)) is not None:
            (result,) = reader.outputs
            if result is None or len(reader.varying(self.live)) != 1:
                break
            size = self.program.avals[value].size
            if reader.name in LAYOUT and self.program.avals[result].size == size and len(reader.operands) == 1:
                known = {value: Axes(None, units)}
                units = after(reader, self.program, [value], known, self.live, result).units
            elif reader.name in KEEPING and self.same_kind(value, result):
                pass
            elif not self.is_step(reader) or (reader.name in SCALES and not self.is_unitwise(reader, units)):
                break
            chain.append(reader)
            value = result
            if reader.name not in LAYOUT and reader.name not in KEEPING:
                kept = len(chain)
        return chain[:kept]

    def reader(self, value: Value) -> Node | None:
        """The one equation that reads a value, if there is one and the program does not return the value.

        One with several results (split, unstack, sort, top_k) goes on in several ways: a map ends before it.
        """
        readers = self.readers.get(value, [])
        alone = len(readers) == 1 and len(readers[0].outputs) == 1 and value not in self.returned
        return readers[0] if alone else None

    def is_step(self, node: Node) -> bool:
        """Whether a node shifts or scales one value, number by number."""
        varying = node.varying(self.live)
        if len(varying) != 1 or len(node.outputs) != 1 or node.outputs[0] is None:
            return False
        if not self.same_kind(varying[0], node.outputs[0]):
            return False
        if self.program.avals[varying[0]].shape != self.program.avals[node.outputs[0]].shape:
            return False
        if node.name == "div":
            return isinstance(node.inputs[0], Value) and node.inputs[0] == varying[0]
        return node.name in SHIFTS or node.name in SCALES or node.name == "neg"

    def same_kind(self, value: Value, result: Value) -> bool:
        """Whether both are floating point: counting and comparing has no weights."""
        return all(jnp.issubdtype(self.program.avals[v].dtype, jnp.floating) for v in (value, result))

    def is_unitwise(self, node: Node, units: int | None) -> bool:
        """Whether the factor is one number for each unit, or one for all."""
        return all(self.varies[v] <= ({units} - {None}) for v in node.operands if v not in self.live)

    def others(self, nodes: list[Node], *first: Value) -> tuple[Value, ...]:
        """The values that do not depend on the input and are read by some of the nodes."""
        read = (value for node in nodes for value in node.operands if value not in self.live)
        return tuple(dict.fromkeys([*first, *read]))

    def free_axis(self, node: Node, kernel: Value) -> int | None:
        """The last axis of a dense kernel that is not summed over."""
        contract, batch = node.params["dimension_numbers"]
        side = 0 if node.operands[0] == kernel else 1
        rank = len(self.program.avals[kernel].shape)
        free = [axis for axis in range(rank) if axis not in contract[side] and axis not in batch[side]]
        return free[-1] if free else None


def _variation(program: Program, live: set[Value]) -> dict[Value, frozenset[int]]:
    """For each value that does not depend on the input, the axes along which it may vary."""
    known: dict[Value, frozenset[int]] = {}

    def axes(value: Value) -> frozenset[int]:
        if value not in known:
            shape = program.avals[value].shape
            known[value] = frozenset(axis for axis, size in enumerate(shape) if size > 1)
        return known[value]

    for node in program.nodes:
        for output in node.outputs:
            if output is None or output in live:
                continue
            shape = program.avals[output].shape
            operands = node.operands
            if node.name == "broadcast_in_dim":
                places = node.params["broadcast_dimensions"]
                known[output] = frozenset(int(places[axis]) for v in operands[:1] for axis in axes(v))
            elif node.name in SHIFTS | SCALES | KEEPING and all(program.avals[v].shape == shape for v in operands):
                known[output] = frozenset().union(*(axes(v) for v in operands))
            else:
                axes(output)
    for value in program.avals:
        if value not in live:
            axes(value)
    return known
