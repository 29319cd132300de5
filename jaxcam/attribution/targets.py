"""What is being explained: from outputs to one score for each image.

A target is an int (a class, or a unit of a tapped layer; one for all images or one for each), None for the predicted
class, or a callable `outputs -> (n,)`. Outputs with space (a tapped convolution) are summed over it. Every method
turns its target into a score with `score`, so all methods take all targets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Classes = int | np.integer | Sequence[int] | np.ndarray | Array
Target = Classes | Callable[[Any], Any] | None


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Why this class rather than that: the target zₐ − z_b. Made by `contrast`.

    Attributes:
        first: the class in favor, one for all images or one for each.
        second: the class against.
    """

    first: int | tuple[int, ...]
    second: int | tuple[int, ...]

    def __call__(self, outputs: Array) -> Array:
        check_target(self.first, outputs)
        check_target(self.second, outputs)
        return score(outputs, self.first) - score(outputs, self.second)


def contrast(first: Classes, second: Classes) -> Contrast:
    """A target that asks why one class rather than another.

    s(x) = zₐ(x) − z_b(x), with z the outputs (summed over space).

    Args:
        first: the class in favor, a; one for all images or one for each.
        second: the class against, b; likewise.

    Returns:
        A target for every method.

    Raises:
        ValueError: at the call of a method, if a class is out of range.

    Example:
        >>> float(contrast(0, 2)(jnp.array([[5.0, 1.0, 3.0]]))[0])
        2.0
    """

    def plain(classes: Any) -> int | tuple[int, ...]:
        numbers = np.asarray(classes)
        if numbers.ndim > 1 or not np.issubdtype(numbers.dtype, np.integer):
            raise TypeError(f"a contrast is between two classes, each an int or one int for each image; got {classes}")
        return tuple(int(number) for number in numbers) if numbers.ndim else int(numbers)

    return Contrast(plain(first), plain(second))


def per_output(outputs: Array) -> Float[Array, "n k"]:
    """Outputs (n, k), or (n, …, k) summed over space."""
    return jnp.sum(outputs, axis=tuple(range(1, outputs.ndim - 1)))


def score(outputs: Any, target: Target) -> Float[Array, " n"]:
    """One number for each image: what the target says of the outputs.

    Args:
        outputs: the model's, (n, k) or (n, …, k); whatever a callable target understands.
        target: a class for all images or one for each, None for the predicted class, or a callable.

    Returns:
        Scores (n,), differentiable with respect to the outputs.
    """
    if callable(target):
        return target(outputs)
    if outputs.ndim == 1:  # one score for each image is its own target
        return outputs
    values = per_output(outputs)
    return select_output(values, jnp.argmax(values, -1) if target is None else jnp.asarray(target))


def select_output(values: Float[Array, "n k"], index: Array) -> Float[Array, " n"]:
    """One of k numbers for each image, values[i, index[i]].

    By a mask and a sum: what NaN or infinity the others are does not matter, nor to the gradient, and XLA has no
    gather to fold. An index out of range, which only a traced one can be, gives NaN.

    Args:
        values: (n, k).
        index: one for all images () or one for each (n,), from 0 up.
    """
    index = jnp.broadcast_to(index, values.shape[:1])
    known = (index >= 0) & (index < values.shape[-1])
    mask = (index[:, None] == jnp.arange(values.shape[-1])) | ~known[:, None]
    number = jnp.sum(jnp.where(mask, values, 0), -1, dtype=values.dtype)
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        return number
    return number * jnp.where(known, 1, jnp.nan).astype(values.dtype)  # and so is the gradient


def predicted(outputs: Array) -> Array:
    """The class with the largest output, for each image (n,)."""
    return jnp.zeros(outputs.shape, int) if outputs.ndim == 1 else jnp.argmax(per_output(outputs), -1)


def check_one_array(outputs: Any) -> None:
    """Raises unless a model gives one array; the message says how to take one of several.

    Raises:
        TypeError: outputs that only a callable target can choose from.
    """
    leaves = jax.tree_util.tree_leaves(outputs)
    if len(leaves) == 1 and leaves[0] is outputs:
        return
    entry = f"[{next(iter(outputs))!r}]" if isinstance(outputs, dict) and outputs else "[0]"
    raise TypeError(
        f"the model gives a {type(outputs).__name__} of {len(leaves)} arrays: explain one of them, "
        f"lambda x: model(x){entry}, or choose by the target, a callable outputs -> (n,)"
    )


def check_target(target: Any, outputs: Any, count: int | None = None) -> None:
    """Raises unless a target fits the outputs (their shapes are enough).

    Args:
        target: see `score`.
        outputs: of the model.
        count: the number of images, where outputs need not have it; by default what outputs have.

    Raises:
        TypeError: a target of no kind known, or outputs only a callable can choose from.
        ValueError: a class out of range, targets of the wrong length, or scores of the wrong shape.
    """
    if isinstance(target, Contrast):
        check_target(target.first, outputs, count)
        check_target(target.second, outputs, count)
        return
    if callable(target):
        n = jax.tree_util.tree_leaves(outputs)[0].shape[0] if count is None else count
        _check_scores(jax.eval_shape(target, outputs), n)
        return
    check_one_array(outputs)
    n, k = outputs.shape[0], outputs.shape[-1]
    if outputs.ndim == 1:
        if target is not None and not _is_zero(target):
            raise ValueError(f"the model gives one score for each image (n,): the target is None or 0, not {target}")
        return
    if target is None:
        return
    if isinstance(target, jax.core.Tracer):
        shape, dtype = target.shape, target.dtype
    else:
        shape, dtype = np.shape(target), np.asarray(target).dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(
            f"a target is an int, one int for each image, None (the predicted class) or a callable; got {target!r}"
        )
    if shape not in {(), (n,)}:
        raise ValueError(f"{n} images need one target, or {n} of them in a row; got shape {tuple(shape)}")
    if not isinstance(target, jax.core.Tracer):
        numbers = np.atleast_1d(np.asarray(target))
        wrong = numbers[(numbers < 0) | (numbers >= k)]
        if wrong.size:
            raise ValueError(f"target {wrong[0]} is out of range: the model has {k} outputs, 0 to {k - 1}")


def _is_zero(target: Any) -> bool:
    """Whether a target is 0 as far as can be seen: a traced one cannot be looked at."""
    return isinstance(target, jax.core.Tracer) or not np.any(np.asarray(target))


def _check_scores(scores: Any, n: int) -> None:
    shape = getattr(scores, "shape", None)
    if shape != (n,):
        got = type(scores).__name__ if shape is None else f"shape {shape}"
        raise ValueError(f"a callable target gives one score for each image, ({n},); this one gives {got}")
