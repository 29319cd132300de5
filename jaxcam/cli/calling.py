"""A network called on shapes alone: what it gives, and why it cannot be asked for a class."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.cli.errors import failure
from jaxcam.program.empty_maps import check_size


class NoLogits(ValueError):
    """A network gives something else than one number for each class and image."""


def outputs_of(model: Any, name: str, shape: Sequence[int], images: str = "") -> Any:
    """What a network gives for a batch, as shapes.

    Args:
        model: any callable.
        name: what the message calls it.
        shape: of the batch (n, h, w, c).
        images: what the message calls them.

    Returns:
        A pytree of `jax.ShapeDtypeStruct`.

    Raises:
        ValueError: it fails; the line of the user's file is named, where there is one.
    """

    def call(x: Any) -> Any:
        outputs = model(x)
        for leaf in jax.tree_util.tree_leaves(outputs):
            if not isinstance(leaf, jax.Array | np.ndarray | np.generic | float | int):
                raise NoLogits(f"{name} gives {type(leaf).__name__}, not logits (n, k)")
        return outputs

    try:
        return jax.eval_shape(call, jax.ShapeDtypeStruct(tuple(shape), jnp.float32))
    except NoLogits:
        raise
    except (Exception, SystemExit) as error:  # a user's own network may fail in any way
        raise ValueError(f"{refusal(name, shape, images)}{failure(error)}") from error


def count_classes(model: Any, name: str, shape: Sequence[int], images: str = "") -> int:
    """How many classes a network tells apart.

    Args:
        model, name, shape, images: as of `outputs_of`.

    Raises:
        NoLogits: it gives something else than logits (n, k).
        ValueError: it fails, or the images are too small for it.
    """
    outputs = outputs_of(model, name, shape, images)
    check_logits(outputs, name, shape, images)
    check_size(model, tuple(shape))
    return int(outputs.shape[-1])


def refusal(name: str, shape: Sequence[int], images: str = "") -> str:
    """How a message begins that a network does not take such images."""
    return f"{name} does not take {images or 'images of ' + '×'.join(map(str, shape[1:]))}: "


def check_logits(outputs: Any, name: str, shape: Sequence[int], images: str = "") -> None:
    """Raises unless outputs are logits: (n, k), or (n, 1, …, 1, k), floating point.

    Args:
        outputs: an array or its shape, or whatever the network gives.
        name, shape, images: as of `outputs_of`.

    Raises:
        NoLogits: they are not; the line says what they are, and what helps.
        ValueError: they are of another number of images.
    """
    n = shape[0]
    of = f"of {n} images" if n > 1 else "of one image"
    found = getattr(outputs, "shape", None)
    if found is None:
        leaves = len(jax.tree_util.tree_leaves(outputs))
        made = f"{type(outputs).__name__} of {leaves} arrays" if leaves else repr(outputs)
        hint = "; let the factory return a function that gives one of them" if leaves else ""
        raise NoLogits(f"{name} does not give logits (n, k): {of} it makes {made}{hint}")
    if len(found) < 2:
        made = f"an array {found}" if found else "a single number"
        raise NoLogits(f"{name} does not give logits (n, k): {of} it makes {made}")
    if found[0] != n:
        raise ValueError(f"{refusal(name, shape, images)}{of} it makes an array {found}, not logits ({n}, k)")
    if any(size > 1 for size in found[1:-1]):
        raise NoLogits(
            f"{name} does not give logits (n, k): {of} it makes maps {found}; let the factory return a function that "
            "takes their mean over space, x -> net(x).mean((1, 2))"
        )
    if found[-1] == 0:
        raise NoLogits(f"{name} gives no output at all: {of} it makes an array {found}")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise NoLogits(f"{name} gives numbers of type {outputs.dtype}; logits are floating point")
