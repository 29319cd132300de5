"""Which rule goes where. The names and defaults are zennit's, so that maps can be compared by name.

All of them pass relevance through activations, share it by contribution at residual additions and average pooling, and
send it to the winner at max pooling. What differs is the rule of convolutions, of dense layers and of the first layer.
Batch norms beside a convolution belong to it; those that stand alone are affine maps as well, with a rule that follows
the convolutions'.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jaxcam.attribution.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, ZBox, ZeroBias, ZPlus

__all__ = [
    "COMPOSITES",
    "Composite",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
]

_PLUS, _EPSILON, _NORM = ZPlus(), Epsilon(), Norm()
_KINDS = ("conv", "dense", "add", "mean")
_SUMS = ("add", "mean")


@dataclasses.dataclass(frozen=True)
class Composite:
    """Which rule goes where: by kind of layer, for the first layer, and by name.

    A name given in `named` wins over the first layer's rule, and that over the rule of the layer's kind. The first
    layer is the first in the order of evaluation whose kind is in `first_kinds`.

    Attributes:
        conv: the rule of convolutions, with the batch norms beside them.
        dense: the rule of dense layers and other matrix products.
        add: the rule of residual additions, a `Norm`.
        mean: the rule of average and sum pooling, a `Norm`.
        first: the rule of the first layer; None if it is as all others.
        first_kinds: what may be the first layer: "conv", "dense" or both.
        named: pairs of a layer's name, or a pattern such as "layer4.*", and a rule; the first that fits counts.
        scale: the rule of scales and shifts that stand beside no kernel, such as a batch norm before a ReLU or after a
            concatenation. None for what follows from the rule of convolutions: ε and γ are as good for one input as
            for many; in place of z⁺ and αβ, which share between several inputs, γ = ∞, which never hands on more than
            it received; in place of the box, which is for pixels, the pass rule. Names do not reach these.
    """

    conv: Any = _PLUS
    dense: Any = _EPSILON
    add: Any = _NORM
    mean: Any = _NORM
    first: Any = None
    first_kinds: tuple[str, ...] = ("conv", "dense")
    named: tuple[tuple[str, Any], ...] = ()
    scale: Any = None

    def __post_init__(self) -> None:
        for kind in _KINDS:
            _check_rule(getattr(self, kind), kind)
        if self.scale is not None and not isinstance(self.scale, Pass):
            _check_rule(self.scale, "scale")
        if self.first is not None:
            _check_rule(self.first, "conv")

    def with_rules(self, rules: Mapping[str, Any]) -> Composite:
        """The same composite with other rules by kind ("conv", "dense", "add", "mean", "scale", "first") or by name."""
        kinds = {key: rule for key, rule in rules.items() if key in {*_KINDS, "scale", "first"}}
        named = tuple((name, rule) for name, rule in rules.items() if name not in kinds)
        return dataclasses.replace(self, **kinds, named=(*named, *self.named))

    def without_biases(self) -> Composite:
        """The same composite with `ZeroBias` around every rule of an affine map: biases keep nothing of the score."""
        kinds = {kind: _zero_bias(getattr(self, kind)) for kind in ("conv", "dense", "scale", "first")}
        named = tuple((name, _zero_bias(rule)) for name, rule in self.named)
        return dataclasses.replace(self, **kinds, named=named)

    def assign(self, kinds: Sequence[str], layers: Sequence[str]) -> list[Any]:
        """For each piece of a program its rule; None where relevance passes, or goes to the winner.

        Raises:
            ValueError: a name in `named` fits no layer that takes a rule; the message names the closest.
        """
        takers = [layer for kind, layer in zip(kinds, layers, strict=True) if kind in _KINDS]
        for pattern, _ in self.named:
            if not any(_fits(layer, pattern) for layer in takers):
                close = difflib.get_close_matches(pattern, takers, n=1, cutoff=0.4)
                hint = f"; did you mean '{close[0]}'?" if close else "; jc.audit(model, x) lists all."
                raise ValueError(f"no layer '{pattern}' takes a rule{hint}")
        first = next((i for i, kind in enumerate(kinds) if kind in self.first_kinds), None)
        alone = _alone(self.conv) if self.scale is None else self.scale
        found: list[Any] = []
        for index, (kind, layer) in enumerate(zip(kinds, layers, strict=True)):
            if kind == "scale":
                found.append(None if isinstance(alone, Pass) else alone)
                continue
            rule = getattr(self, kind) if kind in _KINDS else None
            if index == first and self.first is not None:
                rule = self.first
            if rule is not None:
                rule = next((other for pattern, other in self.named if _fits(layer, pattern)), rule)
                _check_rule(rule, kind, layer)
            found.append(rule)
        return found


def _fits(layer: str, pattern: str) -> bool:
    return layer == pattern or fnmatch.fnmatchcase(layer, pattern)


def _alone(rule: Any) -> Any:
    """The rule of a map of one input, where that of convolutions is `rule`."""
    match rule:
        case ZPlus() | AlphaBeta():
            return Gamma(math.inf, rule.stabilizer)
        case ZBox():
            return Pass()
        case ZeroBias():
            return _zero_bias(_alone(rule.rule))
    return rule


def _zero_bias(rule: Any) -> Any:
    """The rule with biases left out, unless it has none, or is one of sums."""
    return rule if rule is None or isinstance(rule, Pass | ZeroBias | Norm) else ZeroBias(rule)


def _check_rule(rule: Any, kind: str, layer: str = "") -> None:
    """Raises unless a rule is one for a kind of layer."""
    where = f"layer '{layer}' ({kind})" if layer else kind
    wanted = ("share", "collect") if kind in _SUMS else ("terms", "share", "collect")
    if any(not callable(getattr(rule, name, None)) for name in wanted):
        raise TypeError(f"{where} takes a rule such as {'Norm' if kind in _SUMS else 'ZPlus'}(); got {rule!r}")
    if kind in {"add", "mean"} and hasattr(rule, "terms") and not isinstance(rule, Epsilon):
        raise TypeError(f"{where} has no weights: it takes Norm() or Epsilon(); got {rule!r}")


def epsilon_plus(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """The z⁺ rule for convolutions, the ε rule for dense layers.

    Args:
        epsilon: ε of dense layers.
        stabilizer: ε of all other rules.

    Returns:
        A composite for `jc.lrp` and `jc.relevance`.

    Example:
        >>> epsilon_plus().conv
        ZPlus(stabilizer=1e-06)
    """
    return _plain(ZPlus(stabilizer), epsilon, stabilizer)


def epsilon_plus_flat(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """The flat rule for the first layer, z⁺ for other convolutions, ε for other dense layers.

    Args:
        epsilon: ε of dense layers.
        stabilizer: ε of all other rules.

    Returns:
        A composite for `jc.lrp` and `jc.relevance`.

    Example:
        >>> epsilon_plus_flat().first
        Flat(stabilizer=1e-06)
    """
    return dataclasses.replace(_plain(ZPlus(stabilizer), epsilon, stabilizer), first=Flat(stabilizer))


def epsilon_alpha2_beta1(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """The αβ rule with α = 2, β = 1 for convolutions, the ε rule for dense layers.

    Args:
        epsilon: ε of dense layers.
        stabilizer: ε of all other rules.

    Returns:
        A composite for `jc.lrp` and `jc.relevance`.

    Example:
        >>> epsilon_alpha2_beta1().conv.alpha
        2.0
    """
    return _plain(AlphaBeta(2.0, 1.0, stabilizer), epsilon, stabilizer)


def epsilon_alpha2_beta1_flat(epsilon: float = 1e-6, stabilizer: float = 1e-6) -> Composite:
    """The flat rule for the first layer, αβ with α = 2, β = 1 for other convolutions, ε for other dense layers.

    Args:
        epsilon: ε of dense layers.
        stabilizer: ε of all other rules.

    Returns:
        A composite for `jc.lrp` and `jc.relevance`.

    Example:
        >>> epsilon_alpha2_beta1_flat().first
        Flat(stabilizer=1e-06)
    """
    return dataclasses.replace(epsilon_alpha2_beta1(epsilon, stabilizer), first=Flat(stabilizer))


def epsilon_gamma_box(
    low: float | Sequence[float] = 0.0,
    high: float | Sequence[float] = 1.0,
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    stabilizer: float = 1e-6,
) -> Composite:
    """The box rule for the first convolution, γ for other convolutions, ε for dense layers.

    Args:
        low: the lowest value of a pixel, before any normalization inside the model; or one for each channel.
        high: the highest; likewise.
        epsilon: ε of dense layers.
        gamma: γ of convolutions.
        stabilizer: ε of all other rules.

    Returns:
        A composite for `jc.lrp` and `jc.relevance`.

    Raises:
        ValueError: `low` is above `high`, or a number is negative that must not be.

    Example:
        >>> epsilon_gamma_box(low=-1.0, high=1.0).first
        ZBox(low=-1.0, high=1.0, stabilizer=1e-06)
    """
    composite = _plain(Gamma(gamma, stabilizer), epsilon, stabilizer)
    box = ZBox(low, high, stabilizer)  # type: ignore[arg-type]
    return dataclasses.replace(composite, first=box, first_kinds=("conv",))


def _plain(conv: Any, epsilon: float, stabilizer: float) -> Composite:
    return Composite(conv, Epsilon(epsilon), Norm(stabilizer), Norm(stabilizer))


COMPOSITES: Mapping[str, Callable[..., Composite]] = MappingProxyType(
    {
        "epsilon_plus": epsilon_plus,
        "epsilon_plus_flat": epsilon_plus_flat,
        "epsilon_alpha2_beta1": epsilon_alpha2_beta1,
        "epsilon_alpha2_beta1_flat": epsilon_alpha2_beta1_flat,
        "epsilon_gamma_box": epsilon_gamma_box,
    }
)


def named_composite(composite: Any) -> Any:
    """A composite, given as such or by its name.

    Raises:
        ValueError: no composite has the name.
        TypeError: it is neither.
    """
    if isinstance(composite, str):
        if composite not in COMPOSITES:
            close = difflib.get_close_matches(composite, COMPOSITES, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise ValueError(f"no composite '{composite}'{hint} There are {', '.join(COMPOSITES)}.")
        return COMPOSITES[composite]()
    if not callable(getattr(composite, "assign", None)):
        raise TypeError(f"a composite is a name ({', '.join(COMPOSITES)}) or a Composite; got {composite!r}")
    return composite
