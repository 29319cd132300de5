"""Activation maximization: the picture that a class, a unit, several or a direction would like best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.attribution.asking import ask, check_chunk, check_count, check_images, check_key
from jaxcam.attribution.targets import Target
from jaxcam.program.trace import split
from jaxcam.program.transform import as_pytree
from jaxcam.studies.ascent import COSTS, Maximized, ascend
from jaxcam.studies.canvases import KINDS, Canvas
from jaxcam.studies.disturbances import Disturbance

SPACES = ("sum", "center")
SCORES = ("output", "probability")


def maximize(
    model: Any,
    x: Any,
    target: Target = None,
    *,
    key: Array,
    steps: int = 128,
    wake: int = 16,
    learning_rate: float = 0.05,
    score: str = "output",
    space: str = "sum",
    canvas: str = "fourier",
    colors: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    jitter: int | None = None,
    rotation: float = 10.0,
    scale: float = 0.2,
    l2: float = 0.0,
    tv: float = 0.0,
    blur: float = 0.0,
    center: float | None = None,
    patches: Any = None,
    likeness: float = 0.0,
    answers: int = 1,
    diversity: float = 0.0,
    layer: str | None = None,
    generator: Any = None,
    latent: tuple[int, ...] | None = None,
    chunk: int | None = None,
) -> Maximized:
    """The pictures that excite classes or units most, found by gradient ascent.

    x* = argmax s(T(x)) − R(x), with s the target's score, T a random disturbance drawn anew at each step, and
    R = l2 · mean (x − x₀)² + tv · total variation + likeness · distance to real patches + diversity · sameness.
    Adam ascends on waves (or pixels) of which x is made: x = low + (high − low) · σ(base + window · C · waves), with C
    the colors of photographs. All targets run in one vmap, with the same draws, so each gets what it would alone.

    Args:
        model: any callable `x -> outputs`; `jc.tap(model, layer)` for the units of a layer.
        x: what to start from: images (n, h, w, c) within the bounds, of which the mean is taken; or a shape (h, w, c)
            for the middle of the bounds.
        target: a class or unit; several, for a picture each; None for all there are; or a callable outputs -> (a,),
            such as `direction({3: 1, 5: 1})` for a sum of units.
        key: of the start and the disturbances.
        steps: of Adam.
        wake: so many first steps in which a silent target, which has no gradient at all, is followed as if the ReLUs
            were open (`jc.deconv`); has no effect on models with operations that rule does not know.
        learning_rate: of Adam.
        score: "output", or "probability" for its logarithm under the softmax over all outputs.
        space: of outputs with space, their "sum" over it, or the one place at the "center".
        canvas: "fourier" for waves of amplitude 1 / frequency, or "pixel".
        colors: whether to mix the channels as photographs do; where there are three.
        bounds: the least and greatest value of an image.
        jitter: at most so many pixels of shift; None for a fourteenth of the shorter side.
        rotation: at most so many degrees.
        scale: at most this share larger or smaller.
        l2: weight of the mean squared distance from the start (of the mean square of the code, with a generator).
        tv: weight of the total variation, the mean absolute difference between neighbors.
        blur: width in pixels of a Gaussian that blurs the picture after every fourth step.
        center: width of a window, in shares of half the side (above 0, up to 1), outside which the picture stays as it
            began.
        patches: real patches (p, s, t, c) that the picture's tiles shall be like.
        likeness: weight of the mean squared distance of each tile from its nearest patch.
        answers: pictures for each target.
        diversity: weight of their sameness: the mean cosine between Gram matrices of `layer`.
        layer: a layer of the model, where answers shall differ.
        generator: a callable pytree code (a, …) -> images (a, h, w, c), to ascend on codes instead.
        latent: the shape of one code.
        chunk: targets at once; None for what fits.

    Returns:
        Pictures, their scores and the way there.

    Raises:
        TypeError: images, target or key of a wrong kind.
        ValueError: what `jc.saliency` raises, or an option that makes no sense; in one line.

    Example:
        >>> net = lambda x: x.mean((1, 2)) @ jnp.array([[1.0, -1.0]])
        >>> found = maximize(net, (4, 4, 1), key=jax.random.key(0), steps=64)
        >>> [round(float(image.mean())) for image in found.images]
        [1, 0]

    Erhan et al., "Visualizing Higher-Layer Features of a Deep Network", 2009; Mahendran and Vedaldi 2015 (total
    variation, jitter); Yosinski et al. 2015 (blur); Nguyen et al. 2016 (mean image, center, generator); Wei et al. 2015
    (patches); Olah et al., "Feature Visualization", 2017 (waves, colors, diversity). Differs from: what leaves at one
    edge comes in at the other, as waves do; the center is a window on the picture, not a mask on its gradient.
    When it misleads: a picture shows what raises the score, not what the network met; regularizers are a prior of
    ours. Compare with `most_exciting`.
    """
    start = _start(x, bounds)
    check_key(key)
    check_chunk(chunk)
    shape: Any = tuple(start.shape[1:])
    moved = min(shape[:2]) // 14 if jitter is None else jitter
    _check(locals())
    weights = (l2, tv, likeness, diversity)
    picture = Canvas(canvas, shape, colors and shape[2] == 3, center, float(bounds[0]), float(bounds[1]))
    codes, form = split(generator if generator is None else as_pytree(generator))
    if generator is not None:
        _check_generator(form, codes, (answers, *(latent or ())), shape)
    if patches is not None and (np.ndim(patches) != 4 or patches.shape[3] != shape[2]):
        raise ValueError(f"patches are (p, s, t, {shape[2]}), like the image; got shape {np.shape(patches)}")
    units = None if callable(target) or target is None else np.atleast_1d(np.asarray(target))
    if units is not None and not units.size:
        raise ValueError("no target: give a class or unit, several, or None for all there are")
    asked = target if units is None else (units.min() if units.min() < 0 else units.max()).item()
    return ask(
        ascend,
        model,
        start,
        asked,
        key,
        units,
        patches,
        codes,
        np.array([learning_rate, *weights], float),
        steps=steps,
        wake=wake,
        kind=(score, space),
        canvas=picture,
        disturbance=Disturbance(int(moved), float(rotation), float(scale)),
        costs=tuple(name for name, weight in zip(COSTS, weights, strict=True) if weight),
        blur=float(blur),
        answers=answers,
        layer=layer,
        generator=None if generator is None else form,
        latent=latent,
        chunk=chunk,
    )


def evolution(models: Sequence[Any], x: Any, target: Target = None, *, key: Array, **options: Any) -> list[Maximized]:
    """How what excites a unit changes while a network learns: its pictures at each of some checkpoints.

    All begin with the same key, so what differs between them is the network's. One compilation serves them all.

    Args:
        models: the network at each checkpoint, as `jc.models.load` reads them.
        x: what to start from, as for `maximize`.
        target: likewise.
        key: likewise.
        **options: of `maximize`.

    Returns:
        What `maximize` returns, for each checkpoint.

    Raises:
        ValueError: no models, or what `maximize` raises.

    Example:
        >>> nets = [lambda x, w=w: w * x.mean((1, 2)) for w in (1.0, -1.0)]
        >>> [round(float(f.images.mean())) for f in evolution(nets, (4, 4, 1), 0, key=jax.random.key(0))]
        [1, 0]
    """
    if not models:
        raise ValueError("no checkpoints to follow; give a list of models")
    return [maximize(model, x, target, key=key, **options) for model in models]


def _start(x: Any, bounds: Any) -> Array:
    """The image all begin with (1, h, w, c)."""
    if not isinstance(bounds, tuple) or len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ValueError(f"bounds are the least and the greatest value of an image, (low, high); got {bounds!r}")
    if isinstance(x, tuple):
        if len(x) != 3 or any(not isinstance(size, int) or size < 1 for size in x):
            raise ValueError(f"the shape of an image is (h, w, c), whole numbers from 1 up; got {x}")
        return jnp.full((1, *x), sum(bounds) / 2, jnp.result_type(float))
    check_images(x)
    if not isinstance(x, jax.core.Tracer) and not (bounds[0] <= np.min(x) and np.max(x) <= bounds[1]):
        raise ValueError(f"images to start from reach from {np.min(x):.3g} to {np.max(x):.3g}, beyond bounds={bounds}")
    return jnp.mean(jnp.asarray(x), 0, keepdims=True)


def _check(given: dict[str, Any]) -> None:
    """Raises unless the options make sense, alone and together."""
    for name, choices in (("score", SCORES), ("space", SPACES), ("canvas", KINDS)):
        if given[name] not in choices:
            raise ValueError(f"{name} is {' or '.join(map(repr, choices))}; got {given[name]!r}")
    for name in ("steps", "answers"):
        check_count(given[name], name)
    check_count(given["wake"], "wake", 0)
    if given["jitter"] is not None:
        check_count(given["jitter"], "jitter", 0)
    for name in ("rotation", "scale", "l2", "tv", "blur", "likeness", "diversity"):
        if not 0 <= given[name] < np.inf:
            raise ValueError(f"{name} is a number from 0 up; got {given[name]!r}")
    if not 0 < given["learning_rate"] < np.inf:
        raise ValueError(f"learning_rate is a number above 0; got {given['learning_rate']!r}")
    if given["scale"] >= 1:
        raise ValueError(f"scale is below 1; got {given['scale']!r}")
    if given["center"] is not None and not 0 < given["center"] <= 1:
        raise ValueError(f"center is a share of half the side, above 0 and up to 1; got {given['center']!r}")
    if (given["likeness"] > 0) != (given["patches"] is not None):
        raise ValueError("patches and likeness go together: real patches, and the weight of being like them")
    if given["diversity"] and (given["answers"] < 2 or given["layer"] is None):
        raise ValueError("diversity needs answers=2 or more and layer, the name of the layer where they shall differ")
    if given["generator"] is None:
        if given["latent"] is not None:
            raise ValueError("latent is the shape of a generator's code; give generator as well")
    elif given["latent"] is None or given["blur"] or given["center"]:
        raise ValueError("a generator needs latent, the shape of one code, and makes its images: no blur, no center")


def _check_generator(form: Any, arrays: list[Any], codes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raises unless a generator makes images of the right shape."""
    try:
        made = jax.eval_shape(lambda z: form.join(arrays)(z), jax.ShapeDtypeStruct(codes, jnp.result_type(float)))
    except Exception as error:  # a user's own generator may fail in any way
        raise ValueError(f"the generator fails on codes of shape {codes}: {' '.join(str(error).split())}") from error
    if getattr(made, "shape", None) != (codes[0], *shape):
        got = getattr(made, "shape", type(made).__name__)
        raise ValueError(f"of codes {codes} the generator makes {got}, not images {(codes[0], *shape)}")
