"""What if this were not there: images with parts replaced, and their scores.

A mask says how much of each pixel stays; what stands in for the rest is the baseline. The scores of many masks come a
chunk at a time: neither the masked images nor full-size masks of all of them exist together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxcam.attribution.asking import Question, check_count, check_images
from jaxcam.attribution.baselines import Baseline, baseline_of
from jaxcam.attribution.bricks import closest
from jaxcam.attribution.budget import chunk_size, mapped
from jaxcam.program.compiled import compiled


def blended(x: Array, stand_in: Array, mask: Array) -> Float[Array, "n h w c"]:
    """x where the mask is 1, the stand-in where it is 0.

    Args:
        x: images (n, h, w, c).
        stand_in: likewise.
        mask: (h, w) or one for each image (n, h, w), in [0, 1].
    """
    mask = jnp.broadcast_to(mask, x.shape[:3])[..., None]
    if mask.dtype == jnp.bool_:
        return jnp.where(mask, x, stand_in)
    return stand_in + mask.astype(x.dtype) * (x - stand_in)


def masked_scores(
    question: Question, x: Array, stand_in: Array, masks: Callable[[Any], Array], variants: Any, chunk: int | None
) -> Float[Array, "v n"]:
    """The scores of x under many masks, a chunk of them at a time.

    Args:
        question: whose target is settled.
        x: images (n, h, w, c).
        stand_in: likewise.
        masks: variant ↦ mask (h, w) or (n, h, w); runs once for each variant, when it is needed.
        variants: pytree of arrays (v, …).
        chunk: how many at once; None for what fits.
    """
    count = jax.tree_util.tree_leaves(variants)[0].shape[0]
    size = chunk_size(question.model, x, count, chunk)
    return mapped(lambda variant: question.scores(blended(x, stand_in, masks(variant))), variants, size)


def stand_in_of(baseline: Baseline, x: Any, segments: Array | None = None) -> Array:
    """What replaces what is taken away, an array like x.

    Args:
        baseline: a number, None for zeros, an array like x or like one image of it, "blur" (by a tenth of the larger
            side), or "mean": the mean color of each segment, of the whole image if there are none.
        x: images (n, h, w, c).
        segments: numbers of segments (n, h, w), below h·w.

    Raises:
        TypeError: images or baseline of a wrong kind.
        ValueError: images or baseline of a wrong shape, not finite, or an unknown name.
    """
    if not isinstance(baseline, str) or baseline == "blur":
        return baseline_of(baseline, x)
    if baseline != "mean":
        hint = closest(baseline, ("mean", "blur"))
        raise ValueError(
            f"no baseline '{baseline}'; there are 'mean', 'blur', None (zeros), a number and an array{hint}"
        )
    check_images(x)
    x = jnp.asarray(x)
    if segments is None:
        return jnp.broadcast_to(jnp.mean(x, (1, 2), keepdims=True), x.shape)
    return _segment_means(x, segments)


@compiled
def _segment_means(x: Array, segments: Int[Array, "n h w"]) -> Array:
    def of_one(image: Array, labels: Array) -> Array:
        flat, pixels = labels.reshape(-1), image.reshape(-1, image.shape[-1])
        sums = jax.ops.segment_sum(pixels, flat, flat.size)
        counts = jax.ops.segment_sum(jnp.ones(flat.shape, image.dtype), flat, flat.size)
        return (sums / jnp.maximum(counts, 1)[:, None])[flat].reshape(image.shape)

    return jax.vmap(of_one)(x, segments)


def check_pair(value: Any, name: str) -> tuple[int, int]:
    """Height and width, from a whole number for both or from two.

    Raises:
        ValueError: neither, or below 1.
    """
    numbers = (value, value) if isinstance(value, int | np.integer) else value
    if not isinstance(numbers, tuple | list) or len(numbers) != 2:
        raise ValueError(f"{name} is a whole number or a pair (height, width); got {value!r}")
    return check_count(numbers[0], f"the height of {name}"), check_count(numbers[1], f"the width of {name}")


def check_number(
    value: Any, name: str, low: float | int, high: float | int = float("inf"), above: bool = False
) -> float:
    """A number of a range, its ends included but for the lower one if `above`.

    Raises:
        ValueError: it is not.
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not (low < value if above else low <= value) or not value <= high or value == float("inf"):
        least = f"above {low:g}" if above else f"from {low:g} up"
        most = f" to {high:g}" if high < float("inf") else ""
        raise ValueError(f"{name} is a number {least}{most}; got {value!r}")
    return float(value)
