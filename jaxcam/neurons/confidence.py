"""How sure a model is: the softmax of its outputs, and log p/(1−p) of each image's own class."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num
from rich.console import Console
from rich.progress import Progress

from jaxcam.neurons.candidates import compete, restrict
from jaxcam.neurons.inference import check_images, check_labels, evaluate, own_log_odds, softmax

# As loose as this so that what does not fit meets messages in one line.
Images = Num[Array, "..."] | Num[np.ndarray, "..."]
Labels = Num[Array, "..."] | Num[np.ndarray, "..."]


def confidences(
    model: Any, averages: Images, *, candidates: Sequence[int] | None = None, batch: int = 256
) -> Float[Array, "n k"]:
    """Asks the model what it takes each image for: the heat map of averages against classes.

    p = softmax(model(x)), over all outputs of the model or over the candidates.

    Args:
        model: x (n, h, w, c) -> logits (n, k).
        averages: (n, h, w, c) images, usually one per class.
        candidates: the model's outputs that compete in the softmax; None for all of them.
        batch: images in the model at a time.

    Returns:
        (n, k) confidences in [0, 1], one for each output or, in their order, each candidate; each row sums to 1.

    Raises:
        ValueError: there are no images, one has NaN, or the model's outputs are not (n, k), or are NaN; a candidate
            that is no output.
        TypeError: images are not floating point.

    Example:
        >>> confidences(lambda x: x.mean((1, 2)), jnp.zeros((1, 4, 4, 2))).tolist()
        [[0.5, 0.5]]
    """
    check_images(averages, batch)
    model = model if candidates is None else restrict(model, candidates)
    parts = [values for _, values in evaluate(softmax, model, np.asarray(averages), None, batch)]
    return jnp.asarray(np.concatenate(parts))


def log_odds(
    model: Any,
    images: Images,
    labels: Labels,
    *,
    candidates: Sequence[int] | None = None,
    batch: int = 256,
    progress: bool = True,
) -> Float[np.ndarray, " n"]:
    """Says how sure the model is of each image's own class, on a scale without end: log p/(1−p).

    Computed as z_own − log Σ_others exp z from the logits z: it tells apart confidences that are all 1 in float32.

    Args:
        model: x (n, h, w, c) -> logits (n, k).
        images: (n, h, w, c) floating point.
        labels: (n,) integers, the model's output for each image.
        candidates: the outputs that the others are, among them those of all labels; None for all of the model.
        batch: images in the model at a time.
        progress: whether to show a progress bar on stderr.

    Returns:
        (n,) float32, any real number; 0 where p = ½. To be given to `class_averages` as `ranking`.

    Raises:
        ValueError: a NaN or infinite image, labels that do not fit, a model that gives no logits or answers NaN.
        TypeError: images are not floating point, or labels are not integers.

    Example:
        >>> net = lambda x: jnp.stack([100 * x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1)
        >>> log_odds(net, np.array([0.5, 0.9]).reshape(2, 1, 1, 1), np.array([0, 0]), progress=False).tolist()
        [50.0, 90.0]
    """
    check_images(images, batch)
    check_labels(images, labels)
    images = np.asarray(images) if isinstance(images, jax.Array) else images
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        return log_odds_with_bar(model, images, np.asarray(labels), candidates, batch, bar)


def log_odds_with_bar(
    model: Any,
    images: Any,
    labels: np.ndarray,
    candidates: Sequence[int] | None,
    batch: int,
    bar: Progress,
) -> np.ndarray:
    """log p/(1−p) of each image's own class, (n,), for arguments that are checked."""
    model, places = compete(model, labels, candidates)
    task = bar.add_task("confidences", total=images.shape[0])
    odds = np.empty(images.shape[0], np.float32)
    for rows, values in evaluate(own_log_odds, model, images, places, batch):
        odds[rows] = values
        bar.advance(task, len(values))
    return odds
