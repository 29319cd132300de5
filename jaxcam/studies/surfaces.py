"""Loss landscapes: what the loss is around a point of parameter space, along one direction or over two."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxcam.attribution.asking import check_count
from jaxcam.attribution.targets import select_output
from jaxcam.files import write_atomically
from jaxcam.program.compiled import compiled
from jaxcam.program.rewrite import accelerate
from jaxcam.program.sharing import divided, mesh_for, parts, spread
from jaxcam.program.trace import Static, split
from jaxcam.studies.directions import check_directions, random_directions

PER_FILE = 64  # points between two writes of what is resumed from


@dataclasses.dataclass(frozen=True, eq=False)
class Landscape:
    """The loss at the points of a line or of a grid. Made by `landscape`, `interpolation` and `along`.

    Attributes:
        axes: for each direction the steps along it, (p,).
        values: the loss there, (p,) or (p, p): the first direction goes with the first axis; as it is, also where it is
            infinite or NaN.
        center: the loss with no step at all.
        directions: pytrees like the parameters.
    """

    axes: tuple[Float[np.ndarray, " p"], ...]
    values: Float[np.ndarray, "*points"]
    center: float
    directions: tuple[Any, ...]

    @property
    def lowest(self) -> tuple[float, ...]:
        """Where on the grid the loss is least."""
        place = np.unravel_index(np.nanargmin(self.values), self.values.shape)
        return tuple(float(axis[index]) for axis, index in zip(self.axes, place, strict=True))


def landscape(
    loss: Any,
    parameters: Any,
    directions: Sequence[Any] | None = None,
    *,
    key: Any = None,
    dimensions: int = 2,
    span: Any = (-1.0, 1.0),
    points: int = 51,
    normalize: str = "filter",
    out: str | os.PathLike[str] | None = None,
    chunk: int | None = None,
    progress: Any = None,
) -> Landscape:
    """The loss around a point of parameter space, over one or two directions.

    L(α, β) = loss(θ + α·d₁ + β·d₂). Directions not given are random and filter-normalized, see `random_directions`:
    biases, normalizations and their statistics stay what they are. So batch norm works with the running statistics of
    the trained network, as in Li et al.; to use those of each batch, write a loss that does (Garipov et al. 2018).

    Args:
        loss: parameters -> a number, pure; `classification_loss(images, labels)` for a model.
        parameters: θ, any pytree of arrays: a dict, or a model, which is one.
        directions: one or two pytrees like the parameters, taken as they are; None for random ones.
        key: of random directions.
        dimensions: how many random directions, 1 or 2.
        span: the least and the greatest step; for two directions also one pair for each.
        points: steps along each direction; an odd number has the center among them, where the span is symmetric.
        normalize: "filter", "layer" or "none", of random directions.
        out: an .npz file that is written as the work goes on, and gone on with if it is there.
        chunk: points at once, by vmap; None for one on each device that shares the work (`jc.devices`). More pays on
            accelerators, not on CPUs.
        progress: called with (points done, points in all) after each chunk.

    Returns:
        The grid, its axes, the directions.

    Raises:
        TypeError: no pytree of arrays, or random directions without a key.
        ValueError: directions of other shapes, a loss that is no single number or not finite at the center, or a file
            that holds another landscape.

    Example:
        >>> bowl = lambda w: jnp.sum((w - 1) ** 2)
        >>> found = landscape(bowl, jnp.ones((2, 3)), key=jax.random.key(0), points=5)
        >>> found.values.shape, found.lowest
        ((5, 5), (0.0, 0.0))

    Li et al., "Visualizing the Loss Landscape of Neural Nets", 2018; Goodfellow et al. 2015 (one dimension). When it
    misleads: two directions of millions; walls and valleys between them are not seen, and a network is found convex
    more often than it is. Without normalization, flat and sharp say how large the weights are.
    """
    arrays, _ = _parameters(parameters)
    if directions is None:
        directions = random_directions(parameters, key=key, count=dimensions, normalize=normalize)
    if len(directions) not in (1, 2):
        raise ValueError(f"a landscape has one direction or two; got {len(directions)}")
    check_directions(parameters, directions)
    axes = _axes(span, check_count(points, "points", 2), len(directions))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    function, static = split(loss)
    form = split(parameters)[1]
    flat = [split(direction)[0] for direction in directions]
    mesh = mesh_for(1, (function, arrays, flat))
    evaluate = partial(_values, static, form, mesh, function, arrays, flat)
    center = _center(evaluate, len(axes), loss)
    done = _read(out, grid, arrays, flat, center) if out is not None else np.empty(0)
    values = np.full(len(grid), np.nan)
    values[: len(done)] = done
    size = min(parts(mesh) if chunk is None else check_count(chunk, "chunk"), len(grid))
    written = len(done)
    for begin in range(len(done), len(grid), size):
        end = min(begin + size, len(grid))
        part = np.asarray(evaluate(grid[np.minimum(np.arange(begin, begin + size), len(grid) - 1)]))
        values[begin:end] = part[: end - begin]
        if out is not None and (end - written >= PER_FILE or end == len(grid)):
            _write(Path(out), grid, arrays, flat, center, values[:end])
            written = end
        if progress is not None:
            progress(end, len(grid))
    return Landscape(axes, values.reshape([len(axis) for axis in axes]), center, tuple(directions))


def interpolation(
    loss: Any, start: Any, end: Any, *, span: Any = (0.0, 1.0), points: int = 51, **options: Any
) -> Landscape:
    """The loss on the straight line from one checkpoint to another, and beyond if asked.

    L(α) = loss((1 − α)·θ + α·θ'). All floating-point arrays take part, biases and statistics too: the ends are the
    checkpoints themselves. Beyond them, running variances may become negative.

    Args:
        loss: parameters -> a number.
        start: θ, at 0: any pytree of arrays.
        end: θ', at 1: likewise, in the same shapes.
        span: the least and the greatest α.
        points: steps from one to the other.
        **options: of `landscape`: out, chunk, progress.

    Returns:
        The line; its center is θ.

    Raises:
        ValueError: checkpoints of different shapes, and what `landscape` raises.

    Example:
        >>> line = interpolation(lambda w: jnp.sum((w - 1) ** 2), jnp.zeros(1), 2 * jnp.ones(1), points=3)
        >>> line.values.tolist()
        [1.0, 0.0, 1.0]

    Goodfellow et al., "Qualitatively Characterizing Neural Network Optimization Problems", 2015. When it misleads: a
    wall on the line is no wall around it; two networks that differ by the order of their units are far apart.
    """
    check_directions(start, [end], "the other checkpoint")
    arrays, form = _parameters(start)
    between = [_difference(b, a) for a, b in zip(arrays, split(end)[0], strict=True)]
    return landscape(loss, start, [form.join(between)], span=span, points=points, **options)


def classification_loss(images: Any, labels: Any, *, batch: int = 100) -> ClassificationLoss:
    """The mean cross-entropy of a classifier on some images, as a function of the model: a loss for `landscape`.

    loss(model) = −1/n Σ log softmax(model(xᵢ))[yᵢ]

    Args:
        images: (n, h, w, c), as the model takes them.
        labels: (n,) whole numbers.
        batch: images at once.

    Returns:
        A callable pytree `model -> loss`.

    Raises:
        ValueError: not one label for each image.

    Example:
        >>> loss = classification_loss(jnp.ones((3, 2, 2, 1)), jnp.array([0, 1, 1]), batch=2)
        >>> round(float(loss(jax.tree_util.Partial(lambda w, x: x.mean((1, 2)) @ w, jnp.zeros((1, 2))))), 4)
        0.6931
    """
    x, y = np.asarray(images), np.asarray(labels)
    if x.ndim != 4 or not len(x) or y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"images (n, h, w, c) need labels (n,), whole numbers; got {x.shape} and {y.shape} {y.dtype}")
    size = min(check_count(batch, "batch"), len(x))
    pad = -len(x) % size
    x = np.pad(x, ((0, pad), (0, 0), (0, 0), (0, 0)))
    shares = np.pad(np.full(len(y), 1 / len(y), x.dtype), (0, pad))
    parts = (x.reshape(-1, size, *x.shape[1:]), np.pad(y, (0, pad)).reshape(-1, size), shares.reshape(-1, size))
    return ClassificationLoss(*map(jnp.asarray, parts))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ClassificationLoss:
    """model ↦ its mean cross-entropy. Made by `classification_loss`.

    Attributes:
        images: in batches (b, n, h, w, c), the last filled up with black images.
        labels: (b, n).
        shares: how much each image counts (b, n), in all 1.
    """

    images: Float[Array, "b n h w c"]
    labels: Any
    shares: Float[Array, "b n"]

    def __call__(self, model: Any) -> Float[Array, ""]:
        arrays, form = split(model)

        def add(total: Array, part: Any) -> tuple[Array, None]:
            x, y, share = part
            logits = accelerate(lambda arrays, x: form.join(arrays)(x))(arrays, x)
            own = select_output(jax.nn.log_softmax(logits), y)
            return total - jnp.sum(share * own), None

        return jax.lax.scan(add, jnp.zeros((), self.images.dtype), (self.images, self.labels, self.shares))[0]


@partial(compiled, static_argnums=(0, 1, 2))
def _values(
    loss: Static,
    form: Static,
    mesh: Mesh | None,
    function: list[Any],
    arrays: list[Any],
    directions: list[list[Any]],
    steps: Array,
) -> Array:
    """The loss at each of some points (n, d), all in one vmap."""

    def at(step: Array) -> Array:
        moved = [
            array + sum(step[i].astype(array.dtype) * way[place] for i, way in enumerate(directions))
            if jnp.issubdtype(array.dtype, jnp.floating)
            else array
            for place, array in enumerate(arrays)
        ]
        return loss.join(function)(form.join(moved))

    with divided(mesh):
        return at(steps[0])[None] if len(steps) == 1 else jax.vmap(at)(spread(steps))


def _parameters(parameters: Any) -> tuple[list[Any], Static]:
    arrays, form = split(parameters)
    if not any(jnp.issubdtype(array.dtype, jnp.floating) for array in arrays):
        raise TypeError(f"parameters are a pytree of floating-point arrays; {type(parameters).__name__} holds none")
    return arrays, form


def _difference(end: Any, start: Any) -> Any:
    if not jnp.issubdtype(start.dtype, jnp.floating):
        return start
    return jnp.asarray(end) - jnp.asarray(start)


def _axes(span: Any, points: int, count: int) -> tuple[np.ndarray, ...]:
    """The steps along each direction."""
    spans = np.asarray(span, np.float64)
    spans = np.broadcast_to(spans, (count, 2)) if spans.shape == (2,) else spans
    if spans.shape != (count, 2) or not np.isfinite(spans).all() or not (spans[:, 0] < spans[:, 1]).all():
        raise ValueError(f"span is (least, greatest), or that for each of the {count} directions; got {span!r}")
    axes = [np.linspace(low, high, points) for low, high in spans]
    # The very center, where a rounding error stands in for it.
    return tuple(np.where(np.abs(axis) < 1e-12 * np.ptp(axis), 0.0, axis) for axis in axes)


def _center(evaluate: Any, count: int, loss: Any) -> float:
    shape = jax.eval_shape(evaluate, jax.ShapeDtypeStruct((1, count), jnp.result_type(float)))
    if getattr(shape, "shape", None) != (1,):
        got = getattr(shape, "shape", (None,))[1:]
        raise ValueError(f"a loss is one number; {getattr(loss, '__name__', type(loss).__name__)} gives shape {got}")
    value = float(np.asarray(evaluate(np.zeros((1, count))))[0])
    if not np.isfinite(value):
        raise ValueError(f"the loss is {value} at the center; look at the parameters and the data")
    return value


def _fingerprint(grid: np.ndarray, arrays: Sequence[Any], directions: Sequence[Sequence[Any]]) -> str:
    digest = hashlib.sha256(grid.tobytes())
    for array in [*arrays, *(array for direction in directions for array in direction)]:
        if jnp.issubdtype(array.dtype, jnp.floating):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _write(path: Path, grid: Any, arrays: Any, directions: Any, center: float, values: np.ndarray) -> None:
    of = np.array(_fingerprint(grid, arrays, directions))
    write_atomically(path, lambda file: np.savez(file, of=of, center=np.array(center), values=values))


def _read(path: Any, grid: Any, arrays: Any, directions: Any, center: float) -> np.ndarray:
    """The values that are there already."""
    path = Path(path)
    if not path.exists():
        return np.empty(0)
    try:
        with np.load(path) as found:
            same = str(found["of"]) == _fingerprint(grid, arrays, directions)
            same = same and bool(np.isclose(float(found["center"]), center, rtol=1e-5))
            values: np.ndarray = found["values"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or no landscape: remove it, or give another out") from error
    if not same:
        raise ValueError(f"{path} holds another landscape: of other parameters, directions, points or data")
    return values
