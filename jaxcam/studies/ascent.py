"""The ascent of activation maximization: compiled, all targets in one vmap."""

from __future__ import annotations

import dataclasses
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxcam.attribution.asking import Question
from jaxcam.attribution.budget import chunk_size, mapped
from jaxcam.attribution.targets import per_output, score
from jaxcam.program.rewrite import accelerate
from jaxcam.program.transform import RuleError, deconv, tap
from jaxcam.studies.canvases import Canvas
from jaxcam.studies.disturbances import Disturbance, roughness, sameness, strangeness

COSTS = ("l2", "tv", "likeness", "diversity")
DEVIATION = 0.01  # of the numbers an answer starts from: little beside what they become


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Maximized:
    """Pictures that excite a network. Made by `maximize`.

    Attributes:
        units: the classes or units asked for (t,); None where the target is a callable.
        images: the pictures (t, a, h, w, c), a answers for each target, within the bounds.
        scores: what the target's score is of them, undisturbed (t, a).
        curve: the score at each step, of the disturbed picture (t, steps, a).
        numbers: what was optimized (t, a, …): pixels, waves, or codes of the generator.
    """

    units: Int[Array | np.ndarray, " t"] | None
    images: Float[Array | np.ndarray, "t a h w c"]
    scores: Float[Array | np.ndarray, "t a"]
    curve: Float[Array | np.ndarray, "t steps a"]
    numbers: Float[Array | np.ndarray, "t a ..."]


def ascend(
    question: Question,
    start: Array,
    key: Array,
    units: Array | None,
    patches: Array | None,
    codes: list[Any],
    numbers: Array,
    *,
    steps: int,
    wake: int,
    kind: tuple[str, str],
    canvas: Canvas,
    disturbance: Disturbance,
    costs: tuple[str, ...],
    blur: float,
    answers: int,
    layer: str | None,
    generator: Any,
    latent: Any,
    chunk: int | None,
) -> Maximized:
    """The inner function of `maximize`, for `ask`."""
    rate, *weights = numbers
    weight = dict(zip(COSTS, weights, strict=True))
    base = canvas.base(start[0])
    optimizer = optax.adam(rate)
    first, later = jax.random.split(key)

    def draw(numbers: Array) -> Array:
        return canvas.images(numbers, base) if generator is None else generator.join(codes)(numbers)

    def scores(question: Question, images: Array, unit: Any) -> Array:
        return _score(question.outputs(images), question.target if unit is None else unit, *kind)

    # The gain, not its negative: an open ReLU lets back what is above zero.
    def gain(numbers: Array, question: Question, key: Array, unit: Any) -> tuple[Array, Array]:
        gained = scores(question, disturbance(key, draw(numbers)), unit)
        return jnp.sum(gained), gained

    def cost(numbers: Array) -> Array:
        images = draw(numbers)
        total = jnp.zeros(())
        if "l2" in costs:
            far = (images - start if generator is None else numbers).reshape(answers, -1)
            total += weight["l2"] * jnp.sum(jnp.mean(far**2, -1))
        if "tv" in costs:
            total += weight["tv"] * jnp.sum(roughness(images))
        if "likeness" in costs:
            total += weight["likeness"] * jnp.sum(strangeness(images, jnp.asarray(patches, images.dtype)))
        if "diversity" in costs:
            assert layer is not None
            total += weight["diversity"] * answers * sameness(accelerate(tap(question.model, layer))(images))
        return total

    def one(unit: Any) -> Any:
        def step(state: Any, now: Any, open_: Question | None = None) -> tuple[Any, Array]:
            (numbers, moments), (number, key) = state, now
            slope, gained = jax.grad(gain, has_aux=True)(numbers, question, key, unit)
            if open_ is not None:
                silent = jnp.all(slope == 0, tuple(range(1, slope.ndim)), keepdims=True)
                slope = jnp.where(silent, jax.grad(gain, has_aux=True)(numbers, open_, key, unit)[0], slope)
            if costs:
                slope -= jax.grad(cost)(numbers)
            change, moments = optimizer.update(-slope, moments)
            numbers = optax.apply_updates(numbers, change)
            if blur:
                numbers = jnp.where(number % 4 == 3, canvas.blurred(numbers, blur), numbers)
            return (numbers, moments), gained

        if generator is None:
            numbers = canvas.start(first, answers, DEVIATION).astype(start.dtype)
        else:
            numbers = jax.random.normal(first, (answers, *latent), start.dtype)
        state: Any = (numbers, optimizer.init(numbers))
        draws, curves = (jnp.arange(steps), jax.random.split(later, steps)), []
        for rule, part in ((opened, slice(awake)), (None, slice(awake, steps))):
            if range(steps)[part]:
                some = jax.tree_util.tree_map(itemgetter(part), draws)
                state, curve = jax.lax.scan(partial(step, open_=rule), state, some)
                curves.append(curve)
        numbers = state[0]
        images = draw(numbers)
        return images, scores(question, images, unit), jnp.concatenate(curves), numbers

    opened = _opened(question, start)
    awake = min(wake, steps) if opened is not None else 0
    if units is None and question.target is None:
        units = jnp.arange(jax.eval_shape(question.outputs, start).shape[-1])
    if units is None:
        return Maximized(None, *(found[None] for found in one(None)))
    together = jnp.broadcast_to(start, (answers, *start.shape[1:]))
    return Maximized(units, *mapped(one, units, chunk_size(question.model, together, len(units), chunk)))


def _opened(question: Question, start: Array) -> Question | None:
    """The question to the model whose ReLUs let every gradient back; None where it has what that rule does not know."""
    opened = question.of(deconv(question.model))
    try:
        jax.eval_shape(opened.outputs, start)
    except RuleError:
        return None
    return opened


def _score(outputs: Any, target: Any, kind: str, space: str) -> Array:
    """The score of each picture (a,)."""
    if callable(target):
        return target(outputs)
    if space == "center":
        for axis in range(1, outputs.ndim - 1):
            middle = outputs.shape[axis] // 2
            outputs = jax.lax.slice_in_dim(outputs, middle, middle + 1, axis=axis)
    if kind == "probability":
        outputs = jax.nn.log_softmax(per_output(outputs))
    return score(outputs, target)
