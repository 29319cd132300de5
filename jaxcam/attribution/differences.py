"""DeepLIFT: differences from a reference instead of derivatives.

A derivative is zero where a ReLU is off, however much the image did to switch it off. DeepLIFT asks what the
*difference* x − x₀ does: every operation passes differences on by a multiplier Δy/Δx, and these are chained as
derivatives are. `program.differences` walks the program; here are the formulas, each with its multiplier held
constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask
from jaxcam.attribution.baselines import Baseline, baseline_of
from jaxcam.attribution.bricks import check_one_of
from jaxcam.attribution.completeness import Complete, exact
from jaxcam.attribution.targets import Target, score
from jaxcam.program.differences import difference

RULES = ("rescale", "reveal_cancel")


def deep_lift(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    baseline: Baseline = None,
    rule: str = "rescale",
) -> Float[Array, "n h w c"]:
    """How much of the score's difference from a baseline each number of the image accounts for.

    M(x) = m · (x − x₀), where the multipliers m are chained backward like derivatives: through a linear operation its
    weights; through y = f(z), Δy/Δz (f'(z) where Δz is 0); through a maximum of a window, max(Δy, 0)/Δz at the place
    that is largest for x and min(Δy, 0)/Δz at the one that was for x₀. So Σ M = s(x) − s(x₀), up to rounding.

    "reveal_cancel" splits Δz in Δz⁺ and Δz⁻, what raised and what lowered z through the weights of the affine map
    before f, and gives each its own Δy±/Δz±, with Δy⁺ = ½(f(z₀+Δz⁺) − f(z₀)) + ½(f(z₀+Δz⁻+Δz⁺) − f(z₀+Δz⁻)), Δy⁻
    likewise: what cancels in z is not lost.

    Args:
        model: any callable `x -> outputs`, of linear operations, functions of one number (rectifiers, tanh,
            x·sigmoid(x), …) and max pooling; batch norm in inference mode, residual sums and modules used twice are
            no matter.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,), of such operations too.
        baseline: x₀: None for zeros, a number, "blur" (x blurred by a Gaussian as wide as a tenth of its larger side),
            an array like x or like one image.
        rule: "rescale" or "reveal_cancel".

    Returns:
        Raw maps (n, h, w, c), signed, in units of the score.

    Raises:
        TypeError: images, target or baseline of a wrong kind.
        ValueError: what `saliency` raises; a baseline of another shape, an unknown rule, an operation without a rule
            (softmax, a product of two activations), named with its equation and layer; outside `jit`, maps whose sum
            is off by more than rounding.

    Example:
        >>> net = lambda x: jax.nn.relu(x.sum((1, 2)) - 1)
        >>> deep_lift(net, jnp.array([1.5, 0.5]).reshape(1, 1, 2, 1), target=0)[0, 0, :, 0].tolist()
        [0.75, 0.25]

    Shrikumar et al., "Learning Important Features Through Propagating Activation Differences", 2017. Differs from: the
    paper leaves max pooling open; ours is that of shap. Captum refuses a ReLU used twice and misses a functional one.
    Affine maps are a convolution or product with the bias, batch norm and sums after it. When it misleads: like every
    comparison with a baseline, it is silent where the image is the baseline.
    """
    check_one_of(rule, RULES, "rule")
    return ask(_deep_lift, model, x, target, baseline_of(baseline, x), rule=rule)


def _deep_lift(question: Question, x: Array, baseline: Array, rule: str) -> Complete:
    question = question.settled(x)
    way = x - baseline

    def score_difference(way: Array) -> Array:
        split = rule == "reveal_cancel"
        found = difference(
            question.model,
            lambda outputs: score(outputs, question.target),
            baseline,
            way,
            reveal_cancel if split else rescale,
            choose,
            split,
        )
        return jnp.sum(found)

    maps = way * jax.grad(score_difference)(way)
    first, last = question.scores(baseline), question.scores(x)
    return exact(maps, maps, last - first, jnp.stack([first, last], 1))


def rescale(function: Callable[[Array], Array], start: Array, parts: tuple[Array, ...]) -> tuple[Array, ...]:
    """Δy = (Δy/Δz) · Δz, the quotient held constant.

    Args:
        function: f, pointwise.
        start: z₀.
        parts: (Δz,).
    """
    (way,) = parts
    change = jax.lax.stop_gradient(function(start + way) - function(start))
    return (_ratio(function, start, start + way, change, way) * way,)


def reveal_cancel(function: Callable[[Array], Array], start: Array, parts: tuple[Array, ...]) -> tuple[Array, ...]:
    """Δy = (Δy⁺/Δz⁺) · Δz⁺ + (Δy⁻/Δz⁻) · Δz⁻, the quotients held constant.

    Each part's change is the mean of what it does alone and what it does after the other.

    Args:
        function: f, pointwise.
        start: z₀.
        parts: (Δz⁺, Δz⁻).
    """
    up, low = parts
    nothing, raised, lowered, all_of_it = (
        jax.lax.stop_gradient(function(z)) for z in (start, start + up, start + low, start + up + low)
    )
    rise = ((raised - nothing) + (all_of_it - lowered)) / 2
    fall = ((lowered - nothing) + (all_of_it - raised)) / 2
    end = start + up + low
    return _ratio(function, start, end, rise, up) * up, _ratio(function, start, end, fall, low) * low


def _ratio(function: Callable[[Array], Array], start: Array, end: Array, change: Array, way: Array) -> Array:
    """The change for each unit of the way; the derivative at the end where there is no way to speak of."""
    way, end = jax.lax.stop_gradient((way, end))
    (slope,) = jax.vjp(function, end)[1](jnp.ones_like(end))  # number by number; a custom_vjp has no other derivative
    nowhere = is_rounding(way, start)
    return jax.lax.stop_gradient(jnp.where(nowhere, slope, change / jnp.where(nowhere, 1, way)))


def is_rounding(way: Array, start: Array) -> Array:
    """Whether a difference is no more than what rounding leaves of none."""
    return jnp.abs(way) <= jnp.finfo(way.dtype).eps * jnp.abs(start)


def choose(starts: Array, ways: Array) -> Array:
    """The difference of a maximum: a rise is due to the number that is largest now, a fall to the one that was.

    Neither quotient leaves [0, 1]: the place that is largest now has risen by at least as much as the maximum has.

    Args:
        starts: the numbers of each window at the baseline (p, …).
        ways: their differences (p, …).
    """
    fixed = jax.lax.stop_gradient(ways)
    now = starts + fixed
    change = jnp.max(now, 0) - jnp.max(starts, 0)
    largest_now, largest_then = (
        jnp.arange(len(starts)).reshape(-1, *[1] * change.ndim) == jnp.argmax(z, 0) for z in (now, starts)
    )
    still = is_rounding(fixed, starts)
    each = jnp.where(still, 1, fixed)
    rise = jnp.where(still, 1, jnp.maximum(change, 0) / each)
    fall = jnp.where(still, 0, jnp.minimum(change, 0) / each)
    factors = jnp.where(largest_now, rise, 0) + jnp.where(largest_then, fall, 0)
    return jnp.sum(jax.lax.stop_gradient(factors) * ways, 0)
