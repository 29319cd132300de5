"""What a network says of many images, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.attribution.asking import Question, ask, check_count
from jaxcam.attribution.targets import per_output


def predictions(model: Any, images: np.ndarray, batch: int = 32) -> np.ndarray:
    """The predicted class of each image, (n,)."""
    return logits(model, images, batch).argmax(-1)


def logits(model: Any, images: np.ndarray, batch: int = 32) -> np.ndarray:
    """The outputs (n, k) of images, a batch at a time; the last is filled up, so that one shape is compiled."""
    found = [
        np.asarray(ask(_outputs, model, jnp.asarray(part), None))[:count] for part, count in batches(images, batch)
    ]
    return np.concatenate(found)


def batches(images: Any, batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of one size, the last filled up with its last image, and how many of each count."""
    size = min(check_count(batch, "batch"), len(images))
    for start in range(0, len(images), size):
        part = np.asarray(images[start : start + size])
        yield part[np.minimum(np.arange(size), len(part) - 1)], len(part)


def _outputs(question: Question, x: Array) -> Array:
    return per_output(question.outputs(x))
