"""The same values, computed another way: rewrites that make a program fast where XLA is slow.

Programs are replayed, so they can be rewritten without touching the model. A rewrite never changes a value (beyond
the order of a sum) nor a derivative; `tests/program/test_rewrite.py` holds each one against the plain program. On
CPUs, XLA

* runs a convolution whose image is smaller than its kernel a hundred times slower than the matrix product it is: here
  it becomes shifted slices times one matrix; a 1×1 convolution is a matrix product as it stands;
* brings convolutions into the one order of axes that it is fast at only outside of loops: here they are written in
  that order, and so that their derivatives come out in it as well;
* differentiates max pooling by a scalar loop (select-and-scatter): here the place of each maximum is saved on the way
  forward, and the way back is one elementwise multiplication;
* writes a batch norm as passes of its own over memory: here its scale goes into the kernel (`fold.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from jaxcam.program.fold import Chain, channelwise
from jaxcam.program.trace import Node, Program, Replacements, Value, replay, trace


def accelerate(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, faster where XLA needs help.

    Args:
        function: any pure function of pytrees of arrays (a model, a loss).

    Returns:
        A function with the same arguments, results and derivatives, to be put under `jax.jit`. Where there is nothing
        to rewrite, and on devices that need no help, it evaluates the same equations.

    Example:
        >>> float(accelerate(lambda x: jnp.sum(x**2))(jnp.arange(3.0)))
        5.0
    """

    @functools.wraps(function, updated=())
    def faster(*arguments: Any) -> Any:
        program = trace(function, *arguments)
        values = dict(zip(program.inputs, jax.tree_util.tree_leaves(arguments), strict=True))
        outputs = replay(program, values, program.outputs, {**rewrites(program), **folds(program)})
        return jax.tree_util.tree_unflatten(program.out_tree, outputs)

    return faster


def rewrites(program: Program, platform: str | None = None) -> Replacements:
    """The equations of a program worth computing otherwise, and how.

    Args:
        program: any program.
        platform: "cpu", "gpu" or "tpu"; by default that of JAX's first device.

    Returns:
        For `replay`: by result, the operands and the function.
    """
    found: Replacements = {}
    if not _needs_help(platform):
        return found
    for node in program.nodes:
        output = node.outputs[0] if node.outputs else None
        if output is None or any(not isinstance(atom, Value) for atom in node.inputs):
            continue
        if node.name == "conv_general_dilated":
            if (convolve := _convolution(node, program, program.avals[output].shape)) is not None:
                found[output] = (node.operands, convolve)
        elif node.name == "reduce_window_max" and _is_plain_pool(node, program, program.avals[output].shape):
            found[output] = (node.operands, functools.partial(_saved_argmax, node=node))
    return found


def folds(program: Program, platform: str | None = None) -> Replacements:
    """The convolutions that take the scales and shifts after them into their kernel.

    Only for a replay from the inputs to the outputs: one that starts or stops inside such a chain needs its equations.

    Args:
        program: any program.
        platform: "cpu", "gpu" or "tpu"; by default that of JAX's first device.

    Returns:
        For `replay`: by result, the operands and the function.
    """
    found: Replacements = {}
    if not _needs_help(platform):
        return found
    for chain in channelwise(program, program.depending_on(program.inputs)):
        convolve = _convolution(chain.convolution, program, chain.shape(program))
        found[chain.result] = (chain.sources, functools.partial(_folded, chain=chain, convolve=convolve))
    return found


def _needs_help(platform: str | None) -> bool:
    return (platform or jax.default_backend()) == "cpu"


def _convolution(node: Node, program: Program, result: tuple[int, ...]) -> Callable[..., Array] | None:
    """The faster way to a convolution of images, (image, kernel) ↦ result; None with groups or holes in the input."""
    params = node.params
    plain = params["feature_group_count"] == params["batch_group_count"] == 1 and not set(params["lhs_dilation"]) - {1}
    if not plain or len(params["window_strides"]) != 2:
        return None
    return functools.partial(_shifted if _is_small(node, program, result) else _ordered, params=params)


def _is_small(node: Node, program: Program, result: tuple[int, ...]) -> bool:
    """Whether a convolution of images is better off as a matrix product."""
    params = node.params
    spec = params["dimension_numbers"]
    image, kernel = (program.avals[value].shape for value in node.operands)
    if 0 in (*image, *kernel, *result):
        return False
    sides = [
        (image[i], result[o], (kernel[k] - 1) * dilation + 1)
        for i, o, k, dilation in zip(
            spec.lhs_spec[2:], spec.out_spec[2:], spec.rhs_spec[2:], params["rhs_dilation"], strict=True
        )
    ]
    pointwise = all(reach == 1 for *_, reach in sides)
    return pointwise or any(min(before, after) < reach for before, after, reach in sides)


def _folded(image: Array, kernel: Any, *others: Any, chain: Chain, convolve: Callable[..., Array] | None) -> Array:
    """A convolution whose kernel holds the scales that follow, and one shift."""
    kernel = jnp.asarray(kernel)  # a kernel a function closed over may be a numpy array
    node = chain.convolution
    spec = node.params["dimension_numbers"]
    a, b = chain.scale_and_shift(list(others), kernel.shape[spec.rhs_spec[0]])
    scaled = (kernel * jnp.expand_dims(a, [i for i in range(kernel.ndim) if i != spec.rhs_spec[0]])).astype(
        kernel.dtype
    )
    result: Array = node(image, scaled)[0] if convolve is None else convolve(image, scaled)
    shift = jnp.expand_dims(b, [i for i in range(result.ndim) if i != spec.out_spec[1]])
    return result + shift.astype(result.dtype)


def _ordered(image: Array, kernel: Any, params: dict[str, Any]) -> Array:
    """A convolution of (n, h, w, i) with (h, w, i, o), whatever the order of the axes it came in."""
    spec = params["dimension_numbers"]
    kept = ("window_strides", "padding", "rhs_dilation", "precision", "preferred_element_type")
    options = {name: params[name] for name in kept}

    @jax.custom_jvp
    def convolve(image: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(image, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)

    def derivative(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
        (image, kernel), (along_image, along_kernel) = primals, tangents
        parts = []
        if type(along_image) is not SymbolicZero:
            # Transposing exchanges the kernel's last two axes: exchanged here, they are in order on the way back.
            swapped = jnp.swapaxes(kernel, 2, 3)
            parts.append(
                jax.lax.conv_general_dilated(
                    along_image, swapped, dimension_numbers=("NHWC", "HWOI", "NHWC"), **options
                )
            )
        if type(along_kernel) is not SymbolicZero:
            parts.append(convolve(image, along_kernel))
        return convolve(image, kernel), sum(parts[1:], parts[0])

    convolve.defjvp(derivative, symbolic_zeros=True)
    image = jnp.transpose(image, (spec.lhs_spec[0], *spec.lhs_spec[2:], spec.lhs_spec[1]))
    kernel = jnp.transpose(kernel, (*spec.rhs_spec[2:], spec.rhs_spec[1], spec.rhs_spec[0]))
    result = convolve(image, kernel)
    return jnp.transpose(result, np.argsort((spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1])).tolist())


def _shifted(image: Array, kernel: Any, params: dict[str, Any]) -> Array:
    """A convolution as slices of the image, side by side, times one matrix."""
    spec = params["dimension_numbers"]
    image = jnp.transpose(image, (spec.lhs_spec[0], *spec.lhs_spec[2:], spec.lhs_spec[1]))
    kernel = jnp.transpose(kernel, (*spec.rhs_spec[2:], spec.rhs_spec[1], spec.rhs_spec[0]))
    n, *sizes, _ = image.shape
    strides, dilations, padding = params["window_strides"], params["rhs_dilation"], params["padding"]
    outs = [
        (size + low + high - (k - 1) * d - 1) // s + 1
        for size, (low, high), k, d, s in zip(sizes, padding, kernel.shape, dilations, strides, strict=False)
    ]
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    padded = jax.lax.pad(image, jnp.zeros((), image.dtype), config)
    # A tap that only ever meets the padding contributes nothing: on a 1×1 image one of nine remains (and at least one).
    taps = [
        [t for t in range(k) if any(0 <= o * s + t * d - low < size for o in range(out))] or [0]
        for size, out, (low, _), k, d, s in zip(sizes, outs, padding, kernel.shape, dilations, strides, strict=False)
    ]
    columns, rows = [], []
    for i in taps[0]:
        for j in taps[1]:
            starts = (0, i * dilations[0], j * dilations[1], 0)
            stops = [start + (out - 1) * s + 1 for start, out, s in zip(starts[1:3], outs, strides, strict=True)]
            columns.append(jax.lax.slice(padded, starts, (n, *stops, padded.shape[3]), (1, *strides, 1)))
            rows.append(kernel[i, j])
    result = jax.lax.dot_general(
        columns[0] if len(columns) == 1 else jnp.concatenate(columns, -1),
        rows[0] if len(rows) == 1 else jnp.concatenate(rows, 0),
        (((3,), (0,)), ((), ())),
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    return jnp.transpose(
        result, [int(axis) for axis in np.argsort((spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1]))]
    )


def _is_plain_pool(node: Node, program: Program, result: tuple[int, ...]) -> bool:
    params = node.params
    dtype = program.avals[node.operands[0]].dtype
    dilated = set(params["base_dilation"]) | set(params["window_dilation"])
    return dilated == {1} and jnp.issubdtype(dtype, jnp.floating) and 0 not in result


def windows(x: Array, params: dict[str, Any]) -> list[Array]:
    """The elements of every pooling window: one array of the pooled shape per place in the window, in row-major order.

    Args:
        x: the array that is pooled.
        params: those of the equation `reduce_window_max`.
    """
    size, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    padded = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(low, high, 0) for low, high in padding])
    outs = [(whole - k) // s + 1 for whole, k, s in zip(padded.shape, size, strides, strict=True)]
    return [
        jax.lax.slice(
            padded, start, [a + (out - 1) * s + 1 for a, out, s in zip(start, outs, strides, strict=True)], strides
        )
        for start in np.ndindex(*size)
    ]


def first_maximum(places: list[Array], pooled: Array) -> list[Array]:
    """For every place in the window, whether it holds the maximum; on ties the first one, as in PyTorch and XLA."""
    taken = jnp.zeros(pooled.shape, bool)
    masks = []
    for place in places:
        here = (place == pooled) & ~taken
        taken |= here
        masks.append(here)
    return masks


def _saved_argmax(x: Array, node: Node) -> Array:
    """Max pooling whose derivative reads the saved place of each maximum."""
    params = node.params
    size, strides = params["window_dimensions"], params["window_strides"]
    tiles = (
        size == strides
        and all(pad == (0, 0) for pad in params["padding"])
        and not any(length % k for length, k in zip(x.shape, size, strict=True))
    )

    @jax.custom_jvp
    def pool(x: Array) -> Array:
        return node(x)[0]

    @pool.defjvp
    def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        (x,), (t,) = primals, tangents
        pooled = pool(x)
        masks = first_maximum(windows(x, params), pooled)
        if tiles:
            # Windows that tile the image: split every axis in (window, place), so the way back is one multiplication.
            split = [n for length, k in zip(x.shape, size, strict=True) for n in (length // k, k)]
            inside = tuple(range(1, 2 * x.ndim, 2))
            mask = jnp.stack(masks, -1).reshape(*pooled.shape, *size)
            mask = jnp.transpose(mask, [axis for i in range(x.ndim) for axis in (i, x.ndim + i)])
            return pooled, jnp.sum(jnp.where(mask, t.reshape(split), 0), inside)
        zero = jnp.zeros((), t.dtype)
        return pooled, sum(jnp.where(m, p, zero) for m, p in zip(masks, windows(t, params), strict=True))  # type: ignore[return-value]

    return pool(x)
