"""How many at once: chunks of steps, masks, samples or channels that fit in memory.

A method that asks the model about many variants of an image (steps of a path, masks, noise) does so in chunks:
`mapped` runs them one chunk after the other under one compilation, whatever the count, and `chunk_size` finds a size
whose activations fit. The answer does not depend on the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.memory import total_bytes
from jaxcam.program.recognize import activations, is_affine
from jaxcam.program.sharing import IMAGES, spread, ways
from jaxcam.program.trace import Program, Value, trace_model

# What the activations of one chunk may take: enough for full speed, small beside any machine's memory.
MEMORY = 1 << 30
# More at once than this only costs memory.
LARGEST = 64


def mapped(function: Callable[..., Any], variants: Any, chunk: int) -> Any:
    """The function on each of many variants, a chunk of them at a time; results are stacked.

    Args:
        function: variant ↦ pytree of arrays.
        variants: pytree of arrays (v, …).
        chunk: how many at once; it need not divide v.
    """
    count = _count(variants)

    def whole(part: Any) -> Any:
        return jax.vmap(function)(spread(part))

    if chunk >= count:
        return whole(variants)
    chunks, rest = _chunks(variants, chunk)
    done = jax.tree_util.tree_map(lambda a: a.reshape(-1, *a.shape[2:]), jax.lax.map(whole, chunks))
    if count % chunk == 0:
        return done
    return jax.tree_util.tree_map(lambda *parts: jnp.concatenate(parts), done, whole(rest))


def summed(function: Callable[..., Any], variants: Any, chunk: int, weights: Array | None = None) -> Any:
    """The sum of the function over many variants, a chunk at a time; the stack of results never exists.

    Args:
        function: variant ↦ pytree of arrays.
        variants: pytree of arrays (v, …).
        chunk: how many at once; it need not divide v.
        weights: of each variant in the sum (v,); None for 1.
    """
    count = _count(variants)

    def whole(part: Any) -> Any:
        some, shares = part
        values = jax.vmap(function)(spread(some))
        if shares is None:
            return jax.tree_util.tree_map(lambda a: jnp.sum(a, 0), values)
        # A matrix product, not a sum of products: where the function is the same all over an axis (the gradient of a
        # mean over space), XLA for CPUs takes the latter for what it is not (program/compiled.py).
        return jax.tree_util.tree_map(lambda a: jnp.tensordot(shares, a, 1, precision="highest"), values)

    variants = variants, weights
    if chunk >= count:
        return whole(variants)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree_util.tree_map(jnp.add, total, whole(part)), None

    chunks, rest = _chunks(variants, chunk)
    first = jax.tree_util.tree_map(lambda a: a[0], chunks)
    zero = jax.tree_util.tree_map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(whole, first))
    total, _ = jax.lax.scan(add, zero, chunks)
    if count % chunk:
        total, _ = add(total, rest)
    return total


def _count(variants: Any) -> int:
    return int(jax.tree_util.tree_leaves(variants)[0].shape[0])


def _chunks(variants: Any, chunk: int) -> tuple[Any, Any]:
    """The whole chunks (v // chunk, chunk, …), and the rest."""
    full = _count(variants) // chunk
    chunks = jax.tree_util.tree_map(lambda a: a[: full * chunk].reshape(full, chunk, *a.shape[1:]), variants)
    return chunks, jax.tree_util.tree_map(lambda a: a[full * chunk :], variants)


def chunk_size(model: Any, x: Array, count: int, chunk: int | None = None, memory: int = MEMORY) -> int:
    """How many variants of the whole batch x to ask about at once.

    Args:
        model: any callable `x -> outputs`.
        x: the batch (n, h, w, c).
        count: how many variants there are.
        chunk: the size asked for; None for what fits in `memory`.
        memory: bytes that the activations of a chunk may take on each device.
    """
    if chunk is not None:
        return min(chunk, count)
    each = bytes_per_pass(trace_model(model, x)[0]) // ways(IMAGES)
    size = max(1, min(count, ways() * min(LARGEST, memory // max(1, each))))
    return size - size % ways() if size > ways() else size  # dealt out evenly


def bytes_per_pass(program: Program) -> int:
    """About what a forward and backward pass keeps: the values a compiler cannot fuse away.

    Args:
        program: of a model, traced with a whole batch.
    """
    live = program.depending_on([program.inputs[-1]])
    kept: set[Value] = {program.inputs[-1], *activations(program)}
    for node in program.nodes:
        if is_affine(node, live) or node.name.startswith(("reduce_window", "concatenate")):
            kept.update(value for value in node.outputs if value is not None)
    return sum(math.prod(program.avals[value].shape) * program.avals[value].dtype.itemsize for value in kept & live)


def check_fits(program: Program, shape: tuple[int, ...]) -> None:
    """Raises if one pass over the batch needs more memory than the device has.

    Raises:
        ValueError: it does; the message says how many images would fit.
    """
    needed, there = bytes_per_pass(program), total_bytes()
    if needed > there:
        fit = max(0, int(shape[0] * there / needed))
        advice = f"explain at most {fit} at once" if fit else "explain smaller images"
        raise ValueError(
            f"one pass over {shape[0]} images of shape {shape[1:]} keeps about {needed / 1e9:.1f} GB, and "
            f"there are {there / 1e9:.1f} GB; {advice}"
        )
