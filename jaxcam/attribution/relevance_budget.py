"""How much of the score a relevance map keeps, and what kept the rest."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question
from jaxcam.attribution.targets import score
from jaxcam.program.conservation import with_biases


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelevanceBudget:
    """Where the relevance of each image went: score = image + biases + rest.

    Attributes:
        score: the relevance of the outputs, Σ z ⊙ ∂s/∂z, which is the score for a class, (n,).
        size: Σ |z ⊙ ∂s/∂z|, which is |score| for a class, (n,).
        image: the sum of the map, (n,).
        biases: what the biases of convolutions, dense layers and batch norms kept, (n,).
    """

    score: Float[Array, " n"]
    size: Float[Array, " n"]
    image: Float[Array, " n"]
    biases: Float[Array, " n"]

    @property
    def rest(self) -> Float[Array, " n"]:
        """What ε kept, and what came to outputs that had nothing to share it among, (n,)."""
        return self.score - self.image - self.biases

    @property
    def share(self) -> Float[Array, " n"]:
        """image / score: 1 where the map adds up to the score, (n,)."""
        return self.image / self.score


def start_of_relevance(question: Question, outputs: Any) -> Any:
    """The relevance of the outputs: z ⊙ ∂s/∂z."""
    slopes = jax.grad(lambda z: jnp.sum(score(z, question.target)))(outputs)
    return jax.tree_util.tree_map(jnp.multiply, outputs, slopes)


def map_and_budget(question: Question, x: Array, composite: Any) -> tuple[Array, RelevanceBudget]:
    """The relevance of the images, and where that of the outputs went."""
    reading = jnp.zeros(x.shape[0], x.dtype)
    outputs, pull_back = jax.vjp(lambda x, reading: with_biases(question.model, composite, x, reading), x, reading)
    start = start_of_relevance(question, outputs)
    relevance, biases = pull_back(start)
    total = _of_images(start, x.dtype)
    size = _of_images(jax.tree_util.tree_map(jnp.abs, start), x.dtype)
    return relevance, RelevanceBudget(total, size, _of_images(relevance, x.dtype), biases)


def _of_images(tree: Any, dtype: Any) -> Array:
    """The sum of a pytree of arrays (n, …) for each image."""
    leaves = jax.tree_util.tree_leaves(tree)
    sums = [jnp.sum(leaf, tuple(range(1, leaf.ndim))).astype(dtype) for leaf in leaves]
    return functools.reduce(jnp.add, sums)
