"""Whether maps keep the completeness of their own method; what breaks it by more than rounding is an error, not a map.

Problem: a fault below us (a compiler that reads memory nobody wrote, a wrong kernel) gives maps that are finite and
look like any other. Idea: a complete method says what its maps sum to, Σ M = s(x) − s(x₀), and both sides are known
once the map is. Methods along a path meet this only up to the error of their quadrature, which has no bound; they are
held to the size of what the score does on the path, times a number no reasonable path comes near.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.program.trace import Program

# Rounding of a whole network: √eps of what cancels in a sum, and some.
ROUNDING = 8.0
# How many times what the score does on a path the error of its quadrature may be.
GROSSLY = 1000.0
# What accelerators round float32 products to, if nothing else is asked for.
FAST = float(jnp.finfo(jnp.bfloat16).eps)


class Complete(NamedTuple):
    """The answer of a complete method, with both sides of its completeness for each image."""

    answer: Any
    total: Float[Array, " n"]  # Σ M
    owed: Float[Array, " n"]  # s(x) − s(x₀)
    size: Float[Array, " n"]  # of the numbers that cancel in either
    slack: Float[Array, " n"] | float = 0.0  # what they may differ by beside rounding


def exact(answer: Any, values: Array, owed: Array, scores: Array) -> Complete:
    """Of a method whose maps sum to what they owe but for rounding.

    Args:
        answer: what the method returns.
        values: (n, …) what sums up for each image, such as the maps.
        owed: (n,).
        scores: (n,) or (n, k), what `owed` is the difference of.
    """
    axes = tuple(range(1, values.ndim))
    size = jnp.sum(jnp.abs(values), axes) + jnp.max(jnp.abs(scores.reshape(len(scores), -1)), 1)
    return Complete(answer, jnp.sum(values, axes), owed, size)


def on_path(answer: Any, maps: Array, owed: Array, scores: Array, moved: Array) -> Complete:
    """Of a method that adds up gradients along a path.

    Args:
        answer: what the method returns.
        maps: (n, h, w, c).
        owed: (n,) s(x) − s(x₀).
        scores: (n,) or (n, k), what `owed` is the difference of.
        moved: (n,) how far the score is from its start, on average along the path.
    """
    return exact(answer, maps, owed, scores)._replace(slack=GROSSLY * (moved + jnp.abs(owed)))


def unit_roundoff(program: Program) -> float:
    """The unit roundoff of the coarsest numbers that a program computes with."""
    kinds = {aval.dtype for aval in program.avals.values() if jnp.issubdtype(aval.dtype, jnp.floating)}
    coarsest = max((float(jnp.finfo(kind).eps) for kind in kinds), default=0.0)
    return max(coarsest, FAST) if jax.default_backend() != "cpu" and jnp.dtype("float32") in kinds else coarsest


def check_complete(name: str, sides: tuple[Array, Array, Array, Array], eps: float) -> None:
    """Raises if the maps of an image do not sum to what they owe.

    Args:
        name: of the method.
        sides: `Complete` without the answer.
        eps: see `unit_roundoff`.

    Raises:
        ValueError: one does not.
    """
    total, owed, size, slack = (np.asarray(side, np.float64) for side in sides)
    with np.errstate(invalid="ignore"):
        whole = np.abs(total - owed) <= ROUNDING * np.sqrt(eps) * size + slack
    if whole.all():
        return
    image = int(np.argmin(whole))
    on_a_path = bool(np.any(slack))
    cause = "too few steps, or the device computed wrongly" if on_a_path else "no rounding explains it"
    advice = "take more steps, or compare with float64" if on_a_path else "compare with float64, or with another device"
    raise ValueError(
        f"{name}: the map of image {image} sums to {total[image]:.6g}, and by the method's own completeness it must "
        f"sum to {owed[image]:.6g}: {cause}; {advice} (jax.config.update('jax_enable_x64', True))"
    )
