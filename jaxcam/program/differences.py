"""A program run on differences: what of x − x₀ arrives at each value, and how much of it each equation passes on.

Beside its value at a reference x₀, every value that depends on the input has the difference v that x makes to it.
Linear equations carry differences as they are. At an equation that bends, a formula says what it makes of them: a
factor for every number, held constant, so that the derivative of the whole with respect to x − x₀ is the product of the
factors along every way through the network. The formulas are the caller's; this file knows which equation gets which:

    linear      v' = L v                                    convolutions, sums, batch norm, everything of layout
    pointwise   any function of one number, however many equations it is written in: ReLU, x · sigmoid(x), tanh;
                the derivative of a rectifier at its kink is that of the side where it is off (`Activation.pull_back`)
    window      the largest of a window: max pooling, a maximum over axes

Anything else is a `RuleError`. With `split`, a difference goes in two parts, what raises and what lowers a value:
a linear equation sends the two through its positive and negative weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.layers import Anatomy, study
from jaxcam.program.recognize import SELECTING, Activation, is_affine, is_piecewise_linear
from jaxcam.program.rewrite import rewrites, windows
from jaxcam.program.trace import Node, Program, Value, replay
from jaxcam.program.transform import RuleError, given

POINTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh div
    eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min mul
    name ne neg nextafter not or pow reduce_precision rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh
    xor""".split()  # noqa: SIM905 - a list of these would be a page
)
Parts = tuple[Array, ...]
# (function of one number, its operand at the reference, the parts of its difference) ↦ the result's difference, as
# the sum of what each part makes
Bend = Callable[[Callable[[Array], Array], Array, Parts], Parts]
# (the numbers of every window at the reference (p, …), their differences (p, …)) ↦ the difference of the maxima (…)
Choose = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Step:
    """An equation and how differences pass it; for a pointwise function, the value it is a function of."""

    kind: str
    node: Node
    source: Value


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class _Finished:
    """A model with a function after it, its layers' names kept."""

    transformed_model: Any
    finish: Callable[[Any], Any] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Any:
        return self.finish(self.transformed_model(x))


def difference(
    model: Any,
    finish: Callable[[Any], Array],
    start: Array,
    way: Array,
    bend: Bend,
    choose: Choose,
    split: bool = False,
) -> Array:
    """finish(model(start + way)) − finish(model(start)), with the derivative that the formulas give it.

    Args:
        model: any callable `x -> outputs`.
        finish: outputs ↦ one array.
        start: the reference x₀.
        way: x − x₀; differentiate with respect to this.
        bend: the formula for pointwise functions.
        choose: the formula for maxima.
        split: whether differences go in two parts, the raising and the lowering.

    Raises:
        RuleError: an equation that is none of the three kinds.
    """
    anatomy, arrays = study(_Finished(model, finish), start)
    program, live = anatomy.program, anatomy.live
    output = program.outputs[0]
    if not isinstance(output, Value) or output not in live:
        return jnp.zeros_like(jax.eval_shape(_Finished(model, finish), start))
    steps = plan(anatomy)
    fast = rewrites(program)
    wanted = _read_at_the_reference(steps, live)
    values = given(anatomy, arrays, start)
    reference = {
        value: jnp.asarray(array) for value, array in zip(wanted, replay(program, values, wanted, fast), strict=True)
    }

    def fresh(pieces: Parts, scale: Any = 0) -> Parts:
        total: Array = sum(pieces)  # type: ignore[assignment]
        if not split:
            return (total,)
        # Where the pieces cancel, what rounding leaves has no sign: half of nothing raises.
        noise = 8 * jnp.finfo(total.dtype).eps * (scale + sum(jnp.abs(piece) for piece in pieces))
        sign = jnp.where(jnp.abs(total) <= noise, 0, jnp.sign(total)) if len(pieces) > 1 else jnp.sign(total)
        up = jax.lax.stop_gradient((1 + sign) / 2)
        return up * total, (1 - up) * total

    parts: dict[Value, Parts] = {anatomy.x: fresh((way,))}
    for step in steps:
        if step.kind == "linear":
            operands = {value: parts[value] for value in step.node.varying(live)}
            if split and is_affine(step.node, live):  # the weights of a layer meet whole differences
                operands = {value: fresh(both) for value, both in operands.items()}
            parts.update(_through_linear(step.node, program, live, reference, operands, fast))
            continue
        found = step.node.outputs[0]
        assert found is not None
        if step.kind == "pointwise":
            # What the equations between the two read besides: weights, also those of inner equations (x · sigmoid(βx)).
            fixed = {value: array for value, array in {**values, **reference}.items() if value not in live}
            function = _function(program, fixed, step.source, found)
            if found in anatomy.activations:
                function = _rectifier(function, anatomy.activations[found])
            pieces = bend(function, reference[step.source], parts[step.source])
            scale = jnp.abs(reference[step.source]) + sum(jnp.abs(part) for part in parts[step.source])
            parts[found] = fresh(pieces, scale)
        else:
            before = _places(reference[step.source], step.node, -jnp.inf)
            whole: Array = sum(parts[step.source])  # type: ignore[assignment]
            parts[found] = fresh((choose(before, _places(whole, step.node, 0.0)),))
    return sum(parts[output])  # type: ignore[return-value]


def _function(program: Program, fixed: dict[Value, Any], source: Value, result: Value) -> Callable[[Array], Array]:
    """The function that makes one value of another."""
    return lambda z: replay(program, {**fixed, source: z}, [result])[0]


def _rectifier(function: Callable[[Array], Array], activation: Activation) -> Callable[[Array], Array]:
    """A rectifier with the derivative that does not depend on how it is written."""
    rectify = jax.custom_vjp(function)
    rectify.defvjp(lambda z: (function(z), z), lambda z, change: (activation.pull_back(function, z, change),))
    return rectify


def plan(anatomy: Anatomy) -> list[Step]:
    """The equations between the input and the result, and how differences pass each of them.

    Raises:
        RuleError: one of them is neither linear, pointwise nor a maximum.
    """
    program, live = anatomy.program, anatomy.live
    makers = {value: node for node in program.nodes for value in node.outputs if value is not None}
    needed = {value for value in program.outputs if isinstance(value, Value)}
    steps: list[Step] = []
    for index in reversed(range(len(program.nodes))):
        node = program.nodes[index]
        results = [value for value in node.outputs if value is not None]
        if needed.isdisjoint(results) or not live.intersection(results):
            continue
        if _is_linear(node, program, live):
            steps.append(Step("linear", node, -1))
            needed.update(node.varying(live))
            continue
        rectifiers = [anatomy.activations[value] for value in results if value in anatomy.activations]
        source = rectifiers[0].source if rectifiers else pointwise_source(node, program, live, makers)
        kind = "pointwise"
        if source is None and _is_maximum(node):
            kind, source = "window", node.operands[0]
        if source is None:
            raise RuleError(
                f"differences have no rule for equation {index}, '{node.name}' giving "
                f"{program.avals[results[0]].str_short()}, after {anatomy.owner(node.varying(live)[0])}: there are "
                "rules for linear operations, functions of one number (ReLU, tanh), and max pooling; explain the "
                "logits (no softmax), or use jc.integrated_gradients"
            )
        steps.append(Step(kind, node, source))
        needed.add(source)
    return steps[::-1]


def pointwise_source(node: Node, program: Program, live: set[Value], makers: dict[Value, Node]) -> Value | None:
    """The value of which a node's result is a function, number by number; None if there is no single one.

    x · sigmoid(x) ends in a product of two values, but both are pointwise functions of x: the equations are climbed,
    the latest first, until one value is left.
    """
    if not _is_pointwise(node, program, live):
        return None
    frontier = set(node.varying(live))
    while len(frontier) > 1 or not _is_float(program, next(iter(frontier))):
        latest = max(frontier)  # values are numbered in the order of their evaluation
        maker = makers.get(latest)
        if maker is None or not _is_pointwise(maker, program, live):
            return None
        frontier.remove(latest)
        frontier.update(maker.varying(live))
    return frontier.pop()


def _is_float(program: Program, value: Value) -> bool:
    return jnp.issubdtype(program.avals[value].dtype, jnp.floating)


def _is_linear(node: Node, program: Program, live: set[Value]) -> bool:
    return (
        node.name not in SELECTING | {"max", "min"}
        and all(_is_float(program, value) for value in node.varying(live))
        and all(_is_float(program, value) for value in node.outputs if value is not None)
        and is_piecewise_linear(node, live)
    )


def _is_pointwise(node: Node, program: Program, live: set[Value]) -> bool:
    """Whether each number of a node's one result depends on the number at the same place of its operands only."""
    if len(node.outputs) != 1 or node.outputs[0] is None:
        return False
    shape = program.avals[node.outputs[0]].shape
    if any(program.avals[value].shape != shape for value in node.varying(live)):
        return False
    if node.body is None:
        return node.name in POINTWISE
    body = node.body
    inside = body.depending_on(
        inner for inner, atom in zip(body.inputs, node.inputs, strict=False) if isinstance(atom, Value) and atom in live
    )
    return all(_is_pointwise(n, body, inside) for n in body.nodes if not inside.isdisjoint(n.operands))


def _is_maximum(node: Node) -> bool:
    if node.name == "reduce_max":
        return True
    dilated = {*node.params.get("base_dilation", ()), *node.params.get("window_dilation", ())} - {1}
    return node.name == "reduce_window_max" and not dilated


def _read_at_the_reference(steps: list[Step], live: set[Value]) -> list[Value]:
    """The values whose numbers at x₀ the steps look at: what bends, and all weights."""
    bent = {step.source for step in steps if step.kind != "linear"}
    return sorted(bent | {value for step in steps for value in step.node.operands if value not in live})


def _places(x: Array, node: Node, fill: float) -> Array:
    """The numbers that a maximum is taken of, in a new first axis."""
    if node.name == "reduce_max":
        axes = tuple(node.params["axes"])
        x = jnp.moveaxis(x, axes, tuple(range(len(axes))))
        return x.reshape(-1, *x.shape[len(axes) :])
    padding = node.params["padding"]
    padded = jax.lax.pad(x, jnp.array(fill, x.dtype), [(low, high, 0) for low, high in padding])
    return jnp.stack(windows(padded, {**node.params, "padding": [(0, 0)] * x.ndim}))


def _through_linear(
    node: Node,
    program: Program,
    live: set[Value],
    reference: dict[Value, Array],
    parts: dict[Value, Parts],
    fast: dict[Value, Any],
) -> dict[Value, Parts]:
    """The differences of a linear node's results from those of its operands."""
    operands, function = fast.get(node.outputs[0], ((), None))  # type: ignore[arg-type]
    evaluate: Callable[..., Any] = node
    if function is not None and tuple(operands) == node.operands:
        evaluate = lambda *values: [function(*values)]  # noqa: E731

    moving = [i for i, value in enumerate(node.operands) if value in live]

    def linear(tangents: Sequence[Array], sign: int = 0) -> list[Array]:
        """L of the operands' differences; with a sign, only through weights of that sign."""

        def apply(*numbers: Array) -> list[Array]:
            all_numbers = dict(zip(moving, numbers, strict=True))
            fixed = {i: _signed(reference[v], node, sign) for i, v in enumerate(node.operands) if v not in live}
            return evaluate(*(({**fixed, **all_numbers})[i] for i in range(len(node.operands))))

        avals = [program.avals[node.operands[i]] for i in moving]
        zeros = [jnp.zeros(aval.shape, aval.dtype) for aval in avals]
        return jax.jvp(apply, zeros, [t.astype(aval.dtype) for t, aval in zip(tangents, avals, strict=True)])[1]

    varying = node.varying(live)
    results = [value for value in node.outputs if value is not None]
    if all(len(part) == 1 for part in parts.values()):
        found = linear([parts[value][0] for value in varying])
        return {value: (v,) for value, v in zip(results, found, strict=True)}
    raising, lowering = ([parts[value][i] for value in varying] for i in (0, 1))
    if node.name in {"conv_general_dilated", "dot_general", "mul", "div"} and len(node.operands) == 2:
        halves = [linear(raising, 1), linear(lowering, -1)], [linear(lowering, 1), linear(raising, -1)]
    elif node.name in {"mul", "div"}:  # by a literal number
        literal = next(atom for atom in node.inputs if not isinstance(atom, Value))
        halves = ([linear(raising)], [linear(lowering)])
        if literal.val < 0:
            halves = halves[::-1]
    elif node.name == "neg":
        halves = [linear(lowering)], [linear(raising)]
    elif node.name == "sub":
        # The second operand is taken away: what raises it lowers the result.
        away = [isinstance(node.inputs[1], Value) and i == len(node.operands) - 1 for i in moving]
        halves = (
            [linear([low if a else up for up, low, a in zip(raising, lowering, away, strict=True)])],
            [linear([up if a else low for up, low, a in zip(raising, lowering, away, strict=True)])],
        )
    else:  # sums and layout: no weight is negative
        halves = [linear(raising)], [linear(lowering)]
    up, low = ([sum(pieces) for pieces in zip(*half, strict=True)] for half in halves)
    return {value: (a, b) for value, a, b in zip(results, up, low, strict=True)}


def _signed(weights: Array, node: Node, sign: int) -> Array:
    """The weights of one sign; as a divisor, the others are infinite."""
    if sign == 0:
        return weights
    return jnp.where(weights * sign > 0, weights, jnp.inf if node.name == "div" else 0).astype(weights.dtype)
