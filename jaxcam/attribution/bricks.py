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

from jaxcam.attribution.budget import summed

QUADRATURES = ("gauss_legendre", "trapezoid", "riemann_middle")


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
    if not isinstance(steps, int | np.integer) or isinstance(steps, bool) or steps < least:
        raise ValueError(f"steps is a whole number from {least} up for method='{method}'; got {steps!r}")
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

    def weighted(place_and_weight: Any) -> Any:
        place, weight = place_and_weight
        return jax.tree_util.tree_map(lambda values: weight * values, function(place))

    return summed(weighted, (places, weights), chunk)


def check_one_of(name: Any, known: tuple[str, ...], what: str) -> None:
    """Raises unless an option is one of the names there are; the message has the closest.

    Raises:
        ValueError: it is not.
    """
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
        hint = f"did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"no {what} '{name}'; there are {', '.join(known)}{'; ' + hint if hint else ''}")
