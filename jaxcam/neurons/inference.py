"""A model asked about a whole data set: in batches of one shape, compiled once, whatever its weights.

The model is split into its arrays, which are an argument of the compiled function, and the rest, which is static. So
another set of weights needs no second compilation, and a closure, which has no arrays of its own, works as well.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.attribution.asking import check_batch
from jaxcam.program import accelerate
from jaxcam.program.compiled import compiled
from jaxcam.program.empty_maps import check_size
from jaxcam.program.trace import Static, split


def check_images(images: Any, batch: int) -> None:
    """Raises unless images are (n, h, w, c) floating point, at least one, and go in batches of at least one."""
    check_batch(images)
    if batch < 1:
        raise ValueError(f"a batch has at least 1 image; got batch={batch}")


def check_labels(images: Any, labels: Any) -> None:
    """Raises unless there is one whole number from 0 up for each image."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels are integers; got {labels.dtype}")
    count = images.shape[0]
    if tuple(labels.shape) != (count,):
        raise ValueError(f"{count} images need labels of shape ({count},); got {tuple(labels.shape)}")
    labels = np.asarray(labels)
    if labels.min() < 0:
        raise ValueError(f"labels count from 0; image {int(np.argmin(labels))} has label {labels.min()}")


def batches(images: Any, batch: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the data in order, each checked for NaN and infinite values."""
    for start in range(0, images.shape[0], batch):
        rows = slice(start, min(start + batch, images.shape[0]))
        part = np.asarray(images[rows])
        finite = np.isfinite(part).all(axis=(1, 2, 3))
        if not finite.all():
            raise ValueError(f"image {start + int(np.argmin(finite))} has NaN or infinite values")
        yield rows, part


def padded_batches(images: Any, labels: np.ndarray, batch: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Slices, float32 images and labels, all batches of one size: black images of label −1 fill up the last."""
    size = min(batch, images.shape[0])
    for rows, part in batches(images, batch):
        pad = size - len(part)
        padded = np.pad(part.astype(np.float32), ((0, pad), (0, 0), (0, 0), (0, 0)))
        yield rows, padded, np.pad(labels[rows].astype(np.int32), (0, pad), constant_values=-1)


def evaluate(
    function: Callable[..., jax.Array], model: Any, images: Any, labels: np.ndarray | None, batch: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Runs a compiled function of (model, images, labels) over the data, the last batch padded to the others' size."""
    arrays, static = split(model)
    labels = np.zeros(images.shape[0], np.int32) if labels is None else labels
    check_outputs(static, arrays, (min(batch, images.shape[0]), *images.shape[1:]), labels)
    for rows, padded, own in padded_batches(images, labels, batch):
        values = np.asarray(function(static, arrays, padded, np.maximum(own, 0)))[: rows.stop - rows.start]
        wrong = np.isnan(values).reshape(len(values), -1).any(axis=1)
        if wrong.any():
            raise ValueError(
                f"the model answers NaN to image {rows.start + int(np.argmax(wrong))}; look at its weights"
            )
        yield rows, values


def check_outputs(static: Static, arrays: list[Any], shape: tuple[int, ...], labels: np.ndarray) -> int:
    """How many logits the model gives; raises unless they are (n, k) with one for each label."""
    x_like = jax.ShapeDtypeStruct(shape, jnp.float32)
    outputs = jax.eval_shape(lambda arrays, x: logits(static, arrays, x), arrays, x_like)
    got = getattr(outputs, "shape", None)
    if got is None or len(got) != 2 or got[0] != shape[0]:
        raise ValueError(
            f"a model gives logits (n, k); for {shape[0]} images this one gives {got or type(outputs).__name__}"
        )
    check_size(static.join(arrays), shape)
    if labels.max() >= got[1]:
        raise ValueError(f"the model has {got[1]} outputs, but labels go up to {labels.max()}")
    return int(got[1])


@partial(compiled, static_argnums=0)
def logits(static: Static, arrays: list[Any], x: Any) -> Any:
    # The model's arrays are an argument: another set of weights needs no second compilation.
    return accelerate(lambda arrays, x: static.join(arrays)(x))(arrays, x)


@partial(compiled, static_argnums=0)
def softmax(static: Static, arrays: list[Any], x: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits(static, arrays, x), axis=-1)


@partial(compiled, static_argnums=0)
def own_log_odds(static: Static, arrays: list[Any], x: jax.Array, labels: jax.Array) -> jax.Array:
    """log p/(1−p) = z_own − log Σ_others exp z, which never saturates as p does."""
    z = logits(static, arrays, x)
    own = jax.nn.one_hot(labels, z.shape[1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, z), axis=1)
    return jnp.where(own, z, 0).sum(axis=1) - others
