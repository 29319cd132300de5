"""Completeness: does the map of an image add up to what it explains?"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.removing import stand_in_of
from jaxcam.attribution.targets import Target
from jaxcam.quality.asked import check_score, checked_maps, score_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Completeness:
    """What the map of each image adds up to, and what it should.

    Attributes:
        total: the sum of the map, (n,).
        difference: the score of the image less that of the baseline, (n,).
        gap: total − difference, (n,).
        relative: |gap| / |difference|, (n,); infinite where the scores do not differ and the map says they do.
    """

    total: Float[Array, " n"]
    difference: Float[Array, " n"]
    gap: Float[Array, " n"]
    relative: Float[Array, " n"]


def completeness(
    model: Any,
    x: Array,
    maps: Any,
    target: Target = None,
    *,
    baseline: Baseline | bool = None,
    score: str = "output",
) -> Completeness:
    """How far the sum of a map is from the difference of scores it should explain.

    gap = Σ M − (s(x) − s(x₀)), with s the target's score and x₀ the baseline.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        maps: one for each image, of any size.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        baseline: what the map was computed against: None for zeros, a number, "mean", "blur", an array; False for
            nothing, s(x₀) = 0, as for relevance.
        score: "output", the outputs as they are, or "probability", their softmax.

    Returns:
        A `Completeness`.

    Raises:
        TypeError: images, maps or target of a wrong kind.
        ValueError: a map of another batch size or with NaN; what every method raises.

    Example:
        >>> import jax.numpy as jnp
        >>> lit = lambda x: x.sum((1, 2))
        >>> completeness(lit, jnp.ones((1, 1, 2, 1)), jnp.array([[[1.0, 0.5]]])).gap.tolist()
        [-0.5]

    Sundararajan et al., "Axiomatic Attribution for Deep Networks", 2017.
    """
    check_score(score)
    maps = checked_maps(maps, x, ranks=False)
    nothing = baseline is False
    replaced = stand_in_of(None if nothing else baseline, x)
    total, difference = ask(_difference, model, x, target, replaced, maps, score=score, nothing=nothing)
    gap = total - difference
    relative = jnp.where(gap == 0, 0, jnp.abs(gap) / jnp.abs(difference))
    return Completeness(total, difference, gap, relative)


def _difference(
    question: Question, x: Array, replaced: Array, maps: Array, *, score: str, nothing: bool
) -> tuple[Array, Array]:
    question = question.settled(x)
    total = maps.sum(tuple(range(1, maps.ndim)))
    reached = score_of(question, x, score)
    return total, reached if nothing else reached - score_of(question, replaced, score)
