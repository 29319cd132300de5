"""Regions: a piecewise linear model taken apart into its switches, and put together again with these held.

    partition : (f, one image)            ↦ Regions            or an error that names what is not piecewise linear
    states    : (Regions, x)              ↦ one array a switch which region x is in
    held      : (Regions, states)         ↦ x ↦ (outputs, margins), both linear in x

Inside a region, the set of inputs for which no switch changes, `held` is the model itself; elsewhere it is the same
linear function continued. So its derivative is exact and not a limit, its value at 0 is the bias, and the region is the
polytope in which all margins are at or above 0.

What is fixed inside a region may multiply what moves: `x * (x > 0)` is found to be a ReLU without being looked for.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.empty_maps import check_size
from jaxcam.program.layers import Anatomy, dissect
from jaxcam.program.recognize import BILINEAR, LINEAR, number_of
from jaxcam.program.rewrite import rewrites
from jaxcam.program.switches import Switch, switch_of
from jaxcam.program.trace import Node, Program, Value, replay, trace_model
from jaxcam.program.transform import RuleError, given


@dataclasses.dataclass(frozen=True, eq=False)
class Regions:
    """A piecewise linear model of one image.

    Attributes:
        anatomy: of its program, traced with a batch of one.
        arrays: the model's own.
        switches: in the order of evaluation.
    """

    anatomy: Anatomy
    arrays: list[Any]
    switches: tuple[Switch, ...]

    def states(self, image: Array) -> list[Array]:
        """The state of every switch at an image (h, w, c)."""
        program = self.anatomy.program
        wanted = list(dict.fromkeys(value for switch in self.switches for value in switch.node.operands))
        values = given(self.anatomy, self.arrays, image[None])
        found = dict(zip(wanted, replay(program, values, wanted, rewrites(program)), strict=True))
        return [switch.state(*(found[value] for value in switch.node.operands)) for switch in self.switches]

    def held(self, states: Sequence[Array]) -> Callable[..., Any]:
        """The model with every switch held in a state: (image, which switches' margins) ↦ (outputs, margins).

        Args:
            states: one for each switch.
        """
        program = self.anatomy.program
        replacements: dict[Value, Any] = dict(rewrites(program))
        for node in program.nodes:
            if node.name == "stop_gradient" and node.outputs[0] is not None:
                # linear, although JAX gives it no derivative
                replacements[node.outputs[0]] = (node.operands, lambda x: x)
        for switch, state in zip(self.switches, states, strict=True):
            result = switch.node.outputs[0]
            assert result is not None  # it is used
            sources = () if switch.holds else switch.node.operands
            replacements[result] = (sources, functools.partial(switch.value, state))

        def function_of(image: Array, chosen: Sequence[int] = ()) -> tuple[Any, list[Array]]:
            operands = list(dict.fromkeys(v for i in chosen for v in self.switches[i].node.operands))
            wanted = [*program.outputs, *operands]
            results = replay(program, given(self.anatomy, self.arrays, image[None]), wanted, replacements)
            outputs = jax.tree_util.tree_unflatten(program.out_tree, results[: len(program.outputs)])
            found = dict(zip(operands, results[len(program.outputs) :], strict=True))
            margins = [
                self.switches[i].margins(states[i], *(found[value] for value in self.switches[i].node.operands))
                for i in chosen
            ]
            return outputs, margins

        return function_of


def partition(model: Any, image: Any) -> Regions:
    """Finds the switches of a model.

    Args:
        model: any callable `x -> outputs`.
        image: an image (h, w, c), or its shape and dtype.

    Returns:
        Its regions; the model's arrays may be tracers.

    Raises:
        TypeError: the model is not callable.
        ValueError: an equation is neither linear nor a switch; its layer is named.
    """
    program, arrays = trace_model(model, jax.ShapeDtypeStruct((1, *image.shape), image.dtype))
    check_size(model, (1, *image.shape), image.dtype)
    anatomy = dissect(opened(program))
    program = anatomy.program
    name_of = _names(anatomy)
    used = program.used
    moving, switches = {anatomy.x}, []
    for index, node in enumerate(program.nodes):
        results = [value for value in node.outputs if value is not None and value in used]
        varying = node.varying(moving)
        if not results or not varying:
            continue
        if _is_linear(node, varying):
            moving.update(results)
            continue
        switch = switch_of(node, moving, name_of(node))
        if switch is None:
            raise RuleError(
                f"the model is not piecewise linear: equation {index}, '{node.name}' giving "
                f"{program.avals[results[0]].str_short()}, after {anatomy.owner(varying[0])}, is neither linear nor a "
                "ReLU, an absolute value, a maximum or a comparison; ask about the logits (no softmax), or use "
                "jc.saliency for the slope alone"
            )
        switches.append(switch)
        if not switch.holds:
            moving.update(results)
    return Regions(anatomy, arrays, tuple(switches))


def _is_linear(node: Node, varying: list[Value]) -> bool:
    """Whether a node is linear in operands that are not fixed."""
    outcomes: list[Any] = [variable.aval for variable in node.equation.outvars]
    if not all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in outcomes):
        return False
    if node.name in LINEAR:
        return True
    if node.name in BILINEAR:
        return len(varying) == 1
    match node.name:
        case "div":
            return node.inputs[1] not in varying
        case "select_n":
            return node.inputs[0] not in varying
        case "max" | "min":  # with what never wins
            idle = -jnp.inf if node.name == "max" else jnp.inf
            return any(number_of(atom, {}) == idle for atom in node.inputs)
    return False


def _names(anatomy: Anatomy) -> Callable[[Node], str]:
    """For a node, the layer whose value it makes, which starts with it, or which was the last before."""
    own = {place.value: place.name for place in anatomy.places}
    starts = {id(place.node): place.name for place in anatomy.places}
    order = {place.name: index for index, place in enumerate(anatomy.places)}
    inside: dict[Value, Value] = {
        inner: found.result for found in anatomy.activations.values() for inner in found.inner
    }
    last: dict[Value, str] = {}
    for node in anatomy.program.nodes:
        before = [last[value] for value in node.operands if value in last]
        for value in node.outputs:
            if value in own:
                last[value] = own[value]
            elif value is not None and before:
                last[value] = max(before, key=order.__getitem__)

    def name_of(node: Node) -> str:
        result = node.outputs[0] if node.outputs else None
        if result is not None and (name := own.get(inside.get(result, result))) is not None:
            return name
        if id(node) in starts:
            return starts[id(node)]
        return "the input" if result is None else last.get(result, "the input")

    return name_of


def opened(program: Program) -> Program:
    """The program with functions that have a derivative of their own written out: here only values count.

    Example:
        >>> from jaxcam.program.trace import trace
        >>> program = trace(jax.nn.relu, jnp.ones(2))
        >>> [node.name for node in program.nodes], [node.name for node in opened(program).nodes]
        (['custom_jvp_call'], ['max'])
    """
    nodes: list[Node] = []
    avals = dict(program.avals)
    constants = dict(program.constants)
    renamed: dict[Value, Any] = {}

    def write(part: Program, known: dict[Value, Any]) -> None:
        for node in part.nodes:
            inputs = tuple(known.get(a, a) if isinstance(a, Value) else a for a in node.inputs)
            if node.body is not None:
                body = node.body
                inner: dict[Value, Any] = dict(zip(body.inputs, inputs, strict=True))
                for value, aval in body.avals.items():
                    if value not in inner:
                        inner[value] = len(avals)
                        avals[len(avals)] = aval
                constants.update({inner[value]: array for value, array in body.constants.items()})
                write(body, inner)
                for outcome, atom in zip(node.outputs, body.outputs, strict=True):
                    if outcome is not None:
                        known[outcome] = inner[atom] if isinstance(atom, Value) else atom
                continue
            outputs = tuple(None if v is None else known.get(v, v) for v in node.outputs)
            nodes.append(dataclasses.replace(node, inputs=inputs, outputs=outputs))

    write(program, renamed)
    outputs = tuple(renamed.get(a, a) if isinstance(a, Value) else a for a in program.outputs)
    return dataclasses.replace(program, nodes=tuple(nodes), outputs=outputs, constants=constants, avals=avals)
