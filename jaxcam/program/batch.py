"""Whether a model gives one answer for one image.

An explanation belongs to one image. A model whose outputs for one image depend on the others — batch norm in training
mode, most of all — has no such thing, and gives other maps for other batches; one that draws random numbers — dropout
in training mode — gives other maps at every call. Both are recognized by their equations: something that sums, sorts or
multiplies along the image axis, or a random number, on the way to the outputs.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import jax

from jaxcam.program.axes import Axes, follow_axes
from jaxcam.program.layers import dissect
from jaxcam.program.trace import Node, Program, Static, Value, trace

_RANDOM = {"random_bits", "random_fold_in", "random_split", "threefry2x32"}
_HOW = (
    "model.eval() in Flax NNX, use_running_average=True and deterministic=True in Linen, "
    "eqx.nn.inference_mode(model) in Equinox"
)


def batch_dependence(
    static: Static, arrays: list[Any], x: jax.ShapeDtypeStruct, program: Program | None = None
) -> str | None:
    """One line that names the equation by which images or chance come in, and the remedy; None if neither does.

    Args:
        static: the model without its arrays.
        arrays: these; their shapes are enough.
        x: the shape and dtype of a batch.
        program: the model's for this batch, where it has been traced already.
    """
    program = _of_several(static, arrays, x, program)
    image = program.inputs[-1]
    live = program.depending_on([image])
    axes = follow_axes(program, image, live)
    wanted = program.used
    for index, node in enumerate(program.nodes):
        if wanted.isdisjoint(v for v in node.outputs if v is not None):
            continue
        if node.name in _RANDOM:
            return (
                f"the model draws random numbers: equation {index}, '{node.name}' (dropout in training mode does); put "
                f"the model in inference mode: {_HOW}"
            )
        mixed = [v for v in node.varying(live) if v in axes and _mixes(node, v, axes[v], program)]
        if mixed:
            anatomy = dissect(program)
            return (
                f"the outputs for one image depend on the others of its batch: equation {index}, '{node.name}' after "
                f"{anatomy.owner(mixed[0])} works along the images (batch norm in training mode does); put the model "
                f"in inference mode: {_HOW}"
            )
    return None


def _of_several(static: Static, arrays: list[Any], x: jax.ShapeDtypeStruct, program: Program | None) -> Program:
    """The model's program for at least two images: with one, an axis of length 1 could be any."""

    def function(leaves: list[Any], images: Any) -> Any:
        return static.join(leaves)(images)

    if x.shape[0] == 1:
        # A model written for one image stays traced with one: that it takes two is not asked of it.
        with contextlib.suppress(Exception):
            program = trace(function, arrays, jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype))
    if program is None:
        program = trace(function, arrays, x)
    return dataclasses.replace(program, paths=(*static.paths(arrays), ()))


def _mixes(node: Node, value: Value, axes: Axes, program: Program) -> bool:
    """Whether a node combines the images of an operand."""
    images = axes.images
    if images is None:
        return False
    params = node.params
    if node.name.startswith(("reduce_window", "select_and_scatter")):
        return params["window_dimensions"][images] > 1 if "window_dimensions" in params else False
    if node.name == "dot_general":
        contracted = params["dimension_numbers"][0]
        return any(
            operand == value and images in axes_
            for operand, axes_ in zip(node.inputs, contracted, strict=True)
            if isinstance(operand, Value)
        )
    if node.name.startswith(("reduce_", "arg", "psum", "pmax", "pmin")):  # a named axis under vmap is an axis as well
        return images in params.get("axes", ())
    if node.name.startswith("cum") or node.name == "top_k":
        return params.get("axis", len(program.avals[value].shape) - 1) == images
    if node.name == "sort":
        return params.get("dimension") == images
    return False
