"""Gradient ascent on the confidence: the average of a class, finished by the network."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from jaxcam.attribution.targets import select_output
from jaxcam.neurons.inference import check_outputs, logits
from jaxcam.program.compiled import compiled
from jaxcam.program.trace import Static, split


@partial(compiled, static_argnums=0)
def _step(
    static: Static, arrays: list[Any], x: jax.Array, labels: jax.Array, low: Any, high: Any, rate: Any
) -> tuple[jax.Array, jax.Array]:
    """The log confidence of each image's class, and the images one step further up."""

    def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_p = jax.nn.log_softmax(logits(static, arrays, x), axis=-1)
        own = select_output(log_p, labels)
        return own.sum(), own

    (_, own), gradient = jax.value_and_grad(total, has_aux=True)(x)
    # Divided by the largest value first: squares of the small gradients of a sure network vanish in float32.
    largest = jnp.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
    gradient = gradient / jnp.where(largest == 0, 1, largest)
    size = jnp.sqrt((gradient**2).mean(axis=(1, 2, 3), keepdims=True))
    return own, jnp.clip(x + rate * gradient / jnp.where(size == 0, 1, size), low, high)


class Ascent(NamedTuple):
    """The most confident image on each class's way up (k, h, w, c), its log confidence, and after how many steps."""

    images: jax.Array
    log_confidence: np.ndarray
    steps: np.ndarray


def ascend(
    model: Any,
    start: np.ndarray,
    classes: Sequence[int],
    batch: int,
    limits: tuple[float, float],
    threshold: float,
    steps: int,
    rate: float,
    bar: Progress,
) -> Ascent:
    """Follows the gradient of the log confidence from each class's image.

    Args:
        model: x (n, h, w, c) -> logits (n, k).
        start: (k, h, w, c), an image for each class.
        classes: the model's output for each.
        batch: images in the model at a time.
        limits: the smallest and the largest value of a pixel.
        threshold: confidence in (0, 1] at which a class stops.
        steps: at most.
        rate: of a step, in the unit of the images, root mean square.
        bar: of progress.

    Raises:
        ValueError: the model answers NaN, or gives no logits.
    """
    arrays, static = split(model)
    check_outputs(static, arrays, start.shape, np.asarray(classes))
    task = bar.add_task("gradient ascent", total=len(classes) * steps)
    results: list[Ascent] = []
    for first in range(0, len(classes), batch):
        x = best = jnp.asarray(start[first : first + batch])
        labels = jnp.asarray(np.asarray(classes)[first : first + batch])
        surest = jnp.full(len(labels), -jnp.inf)
        taken = jnp.zeros(len(labels), int)
        for count in range(steps + 1):
            own, further = _step(static, arrays, x, labels, *limits, rate)
            if jnp.isnan(own).any():
                label = labels[jnp.argmax(jnp.isnan(own))]
                raise ValueError(f"the model answers NaN to the average of class {label}; look at its weights")
            better = own > surest
            best = jnp.where(better[:, None, None, None], x, best)
            surest = jnp.where(better, own, surest)
            taken = jnp.where(better, count, taken)
            done = surest >= np.log(threshold)
            if done.all() or count == steps:
                break
            # A class that is there stays where it is, whatever the others do.
            x = jnp.where(done[:, None, None, None], x, further)
            bar.advance(task, len(labels))
        results.append(Ascent(best, np.asarray(surest), np.asarray(taken)))
    images, surest, taken = zip(*results, strict=True)
    return Ascent(jnp.concatenate(images), np.concatenate(surest), np.concatenate(taken))
