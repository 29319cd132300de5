"""Which way to go in parameter space: random and normalized, or where a training went."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import check_count, check_key
from jaxcam.program.trace import split

NORMALIZATIONS = ("filter", "layer", "none")
SHOWN = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectory:
    """Where a training went, in the plane that holds most of it. Made by `trajectory`.

    Attributes:
        directions: two pytrees like the parameters, of length 1 and at right angles.
        steps: of each checkpoint along them, from the last one (t, 2).
        shares: of the variance of the checkpoints that each direction explains (2,).
    """

    directions: tuple[Any, Any]
    steps: Float[np.ndarray, "t 2"]
    shares: Float[np.ndarray, " 2"]

    def span(self, margin: float = 0.25) -> tuple[tuple[float, float], tuple[float, float]]:
        """For each direction the least and greatest step, and so much of their distance more: for `landscape`."""
        low, high = self.steps.min(0), self.steps.max(0)
        wide = np.maximum(high - low, 1e-6) * margin
        first, second = zip((low - wide).tolist(), (high + wide).tolist(), strict=True)
        return first, second


def random_directions(parameters: Any, *, key: Any, count: int = 2, normalize: str = "filter") -> list[Any]:
    """Random directions in parameter space, as long as the weights they belong to.

    d ← d/‖d‖·‖θ‖ for each filter (the weights into one unit, the last axis), with d normal. Arrays of one axis get no
    step: biases, scales and shifts of normalizations, and running statistics.

    Args:
        parameters: θ, any pytree of arrays whose units are on the last axis, as Flax has them.
        key: of the draws.
        count: how many.
        normalize: "filter"; "layer", with one norm for a whole array; or "none".

    Returns:
        Pytrees like the parameters.

    Raises:
        TypeError: no key.
        ValueError: another normalization, or nothing to step along.

    Example:
        >>> (way,) = random_directions({"w": jnp.ones((3, 2)), "b": jnp.ones(2)}, key=jax.random.key(0), count=1)
        >>> np.allclose(jnp.linalg.norm(way["w"], axis=0), 3**0.5), way["b"].tolist()
        (True, [0.0, 0.0])

    Li et al., "Visualizing the Loss Landscape of Neural Nets", 2018.
    """
    check_key(key)
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize is {', '.join(map(repr, NORMALIZATIONS))}; got {normalize!r}")
    arrays, form = split(parameters)
    if not any(map(is_weight, arrays)):
        raise ValueError("random directions step along arrays of two axes or more; the parameters have none")
    found = []
    for number in range(check_count(count, "count")):
        own = jax.random.fold_in(key, number)
        found.append(form.join([_draw(jax.random.fold_in(own, i), a, normalize) for i, a in enumerate(arrays)]))
    return found


def trajectory(checkpoints: Sequence[Any]) -> Trajectory:
    """The plane in which a training went: the first two principal components of its checkpoints.

    PCA of the rows θ_t − θ_T, over the weights (arrays of two axes or more); the last checkpoint is the center. The
    loss over that plane is `landscape(loss, checkpoints[-1], found.directions, span=found.span())`; its biases and
    statistics are those of the last checkpoint.

    Args:
        checkpoints: at least three pytrees of arrays in the same shapes, in the order of the training.

    Returns:
        Two directions, where each checkpoint is along them, and how much of it all that is.

    Raises:
        ValueError: fewer than three, checkpoints of different shapes, or a training that stood still.

    Example:
        >>> path = [{"w": jnp.array([[a, 0.0]])} for a in (3.0, 1.0, 0.0)]
        >>> found = trajectory(path)
        >>> abs(found.steps[:, 0]).tolist(), round(float(found.shares[0]), 3)
        ([3.0, 1.0, 0.0], 1.0)

    Li et al. 2018, section 7. When it misleads: a random walk in many dimensions has most of its variance in two
    components as well (Antognini and Sohl-Dickstein 2018): a smooth curve proves nothing.
    """
    if len(checkpoints) < 3:
        raise ValueError(f"a trajectory needs at least 3 checkpoints; got {len(checkpoints)}")
    check_directions(checkpoints[-1], checkpoints[:-1], "checkpoint")
    last, form = split(checkpoints[-1])
    rows = np.stack(
        [
            np.concatenate(
                [
                    np.ravel(np.asarray(a, np.float64) - b)
                    for a, b in zip(split(c)[0], last, strict=True)
                    if is_weight(b)
                ]
            )
            for c in checkpoints
        ]
    )
    centered = rows - rows.mean(0)
    # As many numbers as weights in each row, few rows: the small Gram matrix has the same components.
    variances, mixes = np.linalg.eigh(centered @ centered.T)
    if not variances[-1] > 0:
        raise ValueError("the checkpoints are all the same; there is no trajectory")
    ways: list[np.ndarray] = []
    for mix in mixes.T[:-3:-1]:
        way = mix @ centered
        for other in ways:
            way = way - (way @ other) * other
        length = np.linalg.norm(way)
        ways.append(way / length if length > 1e-9 * np.sqrt(variances[-1]) else _any_other(ways, len(way)))
    shares = np.maximum(variances[:-3:-1], 0) / np.maximum(variances, 0).sum()
    first, second = (form.join(_unflattened(way, last)) for way in ways)
    return Trajectory((first, second), rows @ np.stack(ways, 1), shares)


def check_directions(parameters: Any, others: Sequence[Any], what: str = "direction") -> None:
    """Raises unless all are pytrees like the parameters; one line names what differs.

    Raises:
        ValueError: another structure, or arrays of other shapes.
    """
    shapes = _shapes(parameters)
    for number, other in enumerate(others):
        found = _shapes(other)
        if found == shapes:
            continue
        wrong = [
            f"{name} {shapes.get(name, 'missing')} and {found.get(name, 'missing')}"
            for name in dict.fromkeys([*shapes, *found])
            if shapes.get(name) != found.get(name)
        ]
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        label = f"{what} {number}" if len(others) > 1 else what
        raise ValueError(f"{label} has other shapes than the parameters: {'; '.join(wrong[:SHOWN])}{more}")


def is_weight(array: Any) -> bool:
    """Whether random directions step along an array: floating point, of two axes or more."""
    return array.ndim >= 2 and jnp.issubdtype(array.dtype, jnp.floating)


def _shapes(parameters: Any) -> dict[str, tuple[int, ...]]:
    found = jax.tree_util.tree_flatten_with_path(parameters)[0]
    return {
        ".".join(map(_step, path)).removesuffix(".value") or "the array": tuple(leaf.shape)  # a Flax variable's value
        for path, leaf in found
        if isinstance(leaf, jax.Array | np.ndarray)
    }


def _step(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))


def _draw(key: Array, array: Any, normalize: str) -> Any:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    array = jnp.asarray(array)
    if not is_weight(array):
        return jnp.zeros_like(array)
    way = jax.random.normal(key, array.shape, array.dtype)
    if normalize == "none":
        return way
    axes = tuple(range(array.ndim - (normalize == "filter")))
    own, wanted = (jnp.sqrt(jnp.sum(jnp.asarray(a) ** 2, axes, keepdims=True)) for a in (way, array))
    return way * wanted / own


def _any_other(ways: Sequence[np.ndarray], length: int) -> np.ndarray:
    """A direction at right angles, where a straight training leaves the second one open."""
    way = np.random.default_rng(0).normal(size=length)
    for other in ways:
        way = way - (way @ other) * other
    size = np.linalg.norm(way)
    return way / size if size > 1e-9 else np.zeros(length)


def _unflattened(way: np.ndarray, like: Sequence[Any]) -> list[Any]:
    found, place = [], 0
    for array in like:
        if is_weight(array):
            found.append(jnp.asarray(way[place : place + array.size].reshape(array.shape), array.dtype))
            place += array.size
        else:
            floats = jnp.issubdtype(array.dtype, jnp.floating)
            found.append(jnp.zeros(array.shape, array.dtype) if floats else array)
    return found
