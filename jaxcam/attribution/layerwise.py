"""Layer-wise relevance propagation: the score handed back, layer by layer, to the pixels it came from."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask
from jaxcam.attribution.composites import Composite, named_composite
from jaxcam.attribution.relevance_budget import map_and_budget, start_of_relevance, warn_where_lost
from jaxcam.attribution.targets import Target
from jaxcam.program.conservation import balanced, balances
from jaxcam.program.layers import study
from jaxcam.program.relevance import AS_GRADIENT, PASSING, Relevant, Ruling, ruling
from jaxcam.program.transform import as_pytree


def relevance(model: Any, composite: str | Composite = "epsilon_plus") -> Relevant:
    """The same model, whose backward pass carries relevance instead of gradients.

    Outputs are the model's own. The VJP takes the relevance of the outputs to that of the input: each affine map (a
    convolution or matrix product with its bias and the batch norms beside it, or a batch norm that stands alone), sum
    and average hands R on by its rule; activations of one value pass it, R ↦ R; max pooling gives it to the winner.

    Args:
        model: any callable `x -> outputs`.
        composite: the name of a composite, or a `Composite`: which rule goes where.

    Returns:
        A callable with the same outputs.

    Raises:
        ValueError: there is no such composite; at the call, if there is an operation without a rule (softmax, a
            product of two values that depend on the input), the message names its equation and layer.
        TypeError: the model is not callable, or the composite no composite.

    Example:
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.nn.relu(x @ jnp.array([[1.0], [2.0]]))
        >>> outputs, pull_back = jax.vjp(relevance(net), jnp.array([[3.0, 1.0]]))
        >>> [round(float(r), 3) for r in pull_back(outputs)[0][0]]
        [3.0, 2.0]

    Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation",
    2015. Differs from zennit: rules go with equations, so functional and reused activations, `x.mean()` and `x + y`
    have theirs without a canonizer.
    """
    return Relevant(as_pytree(model), named_composite(composite))


def lrp(
    model: Any, x: Array | np.ndarray, target: Target = None, *, composite: str | Composite = "epsilon_plus"
) -> Float[Array, "n h w c"]:
    """The score, shared among the numbers of the image layer by layer: layer-wise relevance propagation.

    Relevance starts as R = z ⊙ ∂s/∂z at the outputs z, which is the score s itself for a class, and comes down by
    the composite's rules (`relevance`). Where the rules conserve, the map sums to s, up to what biases keep:
    `relevance_budget` says how much, and a `RelevanceWarning` where next to nothing is left (not inside `jit`).

    Args:
        model: any callable `x -> outputs`, logits and not probabilities.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        composite: the name of a composite ("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1",
            "epsilon_alpha2_beta1_flat", "epsilon_gamma_box"), or a `Composite`.

    Returns:
        Raw maps (n, h, w, c), signed, in units of score.

    Raises:
        TypeError: images, target or composite of a wrong kind.
        ValueError: what `saliency` raises; there is no such composite; an operation without a rule, whose equation and
            layer the message names.

    Example:
        >>> import jax.numpy as jnp
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -1.0]])
        >>> lrp(net, jnp.ones((1, 2, 2, 1)), target=0).round(3).tolist()
        [[[[1.0], [1.0]], [[1.0], [1.0]]]]

    Bach et al. 2015; composites after Kohlbrenner et al., "Towards Best Practice in Explaining Neural Network
    Decisions with LRP", 2020. Differs from zennit: it starts from the score where zennit's examples start from one;
    divided by s the maps agree. When it misleads: z⁺ alone (deep Taylor) hardly depends on the class, and converges
    to the same map for all of them in deep networks (Sixt et al. 2020); pictures differ much between composites.
    """
    relevance, budget = ask(map_and_budget, model, x, target, composite=named_composite(composite))
    warn_where_lost(budget, stacklevel=2)
    return relevance


@dataclasses.dataclass(frozen=True)
class RuledLayer:
    """One row of an audit: some equations, and the rule they get.

    Attributes:
        layer: the layer they belong to, or the last one before them; empty at the input.
        kind: "conv", "dense", "scale", "mean", "add", "factor", "activation", "select", "move", or "none" if there is
            no rule.
        rule: the rule in words: "ZPlus(…)", "pass", "winner", "no rule".
        equations: the equations' names, in order.
        shape: of their result.
    """

    layer: str
    kind: str
    rule: str
    equations: tuple[str, ...]
    shape: tuple[int, ...]


def audit(model: Any, x: Any, composite: str | Composite = "epsilon_plus") -> list[RuledLayer]:
    """Which rule each equation of a model gets, before anything runs.

    Args:
        model: any callable `x -> outputs`.
        x: a batch (n, h, w, c), or a `jax.ShapeDtypeStruct` of one.
        composite: the name of a composite, or a `Composite`.

    Returns:
        One `RuledLayer` for each piece of the model, in the order of its evaluation. Operations without a rule are
        listed with the rule "no rule"; `lrp` refuses them.

    Raises:
        ValueError: there is no such composite, or it names a layer that is not there.
        TypeError: the model is not callable, or the composite no composite.

    Example:
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.nn.relu(x @ jnp.ones((2, 3))).sum(-1)
        >>> [(row.kind, row.rule) for row in audit(net, jnp.ones((1, 2)))]
        [('dense', 'Epsilon(epsilon=1e-06)'), ('activation', 'pass'), ('mean', 'Norm(stabilizer=1e-06)')]
    """
    anatomy, _ = study(model, x)
    return _rows(ruling(anatomy, named_composite(composite)), anatomy.program.avals)


def _rows(rules: Ruling, avals: Any) -> list[RuledLayer]:
    found = []
    for piece, rule in rules:
        words = repr(rule)
        if piece.kind == "none":
            words = "no rule"
        elif piece.kind in PASSING or piece.kind == "move" or (piece.kind == "scale" and rule is None):
            words = "pass"
        elif piece.kind in AS_GRADIENT:
            words = "winner"
        names = tuple(node.name for node in piece.nodes)
        found.append(RuledLayer(piece.layer, piece.kind, words, names, tuple(avals[piece.result].shape)))
    return found


@dataclasses.dataclass(frozen=True)
class Balance:
    """What came to some equations and what they handed on, summed for each image.

    Attributes:
        row: the equations and their rule.
        received: the relevance of their result, (n,).
        passed: the relevance they gave to what they were computed from, (n,).
        biases: the relevance that their biases kept, (n,). received − passed − biases is what ε kept, and what came to
            outputs with nothing to share.
    """

    row: RuledLayer
    received: Array | np.ndarray
    passed: Array | np.ndarray
    biases: Array | np.ndarray


def conservation(
    model: Any, x: Array | np.ndarray, target: Target = None, *, composite: str | Composite = "epsilon_plus"
) -> list[Balance]:
    """How much relevance each equation receives and how much it hands on.

    Where a rule conserves, Σᵢ Rᵢ = Σⱼ Rⱼ: `passed` equals `received`. What is missing was kept by a bias, which
    `biases` says, by ε, or by an output that has nothing to share.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c).
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        composite: the name of a composite, or a `Composite`.

    Returns:
        One `Balance` for each piece of the model that `audit` lists, in the order of evaluation; those whose image
        axis cannot be followed are left out.

    Raises:
        TypeError: what `lrp` raises.
        ValueError: what `lrp` raises.

    Example:
        >>> import jax.numpy as jnp
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -1.0]])
        >>> [round(float(balance.passed[0]), 3) for balance in conservation(net, jnp.ones((1, 2, 2, 1)), target=0)]
        [4.0, 4.0]
    """
    chosen = named_composite(composite)
    sums = ask(_balances, model, x, target, composite=chosen)
    anatomy, _ = study(model, jax.ShapeDtypeStruct(x.shape, x.dtype))
    rows = _rows(balanced(anatomy, ruling(anatomy, chosen)), anatomy.program.avals)
    return [Balance(row, *numbers) for row, numbers in zip(rows, sums, strict=True)]


def _balances(question: Question, x: Array, composite: Any) -> Any:
    return balances(question.model, composite, x, lambda outputs: start_of_relevance(question, outputs))
