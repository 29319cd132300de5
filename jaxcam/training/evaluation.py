"""How well a network classifies: its loss, its accuracy, and that of each class."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxcam.data import Dataset
from jaxcam.program import accelerate
from jaxcam.training.step import scores


class Evaluation(NamedTuple):
    """What `evaluate` finds.

    Args:
        loss: the mean softmax cross entropy, in nats.
        accuracy: the share of images classified rightly, in [0, 1].
        per_class: (k,) the same for the images of each class; NaN for a class that has none.
    """

    loss: float
    accuracy: float
    per_class: Float[np.ndarray, " k"]


def evaluate(model: Callable[..., Any], dataset: Dataset, batch: int = 256) -> Evaluation:
    """Classifies all images of a data set.

    Args:
        model: any pytree or function x (n, h, w, c) ↦ logits (n, k). An NNX module is evaluated in evaluation mode and
            left as it is.
        dataset: images and their labels.
        batch: how many images at once; no result depends on it beyond rounding.

    Returns:
        loss, accuracy and the accuracy of each class, as an `Evaluation`.

    Raises:
        ValueError: the model does not take the images, or has fewer outputs than there are labels.

    Example:
        >>> from jaxcam.data import load
        >>> digits = load("digits", "test", image_size=8)
        >>> always_three = lambda x: jax.nn.one_hot(jnp.full(len(x), 3), 10) * 100
        >>> result = evaluate(always_three, digits)
        >>> round(result.accuracy, 3), result.per_class[:5].tolist()
        (0.103, [0.0, 0.0, 0.0, 1.0, 0.0])
    """
    if isinstance(model, nnx.Module):
        model = nnx.clone(model)
        model.eval()
    check_labels(dataset, count_outputs(model, dataset))
    leaves, structure = jax.tree.flatten(model)
    # Activation functions, say, are leaves of some modules, and a bare function is nothing but one.
    fixed = tuple(None if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves)
    arrays = [None if other is not None else leaf for leaf, other in zip(leaves, fixed, strict=True)]
    return tally(functools.partial(_score, structure, fixed, arrays), dataset, batch)


def tally(score: Callable[[Any, Any], tuple[Array, Array]], dataset: Dataset, batch: int) -> Evaluation:
    """Adds up the scores of all images.

    Args:
        score: (x, y) ↦ each image's loss (n,) and whether it is classified rightly (n,).
        dataset: images and their labels.
        batch: how many images at once. The last batch is filled up with black images, which are not counted: in
            evaluation no image influences another, and one shape is compiled.

    Returns:
        the evaluation.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    batch = min(batch, dataset.count)
    losses, rights = [], []
    for start in range(0, dataset.count, batch):
        x, y = dataset.images[start : start + batch], dataset.labels[start : start + batch]
        padding = batch - len(x)
        if padding:
            x = np.concatenate([x, np.zeros((padding, *x.shape[1:]), x.dtype)])
            y = np.concatenate([y, np.zeros(padding, y.dtype)])
        loss, hit = score(x, y)
        losses.append(loss[: batch - padding])
        rights.append(hit[: batch - padding])
    right = np.concatenate(rights)
    k = len(dataset.names)
    hits = np.bincount(dataset.labels, weights=right, minlength=k)
    counts = np.bincount(dataset.labels, minlength=k)
    per_class = np.divide(hits, counts, out=np.full(k, np.nan), where=counts > 0)
    return Evaluation(float(np.concatenate(losses).mean(dtype=np.float64)), float(right.mean()), per_class)


def count_outputs(model: Callable[..., Any], dataset: Dataset) -> int:
    """How many classes a model tells apart.

    Raises:
        ValueError: it does not take images of this shape, or gives something other than logits (n, k).
    """
    x = jax.ShapeDtypeStruct((2, *dataset.images.shape[1:]), jnp.float32)
    try:
        outputs = jax.eval_shape(model, x)
    except (TypeError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise ValueError(f"the model does not take the {_shape(dataset)} images of {dataset.name}: {line}") from error
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != 2:
        raise ValueError(
            f"the model must give logits of shape (n, k), but of 2 images it makes {shape or type(outputs)}"
        )
    return int(shape[1])


def check_labels(dataset: Dataset, outputs: int) -> None:
    """Refuses labels beyond a model's outputs."""
    if (largest := dataset.labels.max()) >= outputs:
        name = dataset.names[largest]
        raise ValueError(f"{dataset.name} has the label {largest} ({name!r}), the model has {outputs} outputs")


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score(structure: Any, fixed: tuple[Any, ...], arrays: list[Any], x: Array, y: Array) -> tuple[Array, Array]:
    def logits(arrays: list[Any], x: Array) -> Array:
        leaves = [leaf if other is None else other for leaf, other in zip(arrays, fixed, strict=True)]
        result: Array = jax.tree.unflatten(structure, leaves)(x)
        return result

    return scores(accelerate(logits)(arrays, x), y)


def _shape(dataset: Dataset) -> str:
    return "×".join(map(str, dataset.images.shape[1:]))
