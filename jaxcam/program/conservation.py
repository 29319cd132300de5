"""Where relevance is lost: what comes to each piece of a model, what it hands on, what its biases keep.

Cotangents that nobody else needs carry the account: an array of zeros (n,) goes into a piece beside its sources and
changes nothing, and the backward pass gives it, for a cotangent, the sum that is to be read.

    with_biases : (model, composite) ↦ (x, reading) → outputs, whose VJP gives the relevance and what all biases keep
    balances    : (model, composite, x, start) ↦ for each piece what came, what left, what its biases keep
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.layers import Anatomy, study
from jaxcam.program.pieces import Piece
from jaxcam.program.relevance import (
    Composite,
    Ruling,
    evaluate,
    image_axes,
    of_images,
    relevance_replacements,
    ruling,
)
from jaxcam.program.trace import Replacement, Replacements, Value, replay
from jaxcam.program.transform import given, replaced


def with_biases(model: Any, composite: Composite, x: Array, reading: Array) -> Any:
    """The outputs of `Relevant`, as a function of x and of an array that changes nothing.

    Args:
        model: any callable `x -> outputs`.
        composite: which rule goes where.
        x: images (n, h, w, c).
        reading: (n,); its cotangent is the relevance that the biases of all affine maps keep, summed for each image.
            Maps whose image axis cannot be followed are left out.
    """

    def rules(anatomy: Anatomy) -> Replacements:
        chosen = ruling(anatomy, composite)
        return relevance_replacements(anatomy, chosen, {piece.result: reading for piece, _ in chosen})

    return replaced(model, x, rules)


def balances(
    model: Any, composite: Composite, x: Array, start: Callable[[Any], Any]
) -> list[tuple[Array, Array, Array]]:
    """For each piece of a model the relevance that comes to it, that it hands on, and that its biases keep.

    Args:
        model: any callable `x -> outputs`.
        composite: which rule goes where.
        x: images (n, h, w, c).
        start: outputs ↦ their relevance.

    Returns:
        Three arrays (n,), summed for each image, for the pieces that `balanced` lists.
    """
    anatomy, arrays = study(model, x)
    rules = ruling(anatomy, composite)
    listed = balanced(anatomy, rules)
    axes = image_axes(anatomy)

    def outputs(meters: list[tuple[Array, Array, Array]]) -> Any:
        biases = {piece.result: reading for (piece, _), (*_, reading) in zip(listed, meters, strict=True)}
        replacements = relevance_replacements(anatomy, rules, biases)
        probed = dict(replacements)
        for (piece, _), (came, left, _) in zip(listed, meters, strict=True):
            sources, function = replacements.get(piece.result) or _plain(piece)
            live = tuple(axes[v] if v in piece.sources else None for v in sources)
            result_axis = axes[piece.result]
            assert result_axis is not None
            probed[piece.result] = (sources, _probed(function, live, result_axis, came, left))
        found = replay(anatomy.program, given(anatomy, arrays, x), anatomy.program.outputs, probed)
        return jax.tree_util.tree_unflatten(anatomy.program.out_tree, found)

    zeros = [(jnp.zeros(x.shape[0], x.dtype),) * 3 for _ in listed]
    results, pull_back = jax.vjp(outputs, zeros)
    return pull_back(start(results))[0]


def balanced(anatomy: Anatomy, rules: Ruling) -> Ruling:
    """The pieces whose relevance can be summed for each image: those whose image axis can be followed."""
    axes = image_axes(anatomy)
    return [
        (piece, rule)
        for piece, rule in rules
        if len(piece.nodes[-1].outputs) == 1
        and all(axes[value] is not None for value in (*piece.sources, piece.result))
    ]


def _plain(piece: Piece) -> tuple[tuple[Value, ...], Replacement]:
    count = len(piece.sources)
    return (*piece.sources, *piece.others), lambda *values: evaluate(piece, values[:count], values[count:])


def _probed(
    function: Replacement, axes: tuple[int | None, ...], result_axis: int, came: Array, left: Array
) -> Replacement:
    """The function with a meter at its result and one at all its sources."""

    def probed(*values: Any) -> Array:
        metered = [v if axis is None else _meter(v, left, axis) for v, axis in zip(values, axes, strict=True)]
        return _meter(function(*metered), came, result_axis)

    return probed


def _meter(x: Array, reading: Array, axis: int) -> Array:
    """x; going back, the meter's reading is the cotangent summed for each image."""

    @jax.custom_vjp
    def identity(x: Array, reading: Array) -> Array:
        return x

    def backward(_: None, relevance: Array) -> tuple[Array, Array]:
        return relevance, of_images(relevance, axis).astype(reading.dtype)

    identity.defvjp(lambda x, reading: (x, None), backward)
    return identity(x, reading)
