"""The linear function that a piecewise linear network is around an image, and how far around."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxcam.attribution.asking import check_chunk
from jaxcam.attribution.budget import mapped
from jaxcam.attribution.targets import per_output
from jaxcam.program.compiled import compiled
from jaxcam.program.memory import total_bytes
from jaxcam.program.regions import Regions, partition
from jaxcam.program.trace import Static
from jaxcam.studies.answers import batches
from jaxcam.studies.held import at_once, checked, identifiers, no_switch, precise, whole

ROWS, LARGEST = 64, 1 << 24
"""Half-spaces computed at once, and what numbers they may take together."""


@dataclasses.dataclass(frozen=True, eq=False)
class HalfSpaces:
    """Some of the inequalities A·x + c ≥ 0 that bound a polytope.

    Attributes:
        layer: the layer whose switches they keep.
        A: (m, h, w, c).
        c: (m,).
    """

    layer: str
    A: Float[np.ndarray, "m h w c"]
    c: Float[np.ndarray, " m"]


@dataclasses.dataclass(frozen=True, eq=False)
class LinearPieces:
    """For each image the linear function that the network is in its polytope. Made by `linear_piece`.

    Attributes:
        W: weights (n, k, h, w, c): f(x') = W·x' + b for every x' in the polytope.
        b: biases (n, k), computed as the value at 0 of the function continued, not from W.
        polytope: an identifier for each image, (n,) of text; equal ones share W and b.
        values: f(x), (n, k), as the network itself computes it.
        outputs: which of the network's outputs the k are.
    """

    W: Float[Array, "n k h w c"]
    b: Float[Array, "n k"]
    polytope: Shaped[np.ndarray, " n"]
    values: Float[Array, "n k"]
    outputs: tuple[int, ...]
    _model: Any
    _x: Array

    @property
    def error(self) -> Float[np.ndarray, " n"]:
        """max |W·x + b − f(x)| / max |f(x)| of each image, added up in float64: what rounding leaves."""
        W, x = np.asarray(self.W, np.float64), np.asarray(self._x, np.float64)
        found = np.einsum("nkhwc,nhwc->nk", W, x) + np.asarray(self.b, np.float64)
        values = np.asarray(self.values, np.float64)
        return np.abs(found - values).max(1) / np.maximum(np.abs(values).max(1), np.finfo(np.float64).tiny)

    def constraints(self, image: int = 0, layer: str | None = None) -> Iterator[HalfSpaces]:
        """The half-spaces whose intersection is an image's polytope, a few at a time.

        There are as many as the network has ReLUs, and more for max pools; most are redundant. Those that no image can
        break (a place that wins against itself, against padding, or against what is constant) are left out.

        Args:
            image: which.
            layer: only those of this layer's switches.

        Yields:
            At most 64 at a time, in the order of the layers.

        Raises:
            ValueError: no such layer has switches.
        """
        static, arrays, regions = checked(self._model, self._x[image : image + 1])
        names = list(dict.fromkeys(switch.layer for switch in regions.switches))
        if layer is not None and layer not in names:
            raise ValueError(no_switch(layer, names))
        if regions.switches:
            with precise():
                yield from _half_spaces(static, arrays, regions, self._x[image], layer)


def linear_piece(model: Any, x: Any, *, outputs: Any = None, chunk: int | None = None) -> LinearPieces:
    """The exact linear function W·x + b that a piecewise linear network is around each image.

    A network of convolutions, dense layers, ReLUs (leaky ones, too), max and average pools, batch norm in inference
    mode, sums and concatenations is f(x') = W·x' + b for all x' for which the same ReLUs are on and the same places of
    each max pool are the largest: a polytope around x. The model is replayed with these held; W is the derivative of
    that, b its value at x' = 0.

    Args:
        model: any callable `x -> outputs` of such operations; a layer, by `jc.tap`, is one as well.
        x: images (n, h, w, c), float, as the model takes them.
        outputs: which outputs, one or several; None for all k. W takes n·k·h·w·c numbers.
        chunk: how many images, or rows of W, at once; None for what fits. The answer does not depend on it.

    Returns:
        `.W` (n, k, h, w, c), `.b` (n, k), `.polytope` (n identifiers), `.values` f(x) (n, k), `.error` (n,), and
        `.constraints(image)`, the half-spaces A·x + c ≥ 0.

    Raises:
        TypeError: no model, no images.
        ValueError: images of a wrong shape or with NaN; a model that mixes the images of a batch, or is not piecewise
            linear (sigmoid, softmax, x·x), with the equation and the layer before it; outputs out of range; no room.

    Example:
        >>> net = lambda x: jax.nn.relu(x.reshape(len(x), -1) @ jnp.array([[1.0], [-2.0]]) + 3)
        >>> found = linear_piece(net, jnp.array([[[[1.0], [0.5]]]]))
        >>> found.W.ravel().tolist(), found.b.tolist()
        ([1.0, -2.0], [[3.0]])
        >>> [(part.A.ravel().tolist(), part.c.tolist()) for part in found.constraints()]
        [([1.0, -2.0], [3.0])]

    Chu et al., "Exact and Consistent Interpretation for Piecewise Linear Neural Networks", 2018 (OpenBox). Differs
    from: found from the program's equations, so convolutions, pools and shortcuts need no matrices. When it misleads:
    polytopes are small; W says what the network does in one, not what it would do without an object.
    """
    check_chunk(chunk)
    static, arrays, regions = checked(model, x)
    program = regions.anatomy.program
    k = _number_of_outputs(model, x)
    chosen = _chosen(outputs, k)
    size = (
        program.avals[regions.anatomy.x].size * len(x) * len(chosen) * program.avals[regions.anatomy.x].dtype.itemsize
    )
    if size > total_bytes() / 2:
        raise ValueError(
            f"W of {len(x)} images and {len(chosen)} outputs takes {size / 1e9:.1f} GB, and there are "
            f"{total_bytes() / 1e9:.1f}; ask about fewer outputs, outputs=[…], or fewer images"
        )
    images = max(1, at_once(regions, chunk) // len(chosen))
    rows = jnp.asarray(chosen)
    parts, names = [], []
    with precise():
        for batch, count in batches(x, images):
            found, states = _pieces(static, min(len(chosen), at_once(regions, chunk)), arrays, batch, rows)
            parts.append([a[:count] for a in found])
            names += whole(identifiers(regions, states, count), count)
    W, b, values = (jnp.concatenate(column) for column in zip(*parts, strict=True))
    return LinearPieces(W, b, np.asarray(names), values, chosen, model, jnp.asarray(x))


@dataclasses.dataclass(frozen=True, eq=False)
class Reach:
    """How far a line stays in the polytope of an image, and what ends it. Made by `region_size`.

    Attributes:
        distance: (n,), in lengths of the direction; infinite where the line never leaves.
        layer: (n,) of text: the layer one of whose switches changes there; empty where none does.
    """

    distance: Float[np.ndarray, " n"]
    layer: Shaped[np.ndarray, " n"]


def region_size(model: Any, x: Any, direction: Any, *, chunk: int | None = None) -> Reach:
    """How far one can go from each image in a direction before any switch of the network changes: exact.

    t = min over the polytope's half-spaces Aᵢ·x + cᵢ ≥ 0 with Aᵢ·d < 0 of (Aᵢ·x + cᵢ) / (−Aᵢ·d): from one derivative
    along d, without writing down any Aᵢ.

    Args:
        model: as for `linear_piece`.
        x: images (n, h, w, c), float.
        direction: d, like x or like one image; give it length 1 to have distances in units of x.
        chunk: how many images at once; None for what fits.

    Returns:
        `.distance` (n,) and `.layer` (n,): where the first switch changes. 0 for an image that lies on a facet, as
        images with constant parts do where a max pool sees only these.

    Raises:
        TypeError: no model, no images.
        ValueError: what `linear_piece` raises; a direction of another shape, or NaN.

    Example:
        >>> net = lambda x: jax.nn.relu(x.reshape(len(x), -1) @ jnp.array([[1.0], [-2.0]]) + 3)
        >>> found = region_size(net, jnp.ones((1, 1, 2, 1)), jnp.array([[[0.0], [1.0]]]))
        >>> found.distance.tolist(), found.layer.tolist()
        ([1.0], ['dense_0'])
    """
    check_chunk(chunk)
    static, arrays, regions = checked(model, x)
    way = np.asarray(direction, np.asarray(x[:1]).dtype)
    if way.shape not in {tuple(x.shape), tuple(x.shape[1:])} or not np.isfinite(way).all():
        raise ValueError(
            f"a direction is finite numbers like x {tuple(x.shape)} or like one image {tuple(x.shape[1:])}; "
            f"got shape {way.shape}"
        )
    return reach(static, arrays, regions, x, np.broadcast_to(way, x.shape), chunk)


def reach(static: Static, arrays: list[Any], regions: Regions, x: Any, way: Any, chunk: int | None) -> Reach:
    """`region_size` of what is checked already."""
    if not regions.switches:
        return Reach(np.full(len(x), np.inf), np.full(len(x), ""))
    size = at_once(regions, chunk)
    with precise():
        parts = [
            np.asarray(_crossings(static, arrays, batch, ahead))[:count]
            for (batch, count), (ahead, _) in zip(batches(x, size), batches(way, size), strict=True)
        ]
    crossings = np.concatenate(parts)
    names = np.array([switch.layer for switch in regions.switches])
    distance = crossings.min(1)
    return Reach(distance, np.where(np.isfinite(distance), names[crossings.argmin(1)], ""))


@functools.partial(compiled, static_argnums=(0, 1))
def _pieces(static: Static, size: int, arrays: list[Any], x: Array, rows: Array) -> tuple[list[Array], list[Array]]:
    """W, b and f(x), `size` rows of W at a time; and the states of all switches."""
    model = static.join(arrays)
    regions = partition(model, x[0])

    def of_image(image: Array) -> tuple[Array, Array, list[Array]]:
        states = regions.states(image)
        held = regions.held(states)
        at_zero, pull_back = jax.vjp(lambda z: per_output(held(z)[0])[0], jnp.zeros_like(image))
        hot = jax.nn.one_hot(rows, at_zero.shape[0], dtype=at_zero.dtype)
        return mapped(lambda row: pull_back(row)[0], hot, size), at_zero[rows], states

    W, b, states = jax.vmap(of_image)(x)
    return [W, b, per_output(model(x))[:, rows]], states


@functools.partial(compiled, static_argnums=0)
def _crossings(static: Static, arrays: list[Any], x: Array, way: Array) -> Array:
    """For each image and switch, how far along the way the first of its places changes (n, s)."""
    regions = partition(static.join(arrays), x[0])
    every = range(len(regions.switches))

    def of_image(image: Array, ahead: Array) -> Array:
        held = regions.held(regions.states(image))
        margins, slopes = jax.jvp(lambda z: held(z, every)[1], (image,), (ahead,))
        times = [
            jnp.where(slope < 0, jnp.maximum(margin, 0) / jnp.where(slope < 0, -slope, 1), jnp.inf).min(initial=jnp.inf)
            for margin, slope in zip(margins, slopes, strict=True)
        ]
        return jnp.stack(times)

    return jax.vmap(of_image)(x, way)


def _half_spaces(
    static: Static, arrays: list[Any], regions: Regions, image: Array, layer: str | None
) -> Iterator[HalfSpaces]:
    chosen = tuple(i for i, switch in enumerate(regions.switches) if layer in (None, switch.layer))
    at_zero = _margins_at_zero(static, chosen, arrays, image)
    offsets = np.concatenate([np.asarray(part) for part in at_zero])
    layers = np.repeat([regions.switches[i].layer for i in chosen], [len(part) for part in at_zero])
    rows = int(np.clip(LARGEST // len(offsets), 1, ROWS))
    bounded = np.flatnonzero(np.isfinite(offsets))
    for name in dict.fromkeys(layers.tolist()):
        of_layer = bounded[layers[bounded] == name]
        for start in range(0, len(of_layer), rows):
            some = of_layer[start : start + rows]
            A = np.asarray(_normals(static, chosen, arrays, image, jnp.asarray(np.resize(some, rows))))[: len(some)]
            real = np.abs(A).max((1, 2, 3)) > 0
            if real.any():
                yield HalfSpaces(name, A[real], offsets[some[real]])


def _margins(regions: Regions, chosen: tuple[int, ...], image: Array) -> Any:
    held = regions.held(regions.states(image))
    return lambda z: [margin.ravel() for margin in held(z, chosen)[1]]


@functools.partial(compiled, static_argnums=(0, 1))
def _margins_at_zero(static: Static, chosen: tuple[int, ...], arrays: list[Any], image: Array) -> list[Array]:
    return _margins(partition(static.join(arrays), image), chosen, image)(jnp.zeros_like(image))


@functools.partial(compiled, static_argnums=(0, 1))
def _normals(static: Static, chosen: tuple[int, ...], arrays: list[Any], image: Array, places: Array) -> Array:
    """The derivatives of some of the margins of some switches, numbered through (m, h, w, c)."""
    margins = _margins(partition(static.join(arrays), image), chosen, image)
    at_zero, pull_back = jax.vjp(lambda z: jnp.concatenate(margins(z)), jnp.zeros_like(image))
    return jax.vmap(lambda i: pull_back(jnp.zeros_like(at_zero).at[i].set(1))[0])(places)


def _number_of_outputs(model: Any, x: Any) -> int:
    outputs = jax.eval_shape(model, jax.ShapeDtypeStruct(x.shape, jnp.asarray(x[:1]).dtype))
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) < 2 or shape[0] != len(x):
        got = type(outputs).__name__ if shape is None else f"shape {shape}"
        raise ValueError(f"a linear piece is one of outputs (n, k); this model gives {got}")
    return int(shape[-1])


def _chosen(outputs: Any, k: int) -> tuple[int, ...]:
    """The outputs asked for, all in range."""
    if outputs is None:
        return tuple(range(k))
    numbers = np.atleast_1d(np.asarray(outputs))
    if numbers.ndim != 1 or not numbers.size or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"outputs are whole numbers, one or several; got {outputs!r}")
    if ((numbers < 0) | (numbers >= k)).any():
        wrong = numbers[(numbers < 0) | (numbers >= k)][0]
        raise ValueError(f"output {wrong} is out of range: the model has {k} outputs, 0 to {k - 1}")
    return tuple(int(i) for i in numbers)
