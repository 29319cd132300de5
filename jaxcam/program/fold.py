"""A convolution and the scales and shifts after it, as one convolution.

Batch norm in inference mode is z ↦ a·z + b with one a and one b for each channel, and so is a bias. A convolution is
linear, so a goes into its kernel and b is added once: the same values (up to rounding) for a third of the memory
traffic. `channelwise` finds such chains by what they compute; whoever wrote the batch norm does not matter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import Any

import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array

from jaxcam.program.trace import Node, Program, Value

_SCALES = frozenset(["mul", "div"])
_SHIFTS = frozenset(["add", "add_any", "sub"])


@dataclasses.dataclass(frozen=True)
class Chain:
    """A convolution and the channelwise scales and shifts that follow it directly.

    Attributes:
        convolution: the node it starts with.
        result: the value it ends with.
        steps: for each node of the rest its name, its other operand (one number, or a value that varies along the
            channels only) and whether the signal is its first operand.
    """

    convolution: Node
    result: Value
    steps: tuple[tuple[str, Value | core.Literal, bool], ...]

    @property
    def sources(self) -> tuple[Value, ...]:
        """The values it is computed from: image, kernel, scales and shifts."""
        return (*self.convolution.operands, *(value for _, value, _ in self.steps if isinstance(value, Value)))

    def shape(self, program: Program) -> tuple[int, ...]:
        """That of the convolution's value, and so of all that follow."""
        return program.avals[self.result].shape

    def scale_and_shift(self, others: list[Any], channels: int) -> tuple[Array, Array]:
        """a and b (channels,) of z ↦ a·z + b.

        Args:
            others: what the values of `steps` are, in order.
            channels: how many channels there are.
        """
        given = iter(others)
        a, b = jnp.ones(channels), jnp.zeros(channels)
        for name, atom, first in self.steps:
            other = next(given) if isinstance(atom, Value) else jnp.asarray(atom.val)
            v = jnp.broadcast_to(jnp.reshape(jnp.asarray(other), -1), (channels,))
            match name:
                case "mul":
                    a, b = a * v, b * v
                case "div":
                    a, b = a / v, b / v
                case "sub" if first:
                    b = b - v
                case "sub":
                    a, b = -a, v - b
                case _:
                    b = b + v
        return a, b


def channelwise(program: Program, live: Container[Value]) -> list[Chain]:
    """Every convolution that scales or shifts of its channels follow, and nothing else reads in between."""
    readers, makers = program.consumers(), {v: node for node in program.nodes for v in node.outputs if v is not None}
    returned = {atom for atom in program.outputs if isinstance(atom, Value)}
    found = []
    for node in program.nodes:
        value = node.outputs[0] if node.outputs else None
        if node.name != "conv_general_dilated" or value is None or len(node.operands) != 2:
            continue
        if node.operands[0] not in live or node.operands[1] in live:
            continue
        axis = node.params["dimension_numbers"].out_spec[1]
        steps: list[tuple[str, Any, bool]] = []
        while value not in returned and len(following := readers.get(value, [])) == 1:
            step = _step(following[0], value, axis, program, live, makers)
            if step is None:
                break
            steps.append(step)
            (value,) = following[0].outputs
            assert value is not None
        if steps:
            found.append(Chain(node, value, tuple(steps)))
    return found


def _step(
    node: Node, signal: Value, axis: int, program: Program, live: Container[Value], makers: dict[Value, Node]
) -> tuple[str, Value | core.Literal, bool] | None:
    """One scale or shift of the channels, if the node is such."""
    if node.name not in _SCALES | _SHIFTS or len(node.varying(live)) != 1 or node.outputs[0] is None:
        return None
    first = isinstance(node.inputs[0], Value) and node.inputs[0] == signal
    if node.name == "div" and not first:
        return None
    other = node.inputs[1 if first else 0]
    if not isinstance(other, Value):
        return node.name, other, first
    shape = program.avals[other].shape
    if shape == ():
        return node.name, other, first
    # JAX broadcasts to the full shape first: what is broadcast is what counts.
    maker = makers.get(other)
    if maker is not None and maker.name == "broadcast_in_dim" and isinstance(maker.inputs[0], Value):
        source = maker.inputs[0]
        before, places = program.avals[source].shape, maker.params["broadcast_dimensions"]
        if all(size == 1 or place == axis for size, place in zip(before, places, strict=True)):
            return node.name, source, first
    if all(size == 1 or place == axis for place, size in enumerate(shape)):
        return node.name, other, first
    return None
