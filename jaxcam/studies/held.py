"""What the studies of linear pieces share: checks, and which switches are in which state at many images."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.attribution.asking import Question, ask, check_images
from jaxcam.attribution.budget import bytes_per_pass
from jaxcam.program.compiled import compiled
from jaxcam.program.layers import unknown_layer
from jaxcam.program.regions import Regions, partition
from jaxcam.program.trace import Static, split

MEMORY = 1 << 29
"""Bytes that the activations of the images worked on at once may take."""


def checked(model: Any, x: Any) -> tuple[Static, list[Any], Regions]:
    """A model apart from its arrays, these, and its regions; one pass over shapes, nothing is computed.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c).

    Raises:
        TypeError: no model, or no images.
        ValueError: images of a wrong shape, a model that fails on them, mixes them, or is not piecewise linear.
    """
    check_images(x)
    if not callable(model):
        raise TypeError(f"a model is a callable x -> outputs; got {type(model).__name__}")
    two = jax.ShapeDtypeStruct((min(2, len(x)), *x.shape[1:]), jnp.asarray(x[:1]).dtype)
    with precise():
        regions = partition(model, jax.ShapeDtypeStruct(two.shape[1:], two.dtype))
        jax.eval_shape(lambda images: ask(_answers, model, images, None), two)  # what else can be wrong with a model
    arrays, static = split(model)
    return static, arrays, regions


def _answers(question: Question, x: Array) -> Array:
    return question.outputs(x)


def precise() -> Any:
    """On accelerators float32 products are rounded to fewer digits unless somebody says otherwise."""
    return jax.default_matmul_precision("highest")


def at_once(regions: Regions, chunk: int | None) -> int:
    """How many images to work on together: the chunk asked for, or what fits."""
    return chunk or int(max(1, min(64, MEMORY // max(1, bytes_per_pass(regions.anatomy.program)))))


def no_switch(layer: str, layers: list[str]) -> str:
    """One line that says that a layer has no switches, and which do."""
    return unknown_layer(layer, layers).replace("no layer", "no switch in layer")


@functools.partial(compiled, static_argnums=0)
def states(static: Static, arrays: list[Any], x: Array) -> list[Array]:
    """For each switch its states at each image (n, …)."""
    regions = partition(static.join(arrays), x[0])
    return jax.vmap(regions.states)(x)


def identifiers(regions: Regions, found: list[Array], count: int) -> dict[str, list[bytes]]:
    """For each layer with switches, a hash of the states of all of these, for each image.

    Args:
        regions: of the model.
        found: what `states` gives.
        count: how many of the images count.
    """
    hashes: dict[str, list[Any]] = {}
    for switch, values in zip(regions.switches, found, strict=True):
        rows = np.asarray(values)[:count].reshape(count, -1)
        rows = np.packbits(rows, axis=1) if rows.dtype == np.bool_ else rows
        own = hashes.setdefault(switch.layer, [hashlib.blake2b(digest_size=16) for _ in range(count)])
        for digest, row in zip(own, rows, strict=True):
            digest.update(np.ascontiguousarray(row).data)
    return {layer: [digest.digest() for digest in own] for layer, own in hashes.items()}


def together(parts: list[bytes]) -> str:
    """One identifier of several."""
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def whole(layers: dict[str, list[bytes]], count: int) -> list[str]:
    """The identifier of each image's polytope: of the states of all switches."""
    return [together([own[i] for own in layers.values()]) for i in range(count)]
