"""LIME, SHAP and the exact linear piece asked the same question: what changes if this segment goes?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxcam.attribution import kernel_shap, lime
from jaxcam.attribution.asking import Question, ask, check_chunk, check_key
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.removing import stand_in_of
from jaxcam.attribution.segments import Segments, segments_of
from jaxcam.attribution.targets import predicted
from jaxcam.studies.held import checked, precise
from jaxcam.studies.pieces import linear_piece, reach


@dataclasses.dataclass(frozen=True, eq=False)
class Surrogate:
    """What one explanation claims, and how far it is from what the network does. Made by `surrogates`.

    Errors are ‖claim − truth‖ / ‖truth‖ over the segments of an image: 0 is exact, 1 no better than claiming nothing.

    Attributes:
        claims: (n, s), by how much the target's output would change if a segment were replaced by its stand-in.
        inside: (n,) error for steps that stay inside the polytope, each half the way to its first facet; NaN for an
            image that lies on a facet in every such direction.
        removal: (n,) error for whole segments replaced.
        moved: (n,) ‖change of the claims‖ / ‖claims‖ at another point of the same polytope, with the same key.
        redrawn: (n,) the same at the same point with another key.
        neighbor: (n,) cosine of the claims and those of the nearest image with the same target; NaN where none is.
        seconds: for one image, compiled.
    """

    claims: Float[np.ndarray, "n s"]
    inside: Float[np.ndarray, " n"]
    removal: Float[np.ndarray, " n"]
    moved: Float[np.ndarray, " n"]
    redrawn: Float[np.ndarray, " n"]
    neighbor: Float[np.ndarray, " n"]
    seconds: float


def surrogates(
    model: Any,
    x: Any,
    target: int | None = None,
    *,
    key: Any,
    segments: Segments = "grid",
    samples: int = 1000,
    baseline: Baseline = "mean",
    chunk: int | None = None,
) -> dict[str, Surrogate]:
    """Holds the exact linear piece, LIME and Kernel SHAP against the network: exactness, consistency, time.

    Each is a linear model of an output around an image; each claims what replacing segment j does: W·(xⱼ − x), −βⱼ,
    −φⱼ, with xⱼ the image whose segment j is its stand-in. The truth is asked of the network: f(xⱼ) − f(x), and, inside
    the polytope, (f(x + ε(xⱼ − x)) − f(x)) / ε. The piece is exact inside by construction, and nothing makes it so
    beyond: which of the three to believe depends on which question is asked.

    Args:
        model: as for `linear_piece`.
        x: images (n, h, w, c), float; float64 where steps inside small polytopes are to be told from rounding.
        target: an output for all images; None for the predicted class of each.
        key: of the samples of LIME and SHAP.
        segments: as for `jc.lime`; "grid" for 49 rectangles.
        samples: of LIME and SHAP.
        baseline: what stands in for a segment, as for `jc.lime`.
        chunk: how many samples, or images, at once; None for what fits.

    Returns:
        A `Surrogate` for each of "linear_piece", "lime" and "kernel_shap".

    Raises:
        TypeError: what `linear_piece` and `jc.lime` raise.
        ValueError: likewise.

    Example:
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -1.0]])
        >>> x = jnp.linspace(0, 1, 16).reshape(1, 4, 4, 1)
        >>> found = surrogates(net, x, key=jax.random.key(0), segments=jnp.arange(16).reshape(1, 4, 4), baseline=0.0)
        >>> {name: bool(s.removal[0] < 0.001) for name, s in found.items()}
        {'linear_piece': True, 'lime': False, 'kernel_shap': True}

    Ribeiro et al., 2016 (LIME); Lundberg and Lee, 2017 (SHAP); Chu et al., 2018, whose figures of exactness and
    consistency these are. When it misleads: LIME's ridge shrinks its claims; that counts as an error here.
    """
    check_chunk(chunk)
    check_key(key)
    whole = checked(model, x)
    x = jnp.asarray(x)
    maps, counts = segments_of(segments, x)
    stand_in = stand_in_of(baseline, x, maps)
    logits = ask(_logits, model, x, None)
    chosen = np.asarray(predicted(logits)) if target is None else np.full(len(x), target)
    ways = _ways(x, stand_in, maps, int(counts.max()))
    real = np.abs(ways).max((2, 3, 4)) > 0  # (n, s)
    options: dict[str, Any] = {"segments": maps, "samples": samples, "chunk": chunk}

    def of_piece(images: Array, _: Any) -> np.ndarray:
        rows = sorted(set(chosen.tolist()))
        found = linear_piece(model, images, outputs=rows, chunk=chunk)
        W = np.asarray(found.W)[np.arange(len(images)), np.searchsorted(rows, chosen)]
        return np.einsum("nhwc,nshwc->ns", W, ways)

    def of_lime(images: Array, key: Any) -> np.ndarray:
        there = stand_in_of(baseline, images, maps)
        return -_of_segments(lime(model, images, chosen, key=key, baseline=there, **options), maps, ways.shape[1])

    def of_shap(images: Array, key: Any) -> np.ndarray:
        there = stand_in_of(baseline, images, maps)
        return -_of_segments(
            kernel_shap(model, images, chosen, key=key, baseline=there, **options), maps, ways.shape[1]
        )

    truth = _changes(model, x, ways, np.ones(real.shape), chosen)
    steps = _steps_inside(lambda way: reach(*whole, x, way, chunk).distance, ways, real)
    usable = real & (steps > 0)
    slopes = _changes(model, x, ways, steps, chosen) / np.where(usable, steps, 1)
    elsewhere = _elsewhere(lambda way: reach(*whole, x, way, chunk).distance, x, key)
    near = _neighbors(np.asarray(x), chosen)
    methods: dict[str, Callable[[Array, Any], np.ndarray]] = {
        "linear_piece": of_piece,
        "lime": of_lime,
        "kernel_shap": of_shap,
    }
    found: dict[str, Surrogate] = {}
    for name, method in methods.items():
        claims = method(x, key)
        begun = time.perf_counter()
        again = method(x, jax.random.fold_in(key, 1))
        seconds = (time.perf_counter() - begun) / len(x)
        cosine = [np.nan if j < 0 else _cosine(claims[i], claims[j]) for i, j in enumerate(near)]
        found[name] = Surrogate(
            claims,
            _error(claims, slopes, usable),
            _error(claims, truth, real),
            _error(method(elsewhere, key), claims, real),
            _error(again, claims, real),
            np.asarray(cosine),
            seconds,
        )
    return found


def _logits(question: Question, x: Array) -> Array:
    return question.outputs(x)


def _ways(x: Array, stand_in: Array, maps: Array, size: int) -> Float[np.ndarray, "n s h w c"]:
    """From each image to the same with one segment replaced."""
    hot = np.asarray(maps)[:, None] == np.arange(size)[:, None, None]
    return hot[..., None] * np.asarray(stand_in - x)[:, None]


def _of_segments(values: Array, maps: Array, size: int) -> Float[np.ndarray, "n s"]:
    """From a map with one value for each segment back to these; 0 for a segment an image does not have."""
    flat, labels = np.asarray(values).reshape(len(values), -1), np.asarray(maps).reshape(len(maps), -1)
    found = np.zeros((len(flat), size), flat.dtype)
    for row, value, label in zip(found, flat, labels, strict=True):
        row[label] = value
    return found


def _changes(model: Any, x: Array, ways: np.ndarray, steps: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """f(x + step · way) − f(x) of the chosen output, for every segment (n, s)."""
    one = np.arange(len(x))

    def scores(images: Any) -> np.ndarray:
        return np.asarray(ask(_logits, model, jnp.asarray(images, x.dtype), None))[one, chosen]

    with precise():
        at_x = scores(x)
        columns = [
            scores(np.asarray(x) + steps[:, j, None, None, None] * ways[:, j]) - at_x for j in range(ways.shape[1])
        ]
    return np.stack(columns, 1)


def _steps_inside(distance: Callable[[Any], np.ndarray], ways: np.ndarray, real: Bool[np.ndarray, "n s"]) -> np.ndarray:
    """Half the way to the first facet in each direction, the whole direction at most."""
    columns = [distance(ways[:, j]) for j in range(ways.shape[1])]
    return np.where(real, np.minimum(np.stack(columns, 1) / 2, 1), 0)


def _elsewhere(distance: Callable[[Any], np.ndarray], x: Array, key: Any) -> Array:
    """Another point of each image's polytope: nine tenths of a random way to its first facet."""
    way = jax.random.normal(jax.random.fold_in(key, 2), x.shape, x.dtype)
    share = 0.9 * np.minimum(distance(way), 1)
    return x + jnp.asarray(share, x.dtype)[:, None, None, None] * way


def _neighbors(x: np.ndarray, chosen: np.ndarray) -> list[int]:
    """The nearest other image with the same target; -1 where there is none."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    found = []
    for i, image in enumerate(flat):
        others = [j for j in np.flatnonzero(chosen == chosen[i]) if j != i]
        distances = [np.linalg.norm(flat[j] - image) for j in others]
        found.append(int(others[int(np.argmin(distances))]) if others else -1)
    return found


def _error(claims: np.ndarray, truth: np.ndarray, counted: Bool[np.ndarray, "n s"]) -> Float[np.ndarray, " n"]:
    """‖claims − truth‖ / ‖truth‖ over the segments that count; NaN where nothing is to be claimed."""
    away = np.linalg.norm(np.where(counted, claims - truth, 0).astype(np.float64), axis=1)
    size = np.linalg.norm(np.where(counted, truth, 0).astype(np.float64), axis=1)
    return np.where(size > 0, away / np.where(size > 0, size, 1), np.nan)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 0 else float("nan")
