"""Linear probes, a thousand at a time, in terms of inner products only.

A probe is a linear classifier, concept pictures against others; its normal v points to the concept. All that is asked
of a probe are inner products with activations and gradients, and v is a sum of activations. So once the products of
all activations with each other and with all gradients are known, thousands of probes cost next to nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

HELD = 3
"""One of so many pictures is held back, to see whether a probe tells new ones apart."""
STEPS = 30
"""Of Newton's method, at most; six are usual."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What probes of one concept say: scores (r,), and means over them."""

    scores: np.ndarray
    rise: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Products:
    """Inner products of activations with each other (m, m), and of gradients with activations (n, m).

    Activations are centered and divided by a scale, which makes their mean square 1.
    """

    gram: np.ndarray
    slopes: np.ndarray
    scale: float

    @classmethod
    def of(cls, activations: np.ndarray, gradients: np.ndarray) -> Products:
        """Of activations (m, d) and gradients (n, d)."""
        rows = activations.astype(np.float64)
        rows = rows - rows.mean(0)
        scale = float(np.sqrt((rows**2).sum(1).mean())) or 1.0
        rows /= scale
        return cls(rows @ rows.T, gradients.astype(np.float64) @ rows.T, scale)

    def asked(self, own: np.ndarray, against: np.ndarray, regularization: float) -> Asked:
        """Probes of the pictures `own` (m,) against each of the sets (r, m)."""
        r, m = against.shape
        chosen = np.concatenate([np.broadcast_to(own, (r, m)), against], 1)
        signs = np.repeat([1.0, -1.0], m)
        held = np.arange(2 * m) % m % HELD == HELD - 1
        known = chosen[:, ~held]
        weights, offsets = fitted(self.gram[known[:, :, None], known[:, None]], signs[~held], regularization)
        new = chosen[:, held]
        lengths = np.sqrt(np.einsum("ri,rij,rj->r", weights, self.gram[known[:, :, None], known[:, None]], weights))
        lengths = np.where(lengths > 0, lengths, 1)
        weights, offsets = weights / lengths[:, None], offsets / lengths
        along = np.einsum("rij,rj->ri", self.gram[new[:, :, None], known[:, None]], weights)
        slopes = np.einsum("nri,ri->rn", self.slopes[:, known], weights)
        way = (along * signs[held]).mean(1) * 2 * self.scale  # half of the held-back pictures are the concept's
        right = (np.sign(along + offsets[:, None]) == signs[held]).mean()
        return Asked((slopes > 0).mean(1), float((slopes.mean(1) * way).mean()), float(right))


def fitted(
    gram: Float[np.ndarray, "r m m"], signs: Float[np.ndarray, " m"], regularization: float
) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regressions by Newton's method, in terms of inner products: w = Σ weightsᵢ aᵢ.

    Args:
        gram: inner products of the activations of each regression.
        signs: 1 for the concept, −1 for the others.
        regularization: λ of λ/2 ‖w‖², beside the mean of the losses.

    Returns:
        Weights (r, m) and offsets (r,).
    """
    r, m = gram.shape[:2]
    penalty = regularization * m
    weights, offsets = np.zeros((r, m)), np.zeros(r)
    system = np.ones((r, m + 1, m + 1))
    system[:, m, m] = 0
    for _ in range(STEPS):
        values = np.einsum("rij,rj->ri", gram, weights) + offsets[:, None]
        odds = 1 / (1 + np.exp(-values))
        curve = np.clip(odds * (1 - odds), 1e-9, None)
        wanted = values + ((signs > 0) - odds) / curve
        system[:, :m, :m] = gram + penalty * np.eye(m) / curve[:, :, None]
        solved = np.linalg.solve(system, np.concatenate([wanted, np.zeros((r, 1))], 1)[..., None])[..., 0]
        moved = np.abs(solved[:, :m] - weights).max()
        weights, offsets = solved[:, :m], solved[:, m]
        if moved < 1e-10:
            break
    return weights, offsets
