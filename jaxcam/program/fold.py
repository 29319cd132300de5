"""A convolution and the scales and shifts after it, as one convolution.

Batch norm in inference mode is z ↦ a·z + b with one a and one b for each channel, and so is a bias. A convolution is
linear, so a goes into its kernel and b is added once: the same values (up to rounding) for a third of the memory
traffic. `channelwise` takes such chains from the affine maps of a program, whoever wrote the batch norm.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array

from jaxcam.program.affine import affine_maps
from jaxcam.program.prescale import SCALES, SHIFTS
from jaxcam.program.trace import Node, Program, Value


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


def channelwise(program: Program, live: set[Value]) -> list[Chain]:
    """Every convolution that scales or shifts of its channels follow, and nothing else reads in between."""
    makers = {value: node for node in program.nodes for value in node.outputs if value is not None}
    found = []
    for affine in affine_maps(program, live):
        if affine.kind != "conv":
            continue
        axis = affine.node.params["dimension_numbers"].out_spec[1]
        (signal,) = affine.node.outputs
        steps: list[tuple[str, Value | core.Literal, bool]] = []
        for node in affine.chain:
            step = None if signal is None else _step(node, signal, axis, program, makers)
            if step is None:
                break
            steps.append(step)
            (signal,) = node.outputs
        if steps and signal is not None:
            found.append(Chain(affine.node, signal, tuple(steps)))
    return found


def _step(
    node: Node, signal: Value, axis: int, program: Program, makers: dict[Value, Node]
) -> tuple[str, Value | core.Literal, bool] | None:
    """One scale or shift of the channels, if the node of an affine map is such."""
    if node.name not in SCALES | SHIFTS:
        return None
    first = isinstance(node.inputs[0], Value) and node.inputs[0] == signal
    other = node.inputs[1 if first else 0]
    if not isinstance(other, Value) or program.avals[other].shape == ():
        return node.name, other, first
    # JAX broadcasts to the full shape first: what is broadcast is what counts.
    maker = makers.get(other)
    if maker is not None and maker.name == "broadcast_in_dim" and isinstance(maker.inputs[0], Value):
        source = maker.inputs[0]
        before, places = program.avals[source].shape, maker.params["broadcast_dimensions"]
        if all(size == 1 or place == axis for size, place in zip(before, places, strict=True)):
            return node.name, source, first
    if all(size == 1 or place == axis for place, size in enumerate(program.avals[other].shape)):
        return node.name, other, first
    return None
