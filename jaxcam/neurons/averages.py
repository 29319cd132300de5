"""Class average images: one picture that stands for a class, on which every unit is then asked what it sees.

The plain mean of a class is pale, and a network may not recognize it. So there are three remedies: stretch it to the
range of its data ("simple"), average only the images the network is surest or least sure of ("most", "least"), or let
the network finish it by gradient ascent ("ascent"; the network then explains itself, so it is for comparison only).

Images are read in batches and never copied as a whole: any array with `shape`, `dtype` and slices will do, a
memory-mapped file too. Sums are taken in float64, so the batch size does not show in the result.

Paper: chapter 3.2 of the thesis on class average images.
"""

import difflib
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num
from rich.console import Console
from rich.progress import Progress

from jaxcam.neurons.inference import (
    batches,
    check_images,
    check_labels,
    check_outputs,
    evaluate,
    logits,
    own_log_odds,
    softmax,
)
from jaxcam.program.trace import Static, split

Kind = Literal["simple", "most", "least", "ascent"]
KINDS: tuple[str, ...] = get_args(Kind)

# As loose as this so that what does not fit meets the messages below.
Images = Num[Array, "..."] | Num[np.ndarray, "..."]
Labels = Num[Array, "..."] | Num[np.ndarray, "..."]


def class_averages(
    images: Images,
    labels: Labels,
    kind: str = "simple",
    model: Any = None,
    *,
    k: int = 50,
    ranking: Float[np.ndarray, " n"] | None = None,
    classes: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    batch: int = 256,
    threshold: float = 0.99,
    steps: int = 200,
    learning_rate: float = 0.01,
    progress: bool = True,
) -> Float[Array, "k h w c"]:
    """Computes one average image per class.

    simple: Φ = (1/n) Σ xⱼ over the class, then (Φ − min Φ) / (max Φ − min Φ) · (hi − lo) + lo in each channel, lo
    and hi being the smallest and largest value of the class's images in that channel.

    most, least: (1/K) Σ xⱼ over the K images with the largest (smallest) softmax confidence p of their own class, equal
    ones in the order of the data. Ranked by log p/(1−p): the same order without the ties of a float32 p = 1.

    ascent: from the simple average, x ← clip(x + η · g / rms(g)) with g = ∂ log p / ∂x, until p ≥ threshold or for the
    given number of steps, clipped to the range of the data. Each step moves the pixels by η (root mean square). The
    surest image on the way is kept, so the result is never less sure than the simple average.

    Args:
        images: (n, h, w, c) floating point, usually in [0, 1].
        labels: (n,) integers, the class of each image and the model's output for it.
        kind: "simple", "most", "least" or "ascent".
        model: x (n, h, w, c) -> logits (n, outputs); needed by all kinds but "simple".
        k: K, images per class for "most" and "least".
        ranking: what `log_odds` gave for these images, if it is at hand: then the model is not asked again.
        classes: the classes to average, in the order wanted; all from 0 to the largest label if None.
        names: names of all classes, for error messages.
        batch: images that are in memory, and in the model, at a time.
        threshold: confidence in [0, 1] at which the ascent of a class stops.
        steps: the most steps of ascent.
        learning_rate: η, in the unit of the images.
        progress: whether to show a progress bar on stderr.

    Returns:
        (classes, h, w, c) float32. A channel that is constant in the mean stays as it is.

    Raises:
        ValueError: unknown kind, no model, an empty class, a class of fewer than K images, a NaN or infinite image,
            labels that do not fit the images or the model's outputs, a model that answers NaN, impossible options.
        TypeError: images are not floating point, or labels are not integers.

    Paper: sections 3.2.1 to 3.2.3 of the thesis on class average images; K, the ascent's step and threshold are ours.

    Example:
        >>> images = np.array([0.2, 0.4, 0.0, 1.0]).reshape(2, 1, 2, 1)
        >>> class_averages(images, np.array([0, 0]), progress=False).round(2).ravel().tolist()
        [0.0, 1.0]
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no average {kind!r}; {hint}there are {', '.join(KINDS)}")
    if ranking is not None and (ranking.shape != tuple(labels.shape) or np.isnan(ranking).any()):
        raise ValueError(
            f"a ranking has a number for each of {labels.shape[0]} images; got shape {ranking.shape}, or NaN"
        )
    if model is None and kind != "simple" and (kind == "ascent" or ranking is None):
        raise ValueError(f"averages of kind {kind!r} need a model, whose confidence they are made with")
    if not 0 < threshold <= 1 or steps < 0 or learning_rate <= 0:
        raise ValueError(
            f"ascent needs 0 < threshold ≤ 1, steps ≥ 0, learning_rate > 0; got {threshold}, {steps}, {learning_rate}"
        )
    check_images(images, batch)
    check_labels(images, labels)
    labels = np.asarray(labels)
    chosen = _choose(labels, classes, names, at_least=k if kind in ("most", "least") else 1)
    # JAX compiles every new slice of its own arrays.
    images = np.asarray(images) if isinstance(images, jax.Array) else images
    bar = Progress(console=Console(stderr=True), transient=True, disable=not progress)
    with bar:
        if kind in ("most", "least"):
            odds = _log_odds(model, images, labels, batch, bar) if ranking is None else ranking
            ascending = -odds if kind == "most" else odds
            ranked = [_ranked(ascending, np.flatnonzero(labels == label))[:k] for label in chosen]
            return jnp.asarray(np.stack([_mean(images, rows, batch) for rows in ranked]))
        simple, low, high = _simple(images, labels, chosen, batch, bar)
        if kind == "simple":
            return jnp.asarray(simple)
        limits = (float(low.min()), float(high.max()))
        return _ascend(model, simple, chosen, batch, limits, threshold, steps, learning_rate, bar)


def confidences(model: Any, averages: Images, *, batch: int = 256) -> Float[Array, "n k"]:
    """Asks the model what it takes each image for: the heat map of averages against classes.

    p = softmax(model(x)).

    Args:
        model: x (n, h, w, c) -> logits (n, k).
        averages: (n, h, w, c) images, usually one per class.
        batch: images in the model at a time.

    Returns:
        (n, k) confidences in [0, 1]; each row sums to 1.

    Raises:
        ValueError: there are no images, one has NaN, or the model's outputs are not (n, k), or are NaN.
        TypeError: images are not floating point.

    Example:
        >>> confidences(lambda x: x.mean((1, 2)), jnp.zeros((1, 4, 4, 2))).tolist()
        [[0.5, 0.5]]
    """
    check_images(averages, batch)
    parts = [values for _, values in evaluate(softmax, model, np.asarray(averages), None, batch)]
    return jnp.asarray(np.concatenate(parts))


def log_odds(
    model: Any, images: Images, labels: Labels, *, batch: int = 256, progress: bool = True
) -> Float[np.ndarray, " n"]:
    """Says how sure the model is of each image's own class, on a scale without end: log p/(1−p).

    Computed as z_own − log Σ_others exp z from the logits z: it tells apart confidences that are all 1 in float32.

    Args:
        model: x (n, h, w, c) -> logits (n, k).
        images: (n, h, w, c) floating point.
        labels: (n,) integers.
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
        return _log_odds(model, images, np.asarray(labels), batch, bar)


def _choose(labels: np.ndarray, classes: Sequence[int] | None, names: Sequence[str] | None, at_least: int) -> list[int]:
    """The classes to average; raises unless each has enough images."""
    if at_least < 1:
        raise ValueError(f"an average is of at least 1 image; got k={at_least}")
    chosen = list(range(labels.max() + 1)) if classes is None else [int(label) for label in classes]
    if not chosen:
        raise ValueError("no classes to average: `classes` is empty")
    for label in chosen:
        name = f"class {label}" + (f" ({names[label]!r})" if names is not None and 0 <= label < len(names) else "")
        count = int((labels == label).sum())
        if count == 0:
            raise ValueError(f"{name} has no images; leave it out of `classes`, or add images of it")
        if count < at_least:
            raise ValueError(f"{name} has {count} images, fewer than the k={at_least} to average; choose k ≤ {count}")
    return chosen


def _simple(
    images: Any, labels: np.ndarray, classes: list[int], batch: int, bar: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The stretched means (k, h, w, c), and each class's smallest and largest value in each channel (k, 1, 1, c)."""
    sums = np.zeros((len(classes), *images.shape[1:]))
    low, high = (np.full((len(classes), 1, 1, images.shape[3]), value) for value in (np.inf, -np.inf))
    task = bar.add_task("class averages", total=images.shape[0])
    for rows, part in batches(images, batch):
        present = set(labels[rows].tolist())
        for i, label in enumerate(classes):
            if label in present:
                mine = part[labels[rows] == label]
                sums[i] += mine.sum(axis=0, dtype=np.float64)
                low[i] = np.minimum(low[i], mine.min(axis=(0, 1, 2)))
                high[i] = np.maximum(high[i], mine.max(axis=(0, 1, 2)))
        bar.advance(task, len(part))
    means = sums / np.array([(labels == label).sum() for label in classes])[:, None, None, None]
    darkest, brightest = means.min(axis=(1, 2), keepdims=True), means.max(axis=(1, 2), keepdims=True)
    # In exact arithmetic a channel is constant or not; sums of equal numbers differ by a few units in the last place.
    constant = brightest - darkest <= 1e-12 * np.maximum(np.abs(brightest), np.abs(darkest))
    stretched = (means - darkest) / np.where(constant, 1, brightest - darkest) * (high - low) + low
    return np.where(constant, means, stretched).astype(np.float32), low, high


def _ranked(keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Row numbers by their keys, ascending, equal ones in the order of the data."""
    return rows[np.argsort(keys[rows], kind="stable")]


def _mean(images: Any, rows: np.ndarray, batch: int) -> np.ndarray:
    rows = np.sort(rows)
    total = sum(
        np.asarray(images[rows[start : start + batch]]).sum(axis=0, dtype=np.float64)
        for start in range(0, len(rows), batch)
    )
    return (total / len(rows)).astype(np.float32)


def _log_odds(model: Any, images: Any, labels: np.ndarray, batch: int, bar: Progress) -> np.ndarray:
    """log p/(1−p) of each image's own class, (n,)."""
    task = bar.add_task("confidences", total=images.shape[0])
    found = np.empty(images.shape[0], np.float32)
    for rows, values in evaluate(own_log_odds, model, images, labels, batch):
        found[rows] = values
        bar.advance(task, len(values))
    return found


@partial(jax.jit, static_argnums=0)
def _step(
    static: Static, arrays: list[Any], x: jax.Array, labels: jax.Array, low: Any, high: Any, rate: Any
) -> tuple[jax.Array, jax.Array]:
    """The log confidence of each image's class, and the images one step further up."""

    def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_p = jax.nn.log_softmax(logits(static, arrays, x), axis=-1)
        own = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
        return own.sum(), own

    (_, own), gradient = jax.value_and_grad(total, has_aux=True)(x)
    # Divided by the largest value first: squares of the small gradients of a sure network vanish in float32.
    largest = jnp.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
    gradient = gradient / jnp.where(largest == 0, 1, largest)
    size = jnp.sqrt((gradient**2).mean(axis=(1, 2, 3), keepdims=True))
    return own, jnp.clip(x + rate * gradient / jnp.where(size == 0, 1, size), low, high)


def _ascend(
    model: Any,
    start: np.ndarray,
    classes: list[int],
    batch: int,
    limits: tuple[float, float],
    threshold: float,
    steps: int,
    rate: float,
    bar: Progress,
) -> jax.Array:
    """The most confident image on each class's way up."""
    arrays, static = split(model)
    check_outputs(static, arrays, start.shape, np.asarray(classes))
    task = bar.add_task("gradient ascent", total=len(classes) * steps)
    results = []
    for first in range(0, len(classes), batch):
        x = best = jnp.asarray(start[first : first + batch])
        labels = jnp.asarray(classes[first : first + batch])
        surest = jnp.full(len(labels), -jnp.inf)
        for count in range(steps + 1):
            own, further = _step(static, arrays, x, labels, *limits, rate)
            if jnp.isnan(own).any():
                label = labels[jnp.argmax(jnp.isnan(own))]
                raise ValueError(f"the model answers NaN to the average of class {label}; look at its weights")
            better = own > surest
            best = jnp.where(better[:, None, None, None], x, best)
            surest = jnp.where(better, own, surest)
            done = surest >= np.log(threshold)
            if done.all() or count == steps:
                break
            # A class that is there stays where it is, whatever the others do.
            x = jnp.where(done[:, None, None, None], x, further)
            bar.advance(task, len(labels))
        results.append(best)
    return jnp.concatenate(results)
