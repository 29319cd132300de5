"""The frame around every method: a model, images and a target in; a checked, compiled answer out.

A public method is a few lines: it names its inner function, and `ask` does what all methods have in common — checks
of images and target, one compilation for each (model structure, shapes, options), the fast replay of the model, and
the search for the culprit when an answer is not finite.

    def saliency(model, x, target=None):
        return ask(_saliency, model, x, target)

    def _saliency(question, x):
        return question.gradient(x)

The inner function runs under `jax.jit`. It gets a `Question`; extra arrays (a key, a baseline) come as positional
arguments after x, options as keywords. Options are static: hashable and compared by value.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxcam.attribution.budget import check_fits
from jaxcam.attribution.completeness import Complete, check_complete, unit_roundoff
from jaxcam.attribution.finite import culprit
from jaxcam.attribution.targets import Contrast, Target, check_one_array, check_target, predicted, score
from jaxcam.program.batch import batch_dependence
from jaxcam.program.compiled import compiled
from jaxcam.program.empty_maps import check_not_empty
from jaxcam.program.rewrite import accelerate
from jaxcam.program.sharing import IMAGES, divided, mesh_for, spread
from jaxcam.program.trace import Static, split, trace
from jaxcam.program.transform import Renewed, RuleError


@dataclasses.dataclass(frozen=True)
class Question:
    """A model and a target, ready to be asked about images.

    Attributes:
        model: x ↦ outputs, as the user wrote it.
        target: what is explained; ints are an array (n,) or (), see `score`.
    """

    model: Callable[[Any], Any]
    target: Any

    def outputs(self, x: Array) -> Any:
        """The model's outputs, computed the fast way."""
        return accelerate(self.model)(x)

    def scores(self, x: Array) -> Float[Array, " n"]:
        """One score for each image (n,)."""
        return score(self.outputs(x), self.target)

    def gradient(self, x: Array) -> Array:
        """∂(Σ scores)/∂x, like x: images do not mix, so it holds each image's own gradient."""
        return jax.grad(lambda images: jnp.sum(self.scores(images)))(x)

    def gradient_and_scores(self, x: Array) -> tuple[Array, Array]:
        """Both, of one pass: like x, and (n,)."""

        def total(images: Array) -> tuple[Array, Array]:
            scores = self.scores(images)
            return jnp.sum(scores), scores

        return jax.grad(total, has_aux=True)(x)

    def settled(self, x: Array) -> Question:
        """The question with the predicted class of x written down, for methods that leave x (paths, masks, noise)."""
        if self.target is not None:
            return self
        return dataclasses.replace(self, target=predicted(self.outputs(x)))

    def of(self, model: Callable[[Any], Any]) -> Question:
        """The same question to another model."""
        return dataclasses.replace(self, model=model)


def ask(inner: Callable[..., Any], model: Any, x: Any, target: Target, *arrays: Any, **options: Any) -> Any:
    """Runs the inner function of a method, compiled, on checked arguments.

    Args:
        inner: (question, x, *arrays, **options) ↦ a pytree of arrays.
        model: any callable `x -> outputs`.
        x: images (n, h, w, c).
        target: see `score`.
        *arrays: pytrees of arrays: keys, baselines, segments.
        **options: hashable; each combination compiles once.

    Returns:
        What the inner function returns.

    Raises:
        TypeError: a model that cannot be called, images or target of a wrong kind.
        ValueError: images of a wrong shape or with NaN, a target out of range, a model that mixes the images of a
            batch, an answer that is not finite (the first equation that made it so is named) or, outside `jit`, breaks
            the method's own completeness.
    """
    check_images(x)
    x = jnp.asarray(x)
    if not callable(model):
        raise TypeError(f"a model is a callable x -> outputs; got {type(model).__name__}")
    model_arrays, static = split(model)
    if callable(target):
        target_arrays, target_static = split(target)
    else:
        target_static = None
        target_arrays = [] if target is None else [target if is_traced(target) else np.asarray(target)]
    shapes = tuple(jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)) for a in model_arrays)
    chooses = callable(target) and not isinstance(target, Contrast)
    outputs, eps = _examine(static, shapes, tuple(x.shape), jnp.dtype(x.dtype), chooses)
    check_target(target, outputs, len(x))
    chosen = tuple(sorted(options.items()))
    mesh = mesh_for(len(x), (model_arrays, target_arrays, x, arrays))
    answer, finite, sides = _run(inner, static, target_static, chosen, mesh, model_arrays, target_arrays, x, *arrays)
    if not is_traced(finite) and not finite:
        raise ValueError(culprit(model, x))
    if sides is not None and not is_traced(sides):
        check_complete(inner.__name__.removeprefix("_").removesuffix("_of_all"), sides, eps)
    return answer


@functools.partial(compiled, static_argnums=(0, 1, 2, 3, 4))
def _run(
    inner: Callable[..., Any],
    static: Static,
    target_static: Static | None,
    options: tuple[tuple[str, Any], ...],
    mesh: Mesh | None,
    model_arrays: list[Any],
    target_arrays: list[Any],
    x: Array,
    *arrays: Any,
) -> tuple[Any, Array, Any]:
    """The answer, whether it and the outputs are finite (a NaN on the way can leave a map that looks well), and both
    sides of the completeness of a method that has one.
    """
    target: Any = None
    if target_static is not None:
        target = target_static.join(target_arrays)
    elif target_arrays:
        target = jnp.asarray(target_arrays[0])
    question = Question(Renewed(static.join(model_arrays)), target)
    with divided(mesh):
        x = spread(x, IMAGES)
        answer = inner(question, x, *arrays, **dict(options))
        answer, *sides = answer if isinstance(answer, Complete) else (answer,)
        finite = _all_finite((answer, question.outputs(x)))  # the compiler computes the outputs once
        return answer, finite, tuple(sides) or None


@functools.lru_cache(maxsize=64)
def _examine(
    static: Static, arrays: tuple[Any, ...], shape: tuple[int, ...], dtype: Any, chooses: bool
) -> tuple[Any, float]:
    """The shapes of a model's outputs, and its unit roundoff; raises where it fails or mixes the images of a batch.

    Args:
        static: the model without its arrays.
        arrays: the shapes of these.
        shape: of the images.
        dtype: of the images.
        chooses: whether the target is a function of all outputs; then these may have any shapes.
    """
    x = jax.ShapeDtypeStruct(shape, dtype)

    def function(leaves: list[Any], images: Any) -> Any:
        return static.join(leaves)(images)

    try:
        program = trace(function, list(arrays), x)
    except RuleError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        first = len(shape) == 4 and shape[1] in (1, 3) and shape[-1] not in (1, 3) and "transpose" not in reason
        hint = "; images are (n, h, w, c): x.transpose(0, 2, 3, 1)" if first else ""
        raise ValueError(f"the model fails on images of shape {shape} ({dtype}): {reason}{hint}") from error
    leaves = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in program.output_avals]
    structure = jax.tree_util.tree_unflatten(program.out_tree, leaves)
    if leaves and not chooses:
        check_one_array(structure)
    if not leaves or (not chooses and any(not leaf.shape or leaf.shape[0] != shape[0] for leaf in leaves)):
        got = ", ".join(str(leaf.shape) for leaf in leaves) or "nothing"
        raise ValueError(f"a model gives outputs for each image, ({shape[0]}, …); this one gives {got}")
    check_not_empty(
        dataclasses.replace(program, paths=(*static.paths(arrays), ())),
        lambda shape: trace(function, list(arrays), jax.ShapeDtypeStruct(shape, dtype)),
    )
    if (complaint := batch_dependence(static, list(arrays), x, program)) is not None:
        raise ValueError(complaint)
    check_fits(program, shape)
    return structure, unit_roundoff(program)


def check_images(x: Any) -> None:
    """Raises unless x is a batch of finite images (n, h, w, c).

    Raises:
        TypeError: no array, or not floating point.
        ValueError: another shape, nothing in it, or NaN.
    """
    if not hasattr(x, "dtype") or not hasattr(x, "shape"):
        raise TypeError(f"images are an array (n, h, w, c); got {type(x).__name__}")
    check_batch(x)
    check_finite(x)


def check_batch(x: Any) -> None:
    """Raises unless x is floating point (n, h, w, c), at least one image; the numbers are not looked at."""
    shape = getattr(x, "shape", None)
    if shape is None or len(shape) != 4 or 0 in shape:
        hint = "; one image needs a batch axis, x[None]" if shape is not None and len(shape) == 3 else ""
        got = shape if shape is None else tuple(shape)
        raise ValueError(f"images are a non-empty array (n, h, w, c); got shape {got}{hint}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"images are floating point, usually in [0, 1]; got {x.dtype} (divide bytes by 255)")


def check_finite(x: Any) -> None:
    """Raises where an image has NaN or infinite values; what is traced has no values yet."""
    if not is_traced(x):
        finite = np.isfinite(np.asarray(x)).all(axis=(1, 2, 3))
        if not finite.all():
            raise ValueError(f"image {int(np.argmin(finite))} has NaN or infinite values")


def check_count(value: Any, name: str, least: int = 1, where: str = "") -> int:
    """An option that is a whole number.

    Args:
        value: the option.
        name: what the message calls it.
        least: the smallest it may be.
        where: what this limit holds for, at the end of the message's first half.

    Raises:
        ValueError: no whole number, or too small.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is a whole number from {least} up{where}; got {value!r}")
    return int(value)


def check_chunk(chunk: int | None) -> None:
    """Raises unless a chunk size is None or a whole number from 1 up."""
    if chunk is not None:
        check_count(chunk, "chunk")


def check_key(key: Any) -> None:
    """Raises unless the key is one that `jax.random.key` or `jax.random.PRNGKey` made."""
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and key.shape == ()
    if not typed and not (dtype == jnp.uint32 and key.shape == (2,)):
        raise TypeError(f"a randomized method takes key=jax.random.key(seed); got {type(key).__name__}")


def _all_finite(answer: Any) -> Array:
    """Whether no floating-point array of a pytree has NaN or infinite values."""
    arrays = [a for a in jax.tree_util.tree_leaves(answer) if jnp.issubdtype(jnp.result_type(a), jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(a).all() for a in arrays])) if arrays else jnp.array(True)


def is_traced(values: Any) -> bool:
    """Whether an array, or one of a pytree, has no values yet, inside `jit`."""
    return any(isinstance(value, jax.core.Tracer) for value in jax.tree_util.tree_leaves(values))
