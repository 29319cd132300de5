"""Layers laid open: their values and their gradients together, and the part of a model above one of them.

    expose : (x → outputs, layers)  ↦  (x, {layer: δ}) → (outputs, {layer: activations})
    above  : (x → outputs, layer)   ↦  x → (activations, activations → outputs)

`expose` adds δ to the value of each layer. At δ = 0 nothing changes, and the gradient with respect to δ is the gradient
with respect to every layer at once: one forward pass, one backward pass, and that only down to the first of the layers.
`above` is for methods that change one layer's value many times: what does not depend on it is computed once.

Axes are canonical: images first, units last, wherever the model keeps them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.axes import follow_axes
from jaxcam.program.layers import Anatomy, Place, study
from jaxcam.program.recognize import SELECTING, is_piecewise_linear, number_of, uniform
from jaxcam.program.rewrite import accelerate
from jaxcam.program.trace import Node, Program, Replacements, Value, replay, trace
from jaxcam.program.transform import as_pytree, canonical, given, original


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Exposure:
    """(x, {layer: δ}) ↦ the outputs and the layers' activations, δ added to each. Made by `expose`."""

    transformed_model: Any
    layers: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array, deltas: Mapping[str, Array]) -> tuple[Any, dict[str, Array]]:
        anatomy, arrays = study(self.transformed_model, x)
        program = anatomy.program
        places = {name: anatomy.find(name) for name in self.layers}
        shifts: dict[Value, list[Array]] = {}  # two names may be one value
        for name, place in places.items():
            shifts.setdefault(place.value, []).append(original(deltas[name], place))
        replacements: Replacements = {
            value: (
                node.operands,
                functools.partial(_shifted, node, position, functools.reduce(jnp.add, shifts[value])),
            )
            for node in program.nodes
            for position, value in _read(node)
            if value in shifts
        }
        wanted = [*program.outputs, *(place.value for place in places.values())]
        results = replay(program, given(anatomy, arrays, x), wanted, replacements)
        count = len(program.outputs)
        outputs = jax.tree_util.tree_unflatten(program.out_tree, results[:count])
        values = zip(places.items(), results[count:], strict=True)
        return outputs, {name: canonical(value, place) for (name, place), value in values}

    def zeros(self, x: Array) -> dict[str, Array]:
        """The δ that changes nothing: zeros like each layer's activations."""
        anatomy, _ = study(self.transformed_model, x)
        return {name: jnp.zeros_like(like) for name, like in ((n, _like(anatomy, n)) for n in self.layers)}


def _read(node: Node) -> list[tuple[int, Value]]:
    """The results of a node that are read, numbered as the node gives them."""
    return list(enumerate(value for value in node.outputs if value is not None))


def _shifted(node: Node, position: int, shift: Array, *operands: Array) -> Array:
    return node(*operands)[position] + shift


def _like(anatomy: Anatomy, name: str) -> jax.ShapeDtypeStruct:
    place = anatomy.find(name)
    return jax.eval_shape(lambda value: canonical(value, place), anatomy.program.avals[place.value])


def expose(model: Any, layers: tuple[str, ...]) -> Exposure:
    """A model that also gives the activations of some layers, and takes something to add to them.

    expose(f, L)(x, δ) = (f(x), {l: aₗ}) computed with aₗ := aₗ + δₗ for every l in L; so ∂f/∂δₗ at δ = 0 is ∂f/∂aₗ.

    Args:
        model: any callable `x -> outputs`.
        layers: names that `layers` lists.

    Returns:
        A callable `(x (n, h, w, c), {layer: δ (n, h', w', u)}) -> (outputs, {layer: activations})`.

    Raises:
        ValueError: at the call, if there is no such layer; the message names the closest.

    Example:
        >>> net = lambda x: 10 * jax.nn.relu(x @ jnp.array([[1.0], [-1.0]]))
        >>> outputs, found = expose(net, ("dense_0",))(jnp.array([[3.0, 1.0]]), {"dense_0": jnp.array([[0.5]])})
        >>> outputs.tolist(), found["dense_0"].tolist()
        ([[25.0]], [[2.5]])
    """
    return Exposure(as_pytree(model), tuple(layers))


def above(model: Any, x: Array, layer: str) -> tuple[Array, Callable[[Array], Any]]:
    """A layer's value, and the model from there on.

    above(f, x, l) = (aₗ(x), a ↦ f(x) computed with aₗ := a). What goes past the layer, the other side of a residual
    sum, is computed once and not again for every a.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c).
        layer: a name that `layers` lists.

    Returns:
        The activations (n, h', w', u), and a callable `activations -> outputs`.

    Raises:
        ValueError: there is no such layer; the message names the closest.

    Example:
        >>> net = lambda x: x + jax.nn.relu(x @ jnp.array([[1.0]]))
        >>> activations, rest = above(net, jnp.array([[3.0]]), "dense_0")
        >>> activations.tolist(), rest(jnp.array([[10.0]])).tolist()
        ([[3.0]], [[13.0]])
    """
    anatomy, arrays = study(model, x)
    place, program = anatomy.find(layer), anatomy.program
    later = program.depending_on([place.value])
    needed: dict[Value, None] = {value: None for value in program.outputs if isinstance(value, Value)}
    for node in reversed(program.nodes):
        if any(value in later and value in needed for value in node.outputs):
            needed.update(dict.fromkeys(node.operands))
    past = [value for value in needed if value not in later and value not in program.constants]

    def below(x: Array) -> list[Array]:
        return replay(program, given(anatomy, arrays, x), [place.value, *past])

    value, *others = accelerate(below)(x)
    beside = dict(zip(past, others, strict=True))

    def rest(activations: Array) -> Any:
        values = {**beside, place.value: original(activations, place)}
        return jax.tree_util.tree_unflatten(program.out_tree, replay(program, values, program.outputs))

    return canonical(value, place), accelerate(rest)


def spatial_layers(anatomy: Anatomy, pools: bool = False) -> list[Place]:
    """The layers with units over more than one place (h, w, u) from the first convolution on, in order.

    A convolution written as a matrix product over the last axis counts as one.

    Args:
        anatomy: a model's.
        pools: whether poolings are among them.
    """
    filters: set[Value] = set()
    found = []
    for place in anatomy.places:
        shape = anatomy.layer(place).shape
        if place.kind == "conv" or (place.kind == "dense" and len(shape) == 3):
            filters.add(place.value)
        upstream = anatomy.program.leading_to(place.value)
        drawable = len(shape) == 3 and shape[0] * shape[1] > 1 and (pools or place.kind != "pool")
        if drawable and not filters.isdisjoint(upstream):
            found.append(place)
    return found


def is_linear(node: Node, live: set[Value]) -> bool:
    """Whether a node is linear (or affine) in the values of `live`, taken together."""
    selects = node.name in SELECTING or node.name in {"max", "min"}
    return is_piecewise_linear(node, live) and not (selects and node.varying(live))


def first_nonlinear(function: Callable[..., Any], *arguments: Any) -> str | None:
    """The name of the first operation by which a function is not affine in its arguments; None if it is."""
    program = trace(function, *arguments)
    live = program.depending_on(program.inputs)
    wanted = _wanted(program)
    for node in program.nodes:
        if not wanted.isdisjoint(v for v in node.outputs if v is not None) and not is_linear(node, live):
            return node.name
    return None


def _wanted(program: Program) -> set[Value]:
    """All values that the outputs are computed from."""
    found: set[Value] = set()
    for output in program.outputs:
        if isinstance(output, Value):
            found |= program.leading_to(output)
    return found


def pooled_then_affine(anatomy: Anatomy, place: Place, outputs_summed: bool = True) -> str | None:
    """Why the outputs are not an affine function of the mean over space of a layer, and of nothing else; None if so.

    Args:
        anatomy: a model's.
        place: a layer of it with units over space.
        outputs_summed: whether outputs with space will be summed over it, which is as good as a mean.

    Returns:
        A few words that name the operation in the way.
    """
    program = anatomy.program
    later, wanted = program.depending_on([place.value]), _wanted(program)
    if place.value not in wanted:
        return "the outputs do not depend on it"
    axes, numbers = follow_axes(program, anatomy.x, anatomy.live), uniform(program)

    def space(value: Value) -> list[int]:
        shape = program.avals[value].shape
        return [axis for axis, size in enumerate(shape) if size > 1 and axis not in axes[value]]

    # The layer's places are in a value until it has been summed over them: as long as axes are left for them.
    carrying = {place.value}
    for node in program.nodes:
        results = [value for value in node.outputs if value is not None]
        operands = node.varying(anatomy.live)
        if later.isdisjoint(operands) or wanted.isdisjoint(results):
            continue
        if not later.issuperset(operands):
            return f"'{node.name}' adds what does not come from it"
        if not is_linear(node, later):
            kinds = [anatomy.activations[value].kind for value in results if value in anatomy.activations]
            return f"'{(kinds or [node.name])[0]}' after it is not linear"
        if carrying.isdisjoint(operands):
            continue
        if not _treats_places_alike(node, program, numbers, space(operands[0]), anatomy.live):
            return f"'{node.name}' reads it before its mean over space is taken"
        carrying.update(value for value in results if space(value))
    if not outputs_summed and any(value in carrying for value in program.outputs):
        return "no mean over space is taken of it"
    return None


def _treats_places_alike(
    node: Node, program: Program, numbers: dict[Value, float], space: list[int], live: set[Value]
) -> bool:
    """Whether a linear node does the same to every place of its operand, whose places are along the axes `space`."""
    match node.name:
        case "reduce_window_sum":
            sizes = program.avals[node.varying(live)[0]].shape
            window, padding = node.params["window_dimensions"], node.params["padding"]
            return all(window[axis] == sizes[axis] and tuple(padding[axis]) == (0, 0) for axis in space)
        case "mul" | "div":
            other = next((atom for atom in node.inputs if not (isinstance(atom, Value) and atom in live)), None)
            if other is None or number_of(other, numbers) is not None:
                return other is not None
            assert isinstance(other, Value)
            shape = program.avals[other].shape
            made = next((n for n in program.nodes if other in n.outputs and n.name == "broadcast_in_dim"), None)
            if made is not None:
                before = program.avals[made.operands[0]].shape if made.operands else ()
                kept = dict(zip(made.params["broadcast_dimensions"], before, strict=True)) if before else {}
                return all(kept.get(axis, 1) == 1 for axis in space)
            return not shape or all(shape[axis] == 1 for axis in space)
    return node.name in _ALIKE


_ALIKE = {
    "add",
    "sub",
    "neg",
    "reduce_sum",
    "reshape",
    "squeeze",
    "expand_dims",
    "transpose",
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "name",
    "optimization_barrier",
    "sharding_constraint",
}
