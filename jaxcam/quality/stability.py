"""Max-sensitivity: does a method give nearly the same map for nearly the same image?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask, check_count, check_images, check_key
from jaxcam.attribution.targets import Target
from jaxcam.quality.asked import as_maps


def max_sensitivity(
    model: Any,
    x: Array,
    method: Any,
    target: Target = None,
    *,
    key: Array,
    samples: int = 10,
    radius: int | float = 0.02,
) -> Float[Array, " n"]:
    """How much a method's map changes, at most, when the image hardly does.

    max over draws of ‖M(x + δ) − M(x)‖ / ‖M(x)‖ with δ uniform in [−r, r] for each number of the image. Small is good.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        method: (model, x, target) ↦ maps: any method of jaxcam, options set by `functools.partial`.
        target: a class for all images or one for each, None for the class predicted for x, which is then explained in
            its neighbors too, or a callable outputs -> (n,).
        key: of `jax.random`, for the draws; the same for each image.
        samples: how many neighbors.
        radius: r, in units of x, > 0.

    Returns:
        One number for each image, (n,), ≥ 0.

    Raises:
        TypeError: images, target or key of a wrong kind, a method that cannot be called.
        ValueError: no samples, a radius that is not positive, a map of zeros; what the method raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcam import saliency
        >>> lit = lambda x: x.sum((1, 2))
        >>> max_sensitivity(lit, jnp.ones((1, 2, 2, 1)), saliency, key=jax.random.key(0)).tolist()
        [0.0]

    Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", 2019. Differs from: the paper does not divide by
    the map's norm; Captum does, and so do we, that methods of different scales can be compared. When it misleads: a
    map that does not depend on the image is best.
    """
    check_images(x)
    check_key(key)
    check_count(samples, "samples")
    check_method(method)
    if isinstance(radius, bool) or not radius > 0:
        raise ValueError(f"radius is a number above 0, in units of the images; got {radius!r}")
    x = jnp.asarray(x)
    target = settled_target(model, x, target)
    start = as_maps(method(model, x, target))
    worst = jnp.zeros(x.shape[0], start.dtype)
    for sample in range(samples):
        draw = jax.random.uniform(jax.random.fold_in(key, sample), x.shape[1:], x.dtype, -radius, radius)
        worst = jnp.maximum(worst, _norms(as_maps(method(model, x + draw, target)) - start))
    norms = _norms(start)
    if not isinstance(norms, jax.core.Tracer) and not (np.asarray(norms) > 0).all():
        raise ValueError(f"map {int(np.argmin(np.asarray(norms) > 0))} is 0 everywhere: a change of it has no scale")
    return worst / norms


def check_method(method: Any) -> None:
    """Raises unless a method can be called."""
    if not callable(method):
        raise TypeError(f"a method is a function (model, x, target) -> maps, such as jc.saliency; got {method!r}")


def settled_target(model: Any, x: Array, target: Target) -> Any:
    """The target; the predicted class where it is None."""
    return ask(_predicted, model, x, target) if target is None else target


def _predicted(question: Question, x: Array) -> Any:
    return question.settled(x).target


def _norms(maps: Array) -> Float[Array, " n"]:
    return jnp.sqrt(jnp.sum(maps**2, tuple(range(1, maps.ndim))))
