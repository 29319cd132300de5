"""Class average images: one picture that stands for a class, on which every unit is then asked what it sees.

The plain mean of a class is pale, and a network may not recognize it. So there are three remedies: stretch it to the
range of its data ("simple"), average only the images the network is surest or least sure of ("most", "least", which
stay plain means), or let the network change the stretched mean by gradient ascent ("ascent"; the network then explains
itself, so it is for comparison only). What was done to each picture, and what it reached, `average_classes` says.

Images are read in batches and never copied as a whole: any array with `shape`, `dtype` and slices will do, a
memory-mapped file too. Sums are taken in float64, so the batch size does not show in the result.

Paper: chapter 3.2 of the thesis on class average images.
"""

import dataclasses
import difflib
import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console
from rich.progress import Progress

from jaxcam.neurons._gradient_ascent import ascend
from jaxcam.neurons.average_record import STRETCHED, ClassAverages
from jaxcam.neurons.candidates import compete
from jaxcam.neurons.confidence import Images, Labels, confidences, log_odds_with_bar
from jaxcam.neurons.inference import batches, check_images, check_labels

Kind = Literal["simple", "most", "least", "ascent"]
KINDS: tuple[str, ...] = get_args(Kind)


def class_averages(
    images: Images,
    labels: Labels,
    kind: str = "simple",
    model: Any = None,
    *,
    k: int = 50,
    ranking: Float[np.ndarray, " n"] | None = None,
    classes: Sequence[int] | None = None,
    candidates: Sequence[int] | None = None,
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
    ones in the order of the data; not stretched. Ranked by log p/(1−p): the same order without the ties of a float32
    p = 1.

    ascent: from the simple average, x ← clip(x + η · g / rms(g)) with g = ∂ log p / ∂x, until p ≥ threshold or for the
    given number of steps, clipped to the range of the data. Each step moves the pixels by η (root mean square). The
    surest image on the way is kept, so the result is never less sure than the simple average. A class that does not
    come to the threshold is warned of; `average_classes` says what each reached.

    Args:
        images: (n, h, w, c) floating point, usually in [0, 1].
        labels: (n,) integers, the class of each image and the model's output for it.
        kind: "simple", "most", "least" or "ascent".
        model: x (n, h, w, c) -> logits (n, outputs); needed by all kinds but "simple".
        k: K, images per class for "most" and "least".
        ranking: what `log_odds` gave for these images, if it is at hand: then the model is not asked again.
        classes: the classes to average, in the order wanted; all from 0 to the largest label if None.
        candidates: the model's outputs that compete in the softmax; None for all of them.
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
            labels that do not fit the images, the model's outputs or the candidates, a model that answers NaN,
            impossible options.
        TypeError: images are not floating point, or labels are not integers.

    Paper: sections 3.2.1 to 3.2.3 of the thesis on class average images; K, the ascent's step and threshold are ours.

    Example:
        >>> images = np.array([0.2, 0.4, 0.0, 1.0]).reshape(2, 1, 2, 1)
        >>> class_averages(images, np.array([0, 0]), progress=False).round(2).ravel().tolist()
        [0.0, 1.0]
    """
    averages = _average(
        images, labels, kind, model, k, ranking, classes, candidates, names, batch,
        threshold, steps, learning_rate, progress,
    )  # fmt: skip
    titles = [f"class {output}" for output in averages.outputs]
    if names is not None:
        titles = [names[i] if i < len(names) else f"class {i}" for i in averages.outputs]
    if message := averages.missed(titles):
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return averages.images


def average_classes(
    images: Images,
    labels: Labels,
    kind: str = "simple",
    model: Any = None,
    *,
    k: int = 50,
    ranking: Float[np.ndarray, " n"] | None = None,
    classes: Sequence[int] | None = None,
    candidates: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    batch: int = 256,
    threshold: float = 0.99,
    steps: int = 200,
    learning_rate: float = 0.01,
    progress: bool = True,
) -> ClassAverages:
    """Computes one average image per class, and says what was done to each.

    The images are those of `class_averages`, with the same formulas. With them: whether they are stretched, of how many
    images each is the mean, the steps of ascent behind it, p = softmax of its own class (where there is a model), and
    whether ascent came to its threshold.

    Args:
        images: (n, h, w, c) floating point, usually in [0, 1].
        labels: (n,) integers, the class of each image and the model's output for it.
        kind: "simple", "most", "least" or "ascent".
        model: x (n, h, w, c) -> logits (n, outputs); needed by all kinds but "simple".
        k: K, images per class for "most" and "least".
        ranking: what `log_odds` gave for these images, if it is at hand: then the model is not asked again.
        classes: the classes to average, in the order wanted; all from 0 to the largest label if None.
        candidates: the model's outputs that compete in the softmax; None for all of them.
        names: names of all classes, for error messages.
        batch: images that are in memory, and in the model, at a time.
        threshold: confidence in [0, 1] at which the ascent of a class stops.
        steps: the most steps of ascent.
        learning_rate: of ascent, in the unit of the images.
        progress: whether to show a progress bar on stderr.

    Returns:
        A `ClassAverages`; a threshold that was missed is in its `reached` and in the sentence of `missed`, and is not
        warned of.

    Raises:
        ValueError: as `class_averages`.
        TypeError: as `class_averages`.

    Paper: sections 3.2.1 to 3.2.3 of the thesis on class average images.

    Example:
        >>> net = lambda x: x.mean((1, 2)) @ jnp.array([[1.0, -1.0]])
        >>> images = np.array([0.2, 0.4, 0.0, 1.0]).reshape(2, 1, 2, 1)
        >>> found = average_classes(images, np.array([0, 1]), "ascent", net, steps=3, progress=False)
        >>> found.stretched, found.counts.tolist(), found.steps.tolist(), found.reached.tolist()
        (True, [1, 1], [3, 3], [False, False])

    When it misleads: "simple" and "ascent" are stretched and "most" and "least" are not, and stretching alone changes
    how sure a network is. Compare most with least, and ascent with simple.
    """
    averages = _average(
        images, labels, kind, model, k, ranking, classes, candidates, names, batch,
        threshold, steps, learning_rate, progress,
    )  # fmt: skip
    if model is None:
        return averages
    values = confidences(model, averages.images, candidates=candidates, batch=batch)
    own = averages.confidence  # of ascent, which has measured what decided about its threshold
    if own is None:
        _, columns = compete(model, np.array(averages.outputs), candidates)
        own = np.asarray(values)[np.arange(len(columns)), columns]
    return dataclasses.replace(averages, confidence=own, confidences=values)


def _average(
    images: Images,
    labels: Labels,
    kind: str,
    model: Any,
    k: int,
    ranking: np.ndarray | None,
    classes: Sequence[int] | None,
    candidates: Sequence[int] | None,
    names: Sequence[str] | None,
    batch: int,
    threshold: float,
    steps: int,
    learning_rate: float,
    progress: bool,
) -> ClassAverages:
    """The averages; their confidence is there for ascent only."""
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
    record: dict[str, Any] = {"kind": kind, "outputs": tuple(chosen), "stretched": STRETCHED[kind]}
    bar = Progress(console=Console(stderr=True), transient=True, disable=not progress)
    with bar:
        if kind in ("most", "least"):
            odds = ranking
            if odds is None:
                odds = log_odds_with_bar(model, images, labels, candidates, batch, bar)
            ascending = -odds if kind == "most" else odds
            ranked = [_ranked(ascending, np.flatnonzero(labels == label))[:k] for label in chosen]
            means = np.stack([_mean(images, rows, batch) for rows in ranked])
            return ClassAverages(images=jnp.asarray(means), counts=np.full(len(chosen), k), **record)
        simple, low, high = _simple(images, labels, chosen, batch, bar)
        counts = np.array([int((labels == label).sum()) for label in chosen])
        if kind == "simple":
            return ClassAverages(images=jnp.asarray(simple), counts=counts, **record)
        limits = (float(low.min()), float(high.max()))
        model, places = compete(model, np.array(chosen), candidates)
        way = ascend(model, simple, places.tolist(), batch, limits, threshold, steps, learning_rate, bar)
    return ClassAverages(
        images=way.images,
        counts=counts,
        confidence=np.exp(way.log_confidence),
        steps=way.steps,
        most_steps=steps,
        threshold=threshold,
        reached=way.log_confidence >= np.log(threshold),
        **record,
    )


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
