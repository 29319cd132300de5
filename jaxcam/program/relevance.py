"""The relevance pass: a model in, the same model with another backward pass out.

    relevance : (x → outputs, composite) ↦ x → the same outputs, whose VJP carries relevance

Relevance comes to a value from above and has to be shared among the values it was computed from. A *rule* says how, by
a few small functions: which modified inputs, kernels and biases to send through the map once more (`terms`), how to
share relevance among what these give (`share`), and how to put together what comes back (`collect`). This file
knows where the maps are and how to send something through them; the formulas are in attribution/rules.py.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.axes import follow_axes
from jaxcam.program.layers import Anatomy
from jaxcam.program.pieces import Piece, dismantle
from jaxcam.program.rewrite import accelerate, rewrites
from jaxcam.program.trace import Node, Replacement, Replacements, Value
from jaxcam.program.transform import RuleError, replaced

# Kinds of pieces whose relevance goes back as the gradient does: to the winner, or to the old place.
AS_GRADIENT = frozenset(["select", "move"])
# Kinds whose relevance goes through as it is.
PASSING = frozenset(["activation", "factor"])
# Kinds that are y = W·x + b, with weights of their own.
WITH_WEIGHTS = frozenset(["conv", "dense", "scale"])
Term = tuple[Array, Array, Array]


@dataclasses.dataclass(frozen=True)
class Part:
    """What a rule sees of an affine map y = W·x + b.

    Attributes:
        x: the map's input.
        kernel: W, with the scales of normalizations folded in; of scales and shifts that stand alone one number for
            each of x.
        bias: b, as large as the result.
        image: what the map's input would be if every pixel of the images had a given value: a number, or one for each
            channel.
    """

    x: Array
    kernel: Array
    bias: Array
    image: Callable[[Any], Array]


@runtime_checkable
class Sharing(Protocol):
    """How relevance is shared among what a result was computed from."""

    def share(self, relevance: Array, outputs: list[Array]) -> list[Array]:
        """What to pull back from each of the outputs."""

    def collect(self, inputs: list[Array], pulled: list[Array]) -> Array:
        """The relevance of the input."""


@runtime_checkable
class Rule(Sharing, Protocol):
    """How relevance is shared among the inputs of an affine map."""

    def terms(self, part: Part) -> list[Term]:
        """The (input, kernel, bias) to send through the map."""


@runtime_checkable
class Composite(Protocol):
    """Which rule goes where. Hashable."""

    def assign(self, kinds: Sequence[str], layers: Sequence[str]) -> list[Any]:
        """For each piece its rule; None for a piece that needs none, or whose relevance passes as it is."""


Ruling = list[tuple[Piece, Any]]


def ruling(anatomy: Anatomy, composite: Composite) -> Ruling:
    """Every piece of a model with its rule, in the order of evaluation."""
    pieces = dismantle(anatomy)
    rules = composite.assign([piece.kind for piece in pieces], [piece.layer for piece in pieces])
    return list(zip(pieces, rules, strict=True))


def check_ruled(anatomy: Anatomy, rules: Ruling) -> None:
    """Raises for the first piece that no rule is made for."""
    for piece, _ in rules:
        if piece.kind == "none":
            node = piece.nodes[-1]
            index = next(i for i, other in enumerate(anatomy.program.nodes) if other is node)
            after = f"layer '{piece.layer}'" if piece.layer else "the input"
            raise RuleError(
                f"no rule of relevance for equation {index}, '{node.name}' giving "
                f"{anatomy.program.avals[piece.result].str_short()}, after {after}: there are rules for convolutions, "
                "matrix products, sums, averages, max pooling and activations of one value; explain the logits (no "
                "softmax)."
            )


def relevance_replacements(
    anatomy: Anatomy, rules: Ruling, biases: Mapping[Value, Array] | None = None
) -> Replacements:
    """For `replay`: every piece that a rule is made for, with its relevance pass.

    Args:
        anatomy: of the model.
        rules: its pieces with their rules.
        biases: for results of affine maps an array (n,) whose cotangent is to be the relevance that the map's biases
            keep, summed for each image.

    Raises:
        RuleError: there is an operation without a rule.
    """
    check_ruled(anatomy, rules)
    faster = rewrites(anatomy.program)
    found: Replacements = {}
    readings, axes = biases or {}, image_axes(anatomy)
    kind_of = {value: piece.kind for piece, _ in rules for value in piece.nodes[-1].outputs if value is not None}
    for piece, rule in rules:
        if piece.kind in AS_GRADIENT:
            if piece.result in faster:
                found[piece.result] = faster[piece.result]
        elif piece.kind in WITH_WEIGHTS and rule is not None:
            found[piece.result] = _affine_piece(
                anatomy, piece, rule, kind_of, readings.get(piece.result), axes[piece.result]
            )
        elif piece.kind in PASSING | WITH_WEIGHTS:
            found[piece.result] = ((*piece.sources, *piece.others), _passing(piece))
        else:
            found[piece.result] = ((*piece.sources, *piece.others), _sharing(piece, rule))
    return found


def evaluate(piece: Piece, sources: Sequence[Any], others: Sequence[Any]) -> Array:
    """The value of a piece, as the program computes it."""
    known: dict[Value, Any] = dict(zip([*piece.sources, *piece.others], [*sources, *others], strict=True))
    for node in piece.nodes:
        results = node(*(known[value] for value in node.operands))
        known.update(zip((value for value in node.outputs if value is not None), results, strict=True))
    return known[piece.result]


def _passing(piece: Piece) -> Replacement:
    """The piece with the pass rule: R ↦ R."""

    @jax.custom_vjp
    def passing(x: Array, others: tuple[Any, ...]) -> Array:
        return evaluate(piece, [x], others)

    def forward(x: Array, others: tuple[Any, ...]) -> tuple[Array, None]:
        return passing(x, others), None

    def backward(_: None, relevance: Array) -> tuple[Array, None]:
        return relevance, None

    passing.defvjp(forward, backward)
    return lambda x, *others: passing(x, others)


def _sharing(piece: Piece, rule: Sharing) -> Replacement:
    """A linear piece without weights, sources sharing relevance by what each contributed."""
    count = len(piece.sources)

    @jax.custom_vjp
    def sharing(sources: tuple[Any, ...], others: tuple[Any, ...]) -> Array:
        return evaluate(piece, sources, others)

    def forward(sources: tuple[Any, ...], others: tuple[Any, ...]) -> tuple[Array, Any]:
        return sharing(sources, others), (sources, others)

    def backward(saved: Any, relevance: Array) -> tuple[Any, None]:
        sources, others = saved
        y, pull_back = jax.vjp(lambda *xs: evaluate(piece, xs, others), *sources)
        pulled = pull_back(rule.share(relevance, [y])[0])
        return tuple(rule.collect([x], [c]) for x, c in zip(sources, pulled, strict=True)), None

    sharing.defvjp(forward, backward)
    return lambda *values: sharing(values[:count], values[count:])


def _affine_piece(
    anatomy: Anatomy,
    piece: Piece,
    rule: Rule,
    kind_of: dict[Value, str],
    reading: Array | None = None,
    images: int | None = None,
) -> tuple[tuple[Value, ...], Replacement]:
    """An affine map with its rule, and the values it needs."""
    affine = piece.affine
    assert affine is not None
    path, path_others = _from_images(anatomy, piece, kind_of) if getattr(rule, "needs_image", False) else ((), ())
    count = len(affine.others)
    shape = anatomy.program.avals[anatomy.x].shape
    unread = jnp.zeros(()) if reading is None else reading

    @jax.custom_vjp
    def ruled(x: Array, others: tuple[Any, ...], more: tuple[Any, ...], reading: Array) -> Array:
        return accelerate(lambda x, others: affine(x, *others))(x, others)

    def forward(x: Array, others: tuple[Any, ...], more: tuple[Any, ...], reading: Array) -> tuple[Array, Any]:
        return ruled(x, others, more, reading), (x, others, more, reading)

    def backward(saved: Any, relevance: Array) -> tuple[Array, None, None, Array]:
        x, others, more, reading = saved

        def image(pixel: Any) -> Array:
            pixels = jnp.broadcast_to(jnp.asarray(pixel, x.dtype), shape)
            known: dict[Value, Any] = {**dict(zip(path_others, more, strict=True)), anatomy.x: pixels}
            for node in path:
                results = node(*(known[value] for value in node.operands))
                known.update(zip((value for value in node.outputs if value is not None), results, strict=True))
            return known[affine.source]

        terms = rule.terms(Part(x, affine.kernel(*others), affine.bias(x, *others), image))
        outputs, pulls = [], []
        for changed, kernel, bias in terms:
            run = accelerate(lambda x, kernel, bias: affine.apply(x, kernel, bias, *others))
            y, pull_back = jax.vjp(lambda x, run=run, kernel=kernel, bias=bias: run(x, kernel, bias), changed)
            outputs.append(y)
            pulls.append(pull_back)
        shares = rule.share(relevance, outputs)
        pulled = [pull_back(part)[0] for pull_back, part in zip(pulls, shares, strict=True)]
        kept = jnp.zeros_like(reading)
        # A bias is an input that is always 1: it keeps what such an input would be given.
        if kept.ndim and images is not None:
            portions = (bias * share for (*_, bias), share in zip(terms, shares, strict=True))
            kept = of_images(functools.reduce(jnp.add, portions), images).astype(reading.dtype)
        return rule.collect([changed for changed, *_ in terms], pulled), None, None, kept

    ruled.defvjp(forward, backward)
    sources = (affine.source, *affine.others, *path_others)
    return sources, lambda x, *values: ruled(x, values[:count], values[count:], unread)


def _from_images(
    anatomy: Anatomy, piece: Piece, kind_of: dict[Value, str]
) -> tuple[tuple[Node, ...], tuple[Value, ...]]:
    """The equations from the images to the input of a map, and the other values these read.

    Raises:
        RuleError: there is more between the two than a normalization and changes of layout.
    """
    (source,) = piece.sources
    upstream = anatomy.program.leading_to(source) & anatomy.live
    nodes = tuple(n for n in anatomy.program.nodes if not upstream.isdisjoint(v for v in n.outputs if v is not None))
    between = {kind_of[value] for value in upstream if value in kind_of}
    if not between <= {"scale", "factor", "move"}:
        raise RuleError(
            f"the box rule is for a layer that reads the images; before layer '{piece.layer}' there is more than a "
            "normalization (give it another rule: composite.with_rules)"
        )
    others = tuple(dict.fromkeys(v for node in nodes for v in node.operands if v not in anatomy.live))
    return nodes, others


def image_axes(anatomy: Anatomy) -> dict[Value, int | None]:
    axes = follow_axes(anatomy.program, anatomy.x, anatomy.live)
    return {value: found.images for value, found in axes.items()}


def of_images(values: Array, axis: int) -> Array:
    """The sum for each image."""
    return jnp.sum(values, tuple(other for other in range(values.ndim) if other != axis))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Relevant:
    """The model with a relevance pass for its backward pass. Made by `relevance`."""

    transformed_model: Any
    composite: Any = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Any:
        def rules(anatomy: Anatomy) -> Replacements:
            return relevance_replacements(anatomy, ruling(anatomy, self.composite))

        return replaced(self.transformed_model, x, rules)
