"""The rules of relevance: how a layer shares the relevance of its outputs among its inputs.

An affine map y = W·x + b gives its inputs relevance in proportion to what each contributed. Rules differ in what
counts as a contribution, so each says three things:

    terms    which (input, kernel, bias) to send through the map: the positive parts, the squares, ones
    share    what to divide the relevance R by: the sum of these, kept away from zero
    collect  how to put together what comes back

A rule is a value: frozen, hashable, compared by its numbers. Composites (composites.py) say which rule goes where.
In the formulas W⁺ = max(W, 0), W⁻ = min(W, 0), and x / ±ε y stands for x / (y + ε·sign y), where sign 0 is 1.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.program.relevance import Part, Term

__all__ = ["AlphaBeta", "Epsilon", "Flat", "Gamma", "Norm", "Pass", "WSquare", "ZBox", "ZPlus", "ZeroBias"]


def stabilized(y: Array, epsilon: float) -> Array:
    """y moved away from zero by ε, zero itself upward: a denominator."""
    return y + jnp.where(y < 0, -epsilon, epsilon).astype(y.dtype)


def positive(a: Array) -> Array:
    return jnp.maximum(a, 0)


def negative(a: Array) -> Array:
    return jnp.minimum(a, 0)


def _check(name: str, number: float) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise ValueError(f"{name} is a number from 0 up; got {number!r}")


def _products(inputs: list[Array], pulled: list[Array]) -> Array:
    """Σ xᵢ·cᵢ: each modified input times what came back to it."""
    total = inputs[0] * pulled[0]
    for x, c in zip(inputs[1:], pulled[1:], strict=True):
        total = total + x * c
    return total


@dataclasses.dataclass(frozen=True)
class Epsilon:
    """The ε rule: inputs share in proportion to what they add to the output.

    Rᵢ = Σⱼ xᵢ·Wᵢⱼ / ±ε yⱼ · Rⱼ, with y = W·x + b. The bias keeps its share: relevance is conserved up to b and ε.
    With ε → 0 it is the 0 rule; a network of these and ReLUs then has the relevance input times gradient. Bach et
    al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation", 2015.

    Attributes:
        epsilon: what is added to the size of the denominator; larger values absorb weak contributions.
    """

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        _check("epsilon", self.epsilon)

    def terms(self, part: Part) -> list[Term]:
        return [(part.x, part.kernel, part.bias)]

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        return [relevance / stabilized(outputs[0], self.epsilon)]

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return _products(inputs, pulled)


@dataclasses.dataclass(frozen=True)
class Norm:
    """The rule of sums: of residual additions, average and sum pooling.

    Rᵢ = aᵢ·xᵢ / ±ε y · R, with y = Σ aᵢ·xᵢ: the ε rule where there are no weights to learn and no bias.

    Attributes:
        stabilizer: ε, what is added to the size of the denominator.
    """

    stabilizer: float = 1e-6

    def __post_init__(self) -> None:
        _check("stabilizer", self.stabilizer)

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        return [relevance / stabilized(outputs[0], self.stabilizer)]

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return _products(inputs, pulled)


@dataclasses.dataclass(frozen=True)
class ZPlus:
    """The z⁺ rule: inputs share in proportion to what they add in favor of the output.

    Rᵢ = Σⱼ (xᵢ·Wᵢⱼ)⁺ / ±ε zⱼ · Rⱼ, with zⱼ = Σᵢ (xᵢ·Wᵢⱼ)⁺ + bⱼ⁺. It is αβ with α = 1, β = 0. Montavon et al.,
    "Explaining NonLinear Classification Decisions with Deep Taylor Decomposition", 2017; inputs may be negative.

    Attributes:
        stabilizer: ε, what is added to the size of the denominator.
    """

    stabilizer: float = 1e-6

    def __post_init__(self) -> None:
        _check("stabilizer", self.stabilizer)

    def terms(self, part: Part) -> list[Term]:
        return [
            (positive(part.x), positive(part.kernel), positive(part.bias)),
            (negative(part.x), negative(part.kernel), jnp.zeros_like(part.bias)),
        ]

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        return [relevance / stabilized(outputs[0] + outputs[1], self.stabilizer)] * 2

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return _products(inputs, pulled)


@dataclasses.dataclass(frozen=True)
class AlphaBeta:
    """The αβ rule: what is in favor counts α times, what is against β times.

    Rᵢ = Σⱼ (α·(xᵢ·Wᵢⱼ)⁺ / ±ε zⱼ⁺ − β·(xᵢ·Wᵢⱼ)⁻ / ±ε zⱼ⁻) · Rⱼ, with zⱼ± = Σᵢ (xᵢ·Wᵢⱼ)± + bⱼ±, and α − β = 1. Bach et
    al. 2015.

    Attributes:
        alpha: α ≥ 1.
        beta: β = α − 1.
        stabilizer: ε, what is added to the size of the denominators.
    """

    alpha: float = 2.0
    beta: float = 1.0
    stabilizer: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "stabilizer"):
            _check(name, getattr(self, name))
        if not math.isclose(self.alpha - self.beta, 1):
            raise ValueError(f"alpha − beta is 1, so that relevance is conserved; got {self.alpha} − {self.beta}")

    def terms(self, part: Part) -> list[Term]:
        x, kernel, bias = part.x, part.kernel, part.bias
        none = jnp.zeros_like(bias)
        return [
            (positive(x), positive(kernel), positive(bias)),
            (negative(x), negative(kernel), none),
            (positive(x), negative(kernel), negative(bias)),
            (negative(x), positive(kernel), none),
        ]

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        favor = self.alpha * relevance / stabilized(outputs[0] + outputs[1], self.stabilizer)
        against = -self.beta * relevance / stabilized(outputs[2] + outputs[3], self.stabilizer)
        return [favor, favor, against, against]

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return _products(inputs, pulled)


@dataclasses.dataclass(frozen=True)
class Gamma:
    """The γ rule: what is in favor of an output counts 1 + γ times.

    For yⱼ > 0: Rᵢ = Σⱼ (xᵢ·Wᵢⱼ + γ·(xᵢ·Wᵢⱼ)⁺) / ±ε zⱼ · Rⱼ, with z the sum of the same over i, and bⱼ + γ·bⱼ⁺. For
    yⱼ < 0 the negative parts take the place of the positive ones; outputs that are exactly 0 hand nothing on. With
    γ = 0 it is ε; with γ = ∞ only what is in favor counts, which is z⁺ where y > 0. Montavon et al., "Layer-Wise
    Relevance Propagation: An Overview", 2019, for x ≥ 0; Andéol et al., "Learning Domain Invariant Representations by
    Joint Wasserstein Distance Minimization", 2021, for any x.
    Differs from the papers, and agrees with zennit: the bias is counted once, with the positive inputs.

    Attributes:
        gamma: γ ≥ 0; math.inf is allowed.
        stabilizer: ε, what is added to the size of the denominators.
    """

    gamma: float = 0.25
    stabilizer: float = 1e-6

    def __post_init__(self) -> None:
        if self.gamma != math.inf:
            _check("gamma", self.gamma)
        _check("stabilizer", self.stabilizer)

    def terms(self, part: Part) -> list[Term]:
        x, kernel, bias = part.x, part.kernel, part.bias
        none = jnp.zeros_like(bias)
        if self.gamma == math.inf:  # divided by 1 + γ
            up, down, favoring, opposing = positive(kernel), negative(kernel), positive(bias), negative(bias)
        else:
            up, down = kernel + self.gamma * positive(kernel), kernel + self.gamma * negative(kernel)
            favoring, opposing = bias + self.gamma * positive(bias), bias + self.gamma * negative(bias)
        return [
            (positive(x), up, favoring),
            (negative(x), down, none),
            (positive(x), down, opposing),
            (negative(x), up, none),
            (x, kernel, bias),
        ]

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        y = outputs[4]
        favor = jnp.where(y > 0, relevance / stabilized(outputs[0] + outputs[1], self.stabilizer), 0)
        against = jnp.where(y < 0, relevance / stabilized(outputs[2] + outputs[3], self.stabilizer), 0)
        return [favor, favor, against, against, jnp.zeros_like(relevance)]

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return _products(inputs[:4], pulled[:4])


@dataclasses.dataclass(frozen=True)
class Flat:
    """The flat rule: all inputs of an output share alike, whatever the weights.

    Rᵢ = Σⱼ Rⱼ / nⱼ, with nⱼ the number of inputs that j reads. For the first layer, where it gives the relevance of
    receptive fields without the noise of single weights. Lapuschkin et al., "Unmasking Clever Hans Predictors and
    Assessing What Machines Really Learn", 2019.

    Attributes:
        stabilizer: ε, what is added to n.
    """

    stabilizer: float = 1e-6

    def __post_init__(self) -> None:
        _check("stabilizer", self.stabilizer)

    def terms(self, part: Part) -> list[Term]:
        return [(jnp.ones_like(part.x), jnp.ones_like(part.kernel), jnp.zeros_like(part.bias))]

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        return [relevance / stabilized(outputs[0], self.stabilizer)]

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return pulled[0]


@dataclasses.dataclass(frozen=True)
class WSquare:
    """The w² rule: inputs share in proportion to the squares of their weights, whatever their values.

    Rᵢ = Σⱼ Wᵢⱼ² / ±ε (Σᵢ Wᵢⱼ² + bⱼ²) · Rⱼ. For inputs without bounds. Montavon et al. 2017. Differs from the paper, and
    agrees with zennit: the bias keeps a share.

    Attributes:
        stabilizer: ε, what is added to the denominator.
    """

    stabilizer: float = 1e-6

    def __post_init__(self) -> None:
        _check("stabilizer", self.stabilizer)

    def terms(self, part: Part) -> list[Term]:
        return [(jnp.ones_like(part.x), part.kernel**2, part.bias**2)]

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        return [relevance / stabilized(outputs[0], self.stabilizer)]

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return pulled[0]


@dataclasses.dataclass(frozen=True)
class ZBox:
    """The zᴮ or box rule: for pixels, which have a lowest and a highest value.

    Rᵢ = Σⱼ (xᵢ·Wᵢⱼ − l·Wᵢⱼ⁺ − h·Wᵢⱼ⁻) / ±ε zⱼ · Rⱼ, with z the sum of the same over i; a bias falls out. Montavon et
    al. 2017. Differs from other implementations: l and h are values of the images the model is given; where the model
    normalizes them itself, both bounds are normalized too.

    Attributes:
        low: l, the lowest value of a pixel: a number, or one for each channel.
        high: h, the highest; not below `low`.
        stabilizer: ε, what is added to the size of the denominator.
    """

    low: float | tuple[float, ...] = 0.0
    high: float | tuple[float, ...] = 1.0
    stabilizer: float = 1e-6
    needs_image = True

    def __post_init__(self) -> None:
        _check("stabilizer", self.stabilizer)
        for name in ("low", "high"):
            object.__setattr__(self, name, _bound(getattr(self, name)))
        low, high = np.atleast_1d(self.low), np.atleast_1d(self.high)
        if 1 not in {low.size, high.size} and low.size != high.size:
            raise ValueError(f"low and high have one number for each channel; got {low.size} and {high.size}")
        if not np.all(low <= high):  # NaN is refused as well
            raise ValueError(f"low is not above high; got {self.low} and {self.high}")

    def terms(self, part: Part) -> list[Term]:
        ends = part.image(self.low), part.image(self.high)  # a normalization may turn them around
        low, high = jnp.minimum(*ends), jnp.maximum(*ends)
        kernel, bias = part.kernel, part.bias
        return [
            (part.x, kernel, bias),
            (low, positive(kernel), positive(bias)),
            (high, negative(kernel), negative(bias)),
        ]

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        shared = relevance / stabilized(outputs[0] - outputs[1] - outputs[2], self.stabilizer)
        return [shared, -shared, -shared]

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return _products(inputs, pulled)


@dataclasses.dataclass(frozen=True)
class Pass:
    """The pass rule, of scales and shifts that stand alone: relevance goes through as it is.

    R ↦ R: the shift keeps nothing, so with ε → 0 the map is not input times gradient. It is what zennit does with a
    batch norm that no canonizer merged: `composite.with_rules({"scale": jc.rules.Pass()})` gives zennit's maps.
    """


@dataclasses.dataclass(frozen=True)
class ZeroBias:
    """Another rule, with the bias left out of it: nothing is kept by biases, all is shared among the inputs.

    That of `rule` with b = 0. The map then adds up to the score where a network's biases would
    have kept most of it, but it hands the biases' part to inputs that did not contribute it, and
    under ε the denominators can be near zero. As zennit's `zero_params="bias"`.

    Attributes:
        rule: the rule.
    """

    rule: Any

    def __post_init__(self) -> None:
        if not callable(getattr(self.rule, "terms", None)):
            raise TypeError(f"ZeroBias takes a rule of affine maps such as ZPlus(); got {self.rule!r}")

    @property
    def needs_image(self) -> bool:
        return getattr(self.rule, "needs_image", False)

    def terms(self, part: Part) -> list[Term]:
        return self.rule.terms(dataclasses.replace(part, bias=jnp.zeros_like(part.bias)))

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        return self.rule.share(relevance, outputs)

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        return self.rule.collect(inputs, pulled)


def _bound(value: Any) -> float | tuple[float, ...]:
    """A bound as something hashable."""
    numbers = np.asarray(value)
    if numbers.ndim > 1 or numbers.size == 0 or not np.issubdtype(numbers.dtype, np.number):
        raise TypeError(f"a bound is a number, or one for each channel; got {value!r}")
    return tuple(float(number) for number in numbers) if numbers.ndim else float(numbers)
