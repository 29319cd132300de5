"""Real images that excite a unit, and targets that are several units at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxcam.attribution.asking import check_batch, check_count
from jaxcam.attribution.targets import per_output
from jaxcam.program.compiled import compiled
from jaxcam.program.rewrite import accelerate
from jaxcam.program.trace import Static, split


@dataclasses.dataclass(frozen=True)
class Exemplars:
    """The real images that excite each unit most. Made by `most_exciting`.

    Attributes:
        indices: which images, the most exciting first (u, count).
        scores: what they excite (u, count).
        places: where in the layer the unit is excited most, (row, column) (u, count, 2); zeros without space.
        shape: of the layer in space, (h', w'); (1, 1) without.
    """

    indices: Int[np.ndarray, "u count"]
    scores: Float[np.ndarray, "u count"]
    places: Int[np.ndarray, "u count 2"]
    shape: tuple[int, int]


def most_exciting(model: Any, images: Any, *, count: int = 9, space: str = "max", batch: int = 32) -> Exemplars:
    """The real images that excite each class or unit most: what it met, beside what it would like best.

    For unit u the images with the largest s_u(x) = max over places of a_u (or the sum over them), found in one pass
    over the data; only the best are kept, so the data may be larger than memory.

    Args:
        model: any callable `x -> outputs`; `jc.tap(model, layer)` for the units of a layer.
        images: (n, h, w, c) floating point, as the model takes them; anything that can be sliced.
        count: how many; fewer where there are fewer images.
        space: of outputs with space, "max" or "sum" over it.
        batch: images at once.

    Returns:
        For each unit the images, the most exciting first; of equals the first.

    Raises:
        TypeError: images are no floating point numbers.
        ValueError: images of a wrong shape or with NaN, or an option that makes no sense.

    Example:
        >>> found = most_exciting(lambda x: x.mean((1, 2)), np.array([0.1, 0.9, 0.5]).reshape(3, 1, 1, 1), count=2)
        >>> found.indices.tolist()
        [[1, 2]]

    Zeiler and Fergus 2014 (the nine strongest). When it misleads: what the nine have in common need not be what
    excites the unit: a bird on a branch may be there for the branch.
    """
    check_count(count, "count")
    check_count(batch, "batch")
    if space not in ("max", "sum"):
        raise ValueError(f"space is 'max' or 'sum'; got {space!r}")
    check_batch(images)
    arrays, static = split(model)
    n = images.shape[0]
    size = min(batch, n)
    best: Any = None
    shape: Any = (1, 1)
    for begin in range(0, n, size):
        part = np.asarray(images[begin : begin + size])
        padded = np.pad(part, ((0, size - len(part)), (0, 0), (0, 0), (0, 0)))
        values, flat, shape = (np.asarray(found) for found in _excited(static, space, arrays, padded))
        values, flat = values[: len(part)], flat[: len(part)]
        if not np.isfinite(values).all():
            where = begin + int(np.argmin(np.isfinite(values).all(-1)))
            raise ValueError(f"image {where} has, or makes the model give, NaN or infinite values")
        numbers = np.broadcast_to(np.arange(begin, begin + len(part))[:, None], values.shape)
        new = [values, numbers, flat]
        pool = new if best is None else [np.concatenate(pair) for pair in zip(best, new, strict=True)]
        order = np.argsort(-pool[0], axis=0, kind="stable")[:count]
        best = [np.take_along_axis(member, order, 0) for member in pool]
    values, numbers, flat = (member.T for member in best)
    height, width = (int(side) for side in shape)
    places = np.stack([flat // width, flat % width], -1)
    return Exemplars(numbers, values, places, (height, width))


@partial(compiled, static_argnums=(0, 1))
def _excited(static: Static, space: str, arrays: list[Any], x: Array) -> tuple[Array, Array, Array]:
    outputs = accelerate(lambda arrays, x: static.join(arrays)(x))(arrays, x)
    n, *sides, units = outputs.shape
    shape = jnp.array(sides if len(sides) == 2 else (1, int(np.prod(sides))))
    flat = outputs.reshape(n, -1, units)
    values = jnp.max(flat, 1) if space == "max" else per_output(outputs)
    return values, jnp.argmax(flat, 1), shape


@dataclasses.dataclass(frozen=True)
class Direction:
    """A weighted sum of units as a target. Made by `direction`."""

    weights: tuple[tuple[int, float], ...]

    def __call__(self, outputs: Array) -> Array:
        values = per_output(outputs)
        units = [unit for unit, _ in self.weights]
        if not 0 <= min(units) <= max(units) < values.shape[-1]:
            wrong = next(unit for unit in units if not 0 <= unit < values.shape[-1])
            raise ValueError(f"a direction asks for unit {wrong}; there are {values.shape[-1]}, from 0 up")
        return values[:, jnp.array(units)] @ jnp.array([weight for _, weight in self.weights], values.dtype)


def direction(weights: Any) -> Direction:
    """A target that is several units at once, each with a weight: a sum of units, or a direction between them.

    s(x) = Σ_u w_u · a_u(x), with a the outputs (summed over space).

    Args:
        weights: {unit: weight}, or a vector (k,) with a weight for each unit.

    Returns:
        A target for `maximize` and for every method of attribution.

    Raises:
        ValueError: no weights, no vector, NaN; at the call of a method, a unit out of range.

    Example:
        >>> float(direction({0: 1, 2: -1})(jnp.array([[5.0, 1.0, 3.0]]))[0])
        2.0
    """
    if isinstance(weights, Mapping):
        pairs = [(int(unit), float(weight)) for unit, weight in weights.items()]
    else:
        vector = np.asarray(weights)
        if vector.ndim != 1:
            raise ValueError(f"a direction is a vector with a weight for each unit; got shape {vector.shape}")
        pairs = [(unit, float(weight)) for unit, weight in enumerate(vector) if weight != 0]
    if not pairs or not np.isfinite([weight for _, weight in pairs]).all():
        raise ValueError("a direction needs at least one unit with a weight other than 0, and no NaN")
    return Direction(tuple(pairs))
