"""In how many bits the matrix products and convolutions of a sweep are done, and what that changes.

    float32         all of them; what every figure in the documentation is made with
    tensorfloat32   float32 whose factors are rounded to 10 bits, on GPUs that have units for it; float32 elsewhere
    bfloat16        factors and results rounded to 7 bits; sums in float32 where the device does so (GPUs, TPUs)

Everything between the products stays in float32. The forward pass is done in the same precision, so a unit near zero
may be dead in one and alive in the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.stats import spearmanr

from jaxcam.program.layers import Anatomy
from jaxcam.program.recognize import is_affine
from jaxcam.program.trace import Node, Replacements

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


def check_precision(precision: str) -> None:
    """Raises for a precision there isn't."""
    if precision not in PRECISIONS:
        raise ValueError(f"no precision '{precision}'; there are {', '.join(PRECISIONS)}")


def products(precision: str) -> contextlib.AbstractContextManager[Any]:
    """While a model is traced: how its products are to be done, where it does not say so itself."""
    # On GPUs JAX rounds the factors of float32 products unless told not to.
    return jax.default_matmul_precision("tensorfloat32" if precision == "tensorfloat32" else "highest")


def in_bfloat16(anatomy: Anatomy, faster: Replacements) -> Replacements:
    """The convolutions and matrix products of a network, and their derivatives, with factors rounded to bfloat16.

    Args:
        anatomy: the network's.
        faster: how some of them are computed instead.
    """
    found: Replacements = {}
    for node in anatomy.program.nodes:
        output = node.outputs[0] if node.outputs else None
        if output is None or not is_affine(node, anatomy.live) or anatomy.program.avals[output].dtype != jnp.float32:
            continue
        sources, function = faster.get(output, (node.operands, _one(node)))
        found[output] = (sources, _rounded(function))
    return found


def _one(node: Node) -> Callable[..., Array]:
    return lambda *operands: node(*operands)[0]


def _rounded(function: Callable[..., Array]) -> Callable[..., Array]:
    def rounded(*operands: Array) -> Array:
        return function(*(operand.astype(jnp.bfloat16) for operand in operands)).astype(jnp.float32)

    return rounded


@dataclasses.dataclass(frozen=True)
class Change:
    """What fewer bits changed in one layer's similarities to one image. Made by `changes`.

    Attributes:
        rank_correlation: Spearman's, over all units; 1 where all are alike in both.
        largest_difference: of any unit's.
    """

    rank_correlation: float
    largest_difference: float


def changes(found: Mapping[str, np.ndarray], exact: Mapping[str, np.ndarray]) -> dict[str, Change]:
    """How far the similarities measured in fewer bits are from those in float32, layer by layer.

    ρ = Spearman's rank correlation of sᵤ and ŝᵤ, and δ = maxᵤ |sᵤ − ŝᵤ|.

    Args:
        found: for each layer the similarities ŝ (u,).
        exact: the same in float32, s (u,).

    Returns:
        For each layer both figures.

    Raises:
        ValueError: other layers, or other units, on either side.

    Example:
        >>> round(changes({"conv": np.array([0.1, 0.3])}, {"conv": np.array([0.1, 0.2])})["conv"].largest_difference, 3)
        0.1
    """
    if found.keys() != exact.keys() or any(found[name].shape != exact[name].shape for name in found):
        raise ValueError("similarities of the same layers and units are compared; got others on either side")
    result = {}
    for name, values in found.items():
        if np.ptp(values) == 0 or np.ptp(exact[name]) == 0:
            rank = float(np.ptp(values) == np.ptp(exact[name]))
        else:
            rank = float(spearmanr(values, exact[name]).statistic)
        result[name] = Change(rank, float(np.max(np.abs(values - exact[name]))))
    return result
