"""Switches: the equations by which a piecewise linear network changes from one linear function to the next.

A ReLU is on or off, a max pool takes one of its places, a comparison is true or false. Each such equation has

    state     its operands ↦ whole numbers                      which piece is on
    value     (state, operands) ↦ its result, linear in them    with the state held, whatever the operands are
    margins   (state, operands) ↦ numbers, linear in them       all at or above 0 as long as the state is right

A margin that cannot fall below 0, since there is nothing on its other side, is infinite. Where operands tie, the state
is "off" (a ReLU at exactly 0) or the first place (a max pool).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container
from typing import Any

import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array

from jaxcam.program.rewrite import windows
from jaxcam.program.trace import Node, Value

_COMPARISONS = {"gt": 1, "ge": 1, "lt": -1, "le": -1}
_EXTREMES = {"reduce_max": 1, "reduce_min": -1, "argmax": 1, "argmin": -1}
_POOLS = {"reduce_window_max": 1, "reduce_window_min": -1}


@dataclasses.dataclass(frozen=True, eq=False)
class Switch:
    """One switch of a program.

    Attributes:
        layer: the layer it belongs to.
        node: its equation.
        moves: for each operand of the equation, literals included, whether it varies with the input.
        holds: whether its result is constant while its state is (comparisons, argmax).
        states: how many states a place of it has.
    """

    layer: str
    node: Node
    moves: tuple[bool, ...]
    holds: bool
    states: int

    def state(self, *operands: Any) -> Array:
        """Which piece is on, uint8 or int32, for each of its places.

        Args:
            *operands: what `Node.operands` names.
        """
        name, inputs = self.node.name, self._inputs(operands)
        if name == "sign":
            return (jnp.sign(inputs[0]) + 1).astype(jnp.uint8)
        if name == "clamp":
            low, x, high = inputs
            return (x > low).astype(jnp.uint8) + (x >= high).astype(jnp.uint8)
        if name in _COMPARISONS:
            return jnp.asarray(self.node(*operands)[0])
        places = self._places(inputs)
        if places is None:
            return self._difference(inputs) > 0
        return jnp.argmax(places, 0).astype(jnp.uint8 if self.states <= 256 else jnp.int32)

    def value(self, state: Array, *operands: Any) -> Array:
        """The equation's result with the state held; what holds with it needs no operands."""
        name = self.node.name
        outcome: Any = self.node.equation.outvars[0].aval
        if self.holds:
            return state.astype(outcome.dtype) - (1 if name == "sign" else 0)
        inputs = self._inputs(operands)
        if name == "clamp":
            low, x, high = inputs
            return jnp.where(state == 0, low, jnp.where(state == 1, x, high))
        if name == "abs":
            return jnp.where(state, inputs[0], -inputs[0])
        places = self._places(inputs)
        if places is None:
            chosen, other = self._sides(inputs)
            return jnp.where(state, chosen, other)
        return self._sign * _taken(places, state)

    def margins(self, state: Array, *operands: Any) -> Array:
        """What has to stay at or above 0, in any shape."""
        name, inputs = self.node.name, self._inputs(operands)
        if name == "sign":
            return jnp.where(state == 2, inputs[0], -inputs[0])
        if name == "clamp":
            low, x, high = inputs
            return jnp.stack([jnp.where(state >= 1, x - low, low - x), jnp.where(state == 2, x - high, high - x)])
        places = self._places(inputs)
        if places is None:
            difference = self._difference(inputs)
            return jnp.where(state, difference, -difference)
        itself = jnp.arange(len(places)).reshape(-1, *[1] * state.ndim) == state
        return jnp.where(itself, jnp.inf, _taken(places, state) - places)

    @property
    def _sign(self) -> int:
        """-1 for what takes the smallest: it takes the largest of the negatives."""
        return (_EXTREMES | _POOLS).get(self.node.name, 1)

    def _inputs(self, operands: tuple[Any, ...]) -> list[Any]:
        given = iter(operands)
        return [jnp.asarray(atom.val) if isinstance(atom, core.Literal) else next(given) for atom in self.node.inputs]

    def _sides(self, inputs: list[Any]) -> tuple[Any, Any]:
        """What max or min gives when its state is on, and when it is off: a constant is "off"."""
        left, right = inputs
        return (left, right) if self.moves[0] else (right, left)

    def _difference(self, inputs: list[Any]) -> Array:
        """What is above 0 where the state is on."""
        if self.node.name == "abs":
            return inputs[0]
        if self.node.name in _COMPARISONS:
            return _COMPARISONS[self.node.name] * (inputs[0] - inputs[1])
        chosen, other = self._sides(inputs)
        return chosen - other if self.node.name == "max" else other - chosen

    def _places(self, inputs: list[Any]) -> Array | None:
        """The numbers of which the largest is taken, in a new first axis; None for what takes none."""
        name, params = self.node.name, self.node.params
        if name in _EXTREMES:
            x = self._sign * inputs[0]
            axes = tuple(params["axes"])
            x = jnp.moveaxis(x, axes, tuple(range(len(axes))))
            return x.reshape(-1, *x.shape[len(axes) :])
        if name in _POOLS:
            return jnp.stack(windows(self._sign * inputs[0], params))
        return None


def _taken(places: Array, state: Array) -> Array:
    """The number at the place that the state says; infinite padding is never met by a derivative."""
    if len(places) <= 16:  # where a gather is slow
        return sum(jnp.where(state == j, place, 0) for j, place in enumerate(places))  # type: ignore[return-value]
    return jnp.take_along_axis(places, state[None].astype(jnp.int32), 0)[0]


def switch_of(node: Node, moving: Container[Value], layer: str) -> Switch | None:
    """The switch that an equation is; None if it is none.

    Args:
        node: an equation.
        moving: the values that vary with the input while no switch changes.
        layer: the layer it belongs to.
    """
    if len(node.outputs) != 1 or not node.varying(moving):
        return None
    name, params = node.name, node.params
    moves = tuple(isinstance(atom, Value) and atom in moving for atom in node.inputs)
    avals: list[Any] = [variable.aval for variable in node.equation.invars]
    if not all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in avals):
        return None

    def made(states: int, holds: bool = False) -> Switch:
        return Switch(layer, node, moves, holds, states)

    if name in {"max", "min", "abs"}:
        return made(2)
    if name in _COMPARISONS:
        return made(2, holds=True)
    if name == "sign":
        return made(3, holds=True)
    if name == "clamp":
        return made(3) if moves == (False, True, False) else None
    if name in _EXTREMES:
        count = math.prod(avals[0].shape[axis] for axis in params["axes"])
        return made(count, holds=name.startswith("arg"))
    if name in _POOLS:
        dilated = {*params.get("base_dilation", ()), *params.get("window_dilation", ())} - {1}
        return None if dilated else made(math.prod(params["window_dimensions"]))
    return None
