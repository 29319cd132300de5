"""Which devices share the work.

JAX divides a computation by itself once it is told how its arrays lie (`jax.sharding`). So all that is to be said is:
these axes are lists of independent things — images, units, masks, steps of a path, points of a grid. `spread` says it,
inside whatever is compiled; a mesh of two axes says over what: the images of a batch as far as they can be dealt out
evenly, and the variants of each of them over the rest.

    devices 8, images 4:   mesh (images 4, variants 2)

By default all local devices take part. What a caller has placed on a device, or calls under a transformation of his
own, stays where it is.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

IMAGES, VARIANTS = "images", "variants"

# What the caller chose; None for all local devices, unless he has placed his arrays himself.
_chosen: contextvars.ContextVar[tuple[jax.Device, ...] | None] = contextvars.ContextVar("devices", default=None)
# What the program being traced is divided over.
_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


@contextlib.contextmanager
def devices(among: int | Sequence[jax.Device] | Mesh | None = None) -> Iterator[tuple[jax.Device, ...]]:
    """Says which devices share the work of the calls inside.

    Without it, all local devices do: images, units, masks, steps and grid points are dealt out evenly, the model is on
    each of them. The numbers are those of one device, up to the order of a sum.

    Args:
        among: how many of the local devices, the devices themselves, or a mesh of them; None for all local devices.

    Yields:
        The devices.

    Raises:
        ValueError: more devices than there are, or none.

    Example:
        >>> with devices(1) as chosen:
        ...     len(chosen)
        1
    """
    there = jax.local_devices()
    if among is None:
        found = tuple(there)
    elif isinstance(among, Mesh):
        found = tuple(among.devices.flat)
    elif isinstance(among, int | np.integer):
        if not 1 <= among <= len(there):
            raise ValueError(
                f"there are {len(there)} local devices, so 1 to {len(there)} can share the work; got {among}"
            )
        found = tuple(there[:among])
    else:
        found = tuple(among)
        if not found:
            raise ValueError("no devices: the work needs one at least")
    token = _chosen.set(found)
    try:
        yield found
    finally:
        _chosen.reset(token)


def mesh_for(images: int, arrays: Any) -> Mesh | None:
    """The mesh a call is divided over; None for one device.

    Args:
        images: how many the batch has.
        arrays: a pytree of all that the call is given.
    """
    chosen = _chosen.get()
    leaves = [leaf for leaf in jax.tree_util.tree_leaves(arrays) if isinstance(leaf, jax.Array)]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        # Under somebody's transformation nothing is known of where arrays lie.
        if chosen is None:
            return None
    elif any(getattr(leaf, "committed", False) for leaf in leaves):
        return None
    found = tuple(jax.local_devices()) if chosen is None else chosen
    if len(found) == 1:
        return None if found[0] == jax.local_devices()[0] else _mesh_of(found, 1)
    return _mesh_of(found, math.gcd(images, len(found)))


def _mesh_of(found: tuple[jax.Device, ...], images: int) -> Mesh:
    return Mesh(np.array(found).reshape(images, -1), (IMAGES, VARIANTS))


@contextlib.contextmanager
def divided(mesh: Mesh | None) -> Iterator[None]:
    """The program traced inside is divided over a mesh; `spread` says how."""
    token = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(token)


def spread(values: Any, axis: str = VARIANTS, dim: int = 0) -> Any:
    """Says, inside a program being traced, that an axis is a list of independent things.

    Args:
        values: a pytree of arrays.
        axis: of the mesh, `IMAGES` or `VARIANTS`.
        dim: which axis of the arrays is the list.

    Returns:
        The same values. Lists that cannot be dealt out evenly stay whole.
    """
    mesh = _mesh.get()
    if mesh is None:
        return values

    def one(array: Any) -> Any:
        if array.shape[dim] % mesh.shape[axis]:
            return array
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec(*[None] * dim, axis)))

    return jax.tree_util.tree_map(one, values)


def parts(mesh: Mesh | None) -> int:
    """How many devices share what is divided over a mesh."""
    return 1 if mesh is None else int(mesh.size)


def brought_home(values: Any, mesh: Mesh | None) -> Any:
    """A pytree of arrays that a mesh computed, free to be used on any device; the arrays themselves without a mesh."""
    return values if mesh is None else jax.tree_util.tree_map(lambda array: jnp.asarray(np.asarray(array)), values)


def ways(axis: str = VARIANTS) -> int:
    """Into how many parts the program being traced deals an axis out."""
    mesh = _mesh.get()
    return 1 if mesh is None else int(mesh.shape[axis])
