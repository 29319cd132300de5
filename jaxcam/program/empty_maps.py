"""Images too small for a model: convolutions without padding and pools leave a feature map of nothing (0×0×64).

XLA goes on with such a map: its sum is 0, its maximum −∞, its mean NaN, and the dense layer above answers with its
biases, the same for every image. So a number that is made of nothing is an error, which names the layer that was left
empty and the smallest image that leaves something.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam.program.layers import dissect
from jaxcam.program.trace import Node, Program, Value, trace_model

LARGEST = 1024
"""The largest square image that is tried, in pixels."""

Retrace = Callable[[tuple[int, ...]], Program]


def check_size(model: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> None:
    """Raises where images are so small that a model makes numbers out of an empty feature map.

    Args:
        model: any callable `x -> outputs`.
        shape: of a batch of images (n, *space, c).
        dtype: of the images.

    Raises:
        ValueError: they are; the layer, its shape and the smallest size are named.
    """

    def program_of(shape: tuple[int, ...]) -> Program:
        return trace_model(model, jax.ShapeDtypeStruct(shape, dtype))[0]

    check_not_empty(program_of(shape), program_of)


def check_not_empty(program: Program, retrace: Retrace) -> None:
    """The same of a program, such as one that ends at a layer.

    Args:
        program: the model's, whose last input is a batch of images.
        retrace: the shape of a batch ↦ the model's program on it, to find the smallest that works; may fail.

    Raises:
        ValueError: it does; the layer, its shape and the smallest size are named.
    """
    shape = program.avals[program.inputs[-1]].shape
    if 0 in shape or (value := first_empty(program)) is None:
        return
    images = "×".join(map(str, shape[1:-1])) or str(shape)
    least = smallest(lambda size: retrace((shape[0], *(size for _ in shape[1:-1]), shape[-1])), max(shape[1:-1]))
    remedy = f"{least}×{least} is the smallest that works" if least else "give larger ones"
    raise ValueError(
        f"images of {images} are too small for the model: {_layer(program, value)}, a feature map of nothing; {remedy}"
    )


def first_empty(program: Program) -> Value | None:
    """The first empty value from which a number of the outputs is made, or that is an output; None if there is none.

    What is empty and joined to something else (a token sequence without prefix tokens) is no such value.
    """
    if not any(_is_empty(value, program) for value in program.avals):
        return None
    live = program.depending_on([program.inputs[-1]])
    wanted = program.used
    for node in program.nodes:
        if (value := _made_of_nothing(node, program, live)) is not None and not wanted.isdisjoint(node.outputs):
            return value
    return next((v for v in program.outputs if isinstance(v, Value) and v in live and _is_empty(v, program)), None)


def smallest(program_at: Callable[[int], Program], start: int) -> int | None:
    """The smallest square image above `start` pixels on which no feature map is empty; None where none is known."""

    def works(size: int) -> bool:
        return first_empty(program_at(size)) is None

    with contextlib.suppress(Exception):  # a model that takes one size only fails on others in any way
        low, high = start, 2 * start
        while high <= LARGEST and not works(high):
            low, high = high, 2 * high
        if high > LARGEST:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if works(middle) else (middle, high)
        return high
    return None


def _made_of_nothing(node: Node, program: Program, live: set[Value]) -> Value | None:
    """The empty operand of a node that has results and no operand with anything in it that depends on the images."""
    varying = node.varying(live)
    if not varying or not all(_is_empty(value, program) for value in varying):
        return None
    results = [value for value in node.outputs if value is not None]
    return None if all(_is_empty(value, program) for value in results) else varying[0]


def _is_empty(value: Value, program: Program) -> bool:
    return 0 in getattr(program.avals[value], "shape", ())


def _layer(program: Program, value: Value) -> str:
    """The first empty layer on the way to an empty value, and its shape."""
    anatomy, upstream = dissect(program), program.leading_to(value)
    for place in anatomy.places:
        if place.value in upstream and _is_empty(place.value, program):
            return f"layer '{place.name}' gives {'×'.join(map(str, anatomy.layer(place).shape))}"
    shape = program.avals[value].shape
    return f"what follows {anatomy.owner(value)} is {'×'.join(map(str, shape[1:]))}"
