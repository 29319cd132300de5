"""How much of the score a relevance map keeps, and what kept the rest."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask, is_traced
from jaxcam.attribution.composites import Composite, named_composite
from jaxcam.attribution.targets import Target, score
from jaxcam.program.conservation import with_biases

# Trained ResNet20 and 56, SqueezeNet, VGG11 and a random DenseNet of 58 batch norms keep a mass of
# 0.10 to 192 times the score, and sums of at most 1.7 times, under all composites and under ε alone.
LEAST, MOST = 0.02, 10.0


class RelevanceWarning(UserWarning):
    """A relevance map holds next to nothing of the score, or adds up to many times as much."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelevanceBudget:
    """Where the relevance of each image went: score = image + biases + rest.

    Attributes:
        score: the relevance of the outputs, Σ z ⊙ ∂s/∂z, which is the score for a class, (n,).
        size: Σ |z ⊙ ∂s/∂z|, which is |score| for a class, (n,).
        image: the sum of the map, (n,).
        mass: the sum of the map's absolute values, (n,).
        biases: what the biases of convolutions, dense layers and batch norms kept, (n,). Those whose
            image axis cannot be followed are counted in `rest`.
    """

    score: Float[Array, " n"]
    size: Float[Array, " n"]
    image: Float[Array, " n"]
    mass: Float[Array, " n"]
    biases: Float[Array, " n"]

    @property
    def rest(self) -> Float[Array, " n"]:
        """What ε kept, and what came to outputs that had nothing to share, (n,)."""
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
    total = functools.partial(_of_images, dtype=x.dtype)
    size = total(jax.tree_util.tree_map(jnp.abs, start))
    mass = total(jnp.abs(relevance))
    return relevance, RelevanceBudget(total(start), size, total(relevance), mass, biases)


def _of_images(tree: Any, dtype: Any) -> Array:
    """The sum of a pytree of arrays (n, …) for each image."""
    leaves = jax.tree_util.tree_leaves(tree)
    sums = [jnp.sum(leaf, tuple(range(1, leaf.ndim))).astype(dtype) for leaf in leaves]
    return functools.reduce(jnp.add, sums)


def relevance_budget(
    model: Any,
    x: Array | np.ndarray,
    target: Target = None,
    *,
    composite: str | Composite = "epsilon_plus",
) -> RelevanceBudget:
    """Where the relevance of each image went: to the image, into biases, or into ε.

    score = image + biases + rest. Exact up to rounding, in one backward pass; works under `jit`,
    where `lrp` cannot warn. `conservation` says the same equation by equation.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c).
        target: a class for all images or one for each, None for the predicted class, or a callable
            outputs -> (n,).
        composite: the name of a composite, or a `Composite`.

    Returns:
        A `RelevanceBudget`; all its numbers are (n,), in units of score.

    Raises:
        TypeError: what `lrp` raises.
        ValueError: what `lrp` raises.

    Example:
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -1.0]]) + jnp.array([4.0, 0.0])
        >>> budget = relevance_budget(net, jnp.ones((1, 2, 2, 1)), target=0)
        >>> [round(float(a[0]), 3) for a in (budget.score, budget.image, budget.biases)]
        [8.0, 4.0, 4.0]

    Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
    Relevance Propagation", 2015. When it misleads: under ε alone positive and negative relevance
    cancel, so a small share there does not mean that little arrived; `mass` says how much did.
    """
    _, budget = ask(map_and_budget, model, x, target, composite=named_composite(composite))
    return budget


def warn_where_lost(budget: RelevanceBudget, stacklevel: int) -> None:
    """Warns, in one line, where half of the images or more keep next to nothing or far too much.

    Args:
        budget: of a batch; inside `jit`, where it has no numbers yet, nothing is said.
        stacklevel: as `warnings.warn` takes it, from here.
    """
    if is_traced(budget):
        return
    score, size, image, mass, biases, rest = (
        np.asarray(a, np.float64)
        for a in (budget.score, budget.size, budget.image, budget.mass, budget.biases, budget.rest)
    )
    lost = (size > 0) & ((mass < LEAST * size) | (np.abs(image) > MOST * size))
    if 2 * lost.sum() < len(lost) or not lost.any():
        return
    worst = np.flatnonzero(lost)[np.argmax(np.abs(np.log((np.abs(image) / size)[lost] + 1e-30)))]
    reached, kept, other = image[worst], biases[worst], rest[worst]
    among = f" on {lost.sum()} of {len(lost)} images" if len(lost) > 1 else ""
    if abs(kept) >= abs(other):
        remedy = "composite.without_biases() leaves these out"
    else:
        remedy = "smaller ε, or another rule where an output has one input, keeps more"
    warnings.warn(
        f"relevance is lost{among}: {reached:.2g} of a score of {score[worst]:.3g} reaches the image, biases kept "
        f"{kept:.2g}, ε and outputs with nothing to share {other:.2g} (jc.relevance_budget); {remedy}, deep_lift "
        "and integrated_gradients add up by construction",
        RelevanceWarning,
        stacklevel=stacklevel + 1,
    )
