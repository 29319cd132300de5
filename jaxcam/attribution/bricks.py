"""What methods are made of: an integral along a path, a mean over noise, a product with the input.

A brick knows nothing of models. It takes a function of one variable (a place on a path, a draw of noise) and says how
its values are put together; the stack of values never exists.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import check_count
from jaxcam.attribution.budget import summed

QUADRATURES = ("gauss_legendre", "trapezoid", "riemann_middle")
SUMMARIES = ("mean", "squared", "variance")


def quadrature(method: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in [0, 1] and their weights, which sum to 1: ∫₀¹ f(α) dα ≈ Σ wᵢ f(αᵢ).

    Args:
        method: "gauss_legendre" (exact for polynomials of degree 2·steps − 1), "trapezoid" or "riemann_middle".
        steps: how many places.

    Raises:
        ValueError: no such method, or too few steps for it.
    """
    check_one_of(method, QUADRATURES, "method")
    least = 2 if method == "trapezoid" else 1
    check_count(steps, "steps", least, f" for method='{method}'")
    if method == "gauss_legendre":
        places, weights = np.polynomial.legendre.leggauss(steps)
        return (1 + places) / 2, weights / 2
    if method == "riemann_middle":
        return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps), weights


def integrate(function: Callable[[Any], Any], steps: int, method: str, chunk: int, dtype: Any) -> Any:
    """∫₀¹ f(α) dα, a chunk of places at a time.

    Args:
        function: α ↦ pytree of arrays.
        steps: at how many places f is asked.
        method: see `quadrature`.
        chunk: how many at once.
        dtype: of α.
    """
    places, weights = (jnp.asarray(numbers, dtype) for numbers in quadrature(method, steps))

    return summed(function, places, chunk, weights)


def smooth(function: Callable[[Any], Any], samples: int, kind: str, chunk: int, around: Any = None) -> Any:
    """The mean of a function over numbered draws, of its square, or its variance; a chunk of draws at a time.

    Args:
        function: the number of a draw ↦ pytree of arrays.
        samples: how many draws.
        kind: "mean", "squared" (the mean of the squares) or "variance" (of the draws as they are: divided by their
            number, not by one less).
        chunk: how many at once.
        around: for the variance, a value near the mean: squares of small deviations keep their digits.
    """

    def powers(draw: Any) -> Any:
        values = function(draw)
        if kind == "mean":
            return values
        if kind == "squared":
            return jax.tree_util.tree_map(jnp.square, values)
        apart = jax.tree_util.tree_map(jnp.subtract, values, around)
        return apart, jax.tree_util.tree_map(jnp.square, apart)

    means = jax.tree_util.tree_map(lambda total: total / samples, summed(powers, jnp.arange(samples), chunk))
    if kind != "variance":
        return means
    first, second = means
    return jax.tree_util.tree_map(lambda m, square: jnp.maximum(square - m**2, 0), first, second)


def check_one_of(name: Any, known: tuple[str, ...], what: str) -> None:
    """Raises unless an option is one of the names there are; the message has the closest.

    Raises:
        ValueError: it is not.
    """
    if name not in known:
        raise ValueError(f"no {what} '{name}'; there are {', '.join(known)}{closest(name, known)}")


def closest(name: str, known: tuple[str, ...]) -> str:
    """The end of a message that says which of the names there are is closest; empty if none is close."""
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else ""


def upsample(maps: Array, size: tuple[int, int], align_corners: bool = False) -> Float[Array, "n h w"]:
    """Small maps as large as an image: bilinear between the centers of their places, constant beyond the outermost.

    What `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` does; maps of that size stay as they
    are.

    Args:
        maps: (n, h', w').
        size: (h, w), no smaller than the maps.
        align_corners: whether the outermost places come to lie on the image's corners, as torch's
            `UpsamplingBilinear2d` has it.
    """
    if maps.shape[1:] == size:
        return maps
    if not align_corners:
        return jax.image.resize(maps, (maps.shape[0], *size), "bilinear")
    rows, columns = (jnp.asarray(_between(*of), maps.dtype) for of in zip(size, maps.shape[1:], strict=True))
    return jnp.einsum("hp,npq,wq->nhw", rows, maps, columns, precision="highest")


def _between(size: int, places: int) -> np.ndarray:
    """The matrix (size, places) that interpolates linearly between places, the first and last on the ends."""
    at = np.linspace(0, places - 1, size)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(places)), 0)
