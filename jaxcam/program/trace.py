"""From a function to its equations, and back.

Problem: an explanation needs the inside of a network (its layers, its ReLUs), and a JAX function does not show it.
Idea: `jax.make_jaxpr` writes every function down as a list of equations. `trace` makes that list flat: calls inside
calls (`jit`, `checkpoint`, `scan`) are opened, so one loop over `Program.nodes` meets every operation once, in order,
whoever wrote it and however often the same module was called. `replay` runs the list again, each equation as it was
or with another function in its place. All that jaxcam knows of a model it knows from here.

Types: `trace: (f: X → Y, x) → Program`, `replay: (Program, values of X) → values of Y`.

All contact with jaxprs is in this room, and only through names that JAX makes public (`jax.make_jaxpr`,
`jax.extend.core`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcam.program.equations import (
    CALLS,
    CUSTOM_DERIVATIVES,
    called_jaxpr,
    closed_jaxpr,
    derivative_body,
    operation_name,
    operation_params,
    scan_parts,
    unknown_form,
)

# A longer scan is a loop over time or data, not over layers: unrolling it would only make compilation slow.
LONGEST_SCAN = 128

Value = int  # index of a value in a program


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One equation of a flat program.

    Attributes:
        equation: JAX's own equation, with the names it had where it was traced.
        inputs: for each operand the index of a value, or a literal number.
        outputs: the index of each result; None for one that nobody reads.
        home: the jaxpr the equation stands in.
        body: for an operation with a derivative of its own, the program it computes.
    """

    equation: core.JaxprEqn
    inputs: tuple[Value | core.Literal, ...]
    outputs: tuple[Value | None, ...]
    home: core.Jaxpr
    body: Program | None = None

    @property
    def name(self) -> str:
        return operation_name(self.equation)

    @property
    def params(self) -> dict[str, Any]:
        return operation_params(self.equation)

    @property
    def operands(self) -> tuple[Value, ...]:
        """The operands that are values of the program, literals left out."""
        return tuple(value for value in self.inputs if isinstance(value, Value))

    def varying(self, live: Container[Value]) -> list[Value]:
        """The operands among `live`, in order; one that stands twice, twice."""
        return [value for value in self.operands if value in live]

    def __call__(self, *operands: Any) -> list[Any]:
        """Evaluates the equation, custom derivatives included.

        Args:
            *operands: what `operands` names, in that order.

        Returns:
            One array per output that is read.
        """
        given = iter(operands)
        variable: Any
        seen: dict[Any, Any] = {}  # one entry also for an operand that stands twice (x · x)
        for variable, atom in zip(self.equation.invars, self.inputs, strict=True):
            if isinstance(variable, core.Literal):
                continue
            # A number handed to a nested call is a literal here, but a variable in the equation inside that call.
            seen[variable] = (
                jnp.asarray(atom.val, variable.aval.dtype) if isinstance(atom, core.Literal) else next(given)
            )
        results = [v for v, index in zip(self.equation.outvars, self.outputs, strict=True) if index is not None]
        jaxpr = self.home.replace(
            constvars=[], invars=list(seen), outvars=results, eqns=[self.equation], effects=self.equation.effects
        )
        return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))(*seen.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A function as a flat list of equations in the order of their evaluation.

    Attributes:
        nodes: the equations.
        inputs: the values that are arguments, flattened as a pytree.
        outputs: the values returned, flattened; a literal where the function returns a constant number.
        constants: arrays the function closed over.
        avals: shape and dtype of every value.
        paths: for each input, its path in the arguments (`jax.tree_util` keys).
        out_tree: the structure of the result.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value | core.Literal, ...]
    constants: Mapping[Value, Any]
    avals: Mapping[Value, Any]
    paths: tuple[tuple[Any, ...], ...] = ()
    out_tree: Any = None

    @property
    def output_avals(self) -> list[Any]:
        """Shape and dtype of every output, flattened."""
        return [self.avals[output] if isinstance(output, Value) else output.aval for output in self.outputs]

    @property
    def used(self) -> set[Value]:
        """All values that the outputs are computed from, these included; others nobody reads."""
        return self.leading_to(*(output for output in self.outputs if isinstance(output, Value)))

    def consumers(self) -> dict[Value, list[Node]]:
        """For each value, the nodes that read it."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.operands):
                found.setdefault(value, []).append(node)
        return found

    def leading_to(self, *values: Value) -> set[Value]:
        """All values that some are computed from, these included."""
        upstream = set(values)
        for node in reversed(self.nodes):
            if not upstream.isdisjoint(v for v in node.outputs if v is not None):
                upstream.update(node.operands)
        return upstream

    def depending_on(self, values: Iterable[Value]) -> set[Value]:
        """All values that are computed from any of `values`, these included."""
        reached = set(values)
        for node in self.nodes:
            if not reached.isdisjoint(node.operands):
                reached.update(value for value in node.outputs if value is not None)
        return reached


class _Flattener:
    """Opens nested calls and numbers every value; the same inner equation met twice gets two numbers."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.avals: dict[Value, Any] = {}
        self.constants: dict[Value, Any] = {}

    def value(self, aval: Any) -> Value:
        self.avals[len(self.avals)] = aval
        return len(self.avals) - 1

    def constant(self, aval: Any, array: Any) -> Value:
        index = self.value(aval)
        self.constants[index] = array
        return index

    def open(self, closed: core.ClosedJaxpr, arguments: Sequence[Value | core.Literal]) -> list[Value | core.Literal]:
        jaxpr = closed.jaxpr
        known: dict[Any, Value | core.Literal] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, array in zip(jaxpr.constvars, closed.consts, strict=True):
            known[variable] = self.constant(variable.aval, array)

        def read(atom: Any) -> Value | core.Literal:
            return atom if isinstance(atom, core.Literal) else known[atom]

        read_somewhere = [atom for equation in jaxpr.eqns for atom in equation.invars] + list(jaxpr.outvars)
        wanted = {atom for atom in read_somewhere if isinstance(atom, core.Var)}
        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            name = operation_name(equation)
            if name in CALLS:
                results = self.open(called_jaxpr(equation), operands)
            elif name == "scan" and 0 < _length(equation) <= LONGEST_SCAN:
                results = self.open(_unrolled(equation), operands)
            else:
                results = self.keep(equation, operands, jaxpr, wanted)
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def keep(
        self, equation: core.JaxprEqn, operands: list[Value | core.Literal], home: core.Jaxpr, wanted: set[core.Var]
    ) -> list[Any]:
        outputs = [self.value(variable.aval) if variable in wanted else None for variable in equation.outvars]
        body = None
        if operation_name(equation) in CUSTOM_DERIVATIVES:
            closed = derivative_body(equation)
            body = None if closed is None else flatten(closed)
        self.nodes.append(Node(equation, tuple(operands), tuple(outputs), home, body))
        return outputs


def _length(equation: core.JaxprEqn) -> int:
    """How many steps a scan takes."""
    if "length" not in equation.params:
        raise unknown_form(equation)
    return int(equation.params["length"])


def _unrolled(equation: core.JaxprEqn) -> core.ClosedJaxpr:
    """The equations of a scan, written out step by step."""
    params, length = equation.params, _length(equation)
    consts, carries = scan_parts(equation)
    step = core.jaxpr_as_fun(closed_jaxpr(params["jaxpr"]))

    def steps(*arguments: Any) -> list[Any]:
        fixed, carry, xs = (
            arguments[:consts],
            list(arguments[consts : consts + carries]),
            arguments[consts + carries :],
        )
        rows: list[list[Any]] = [[]] * length
        for i in reversed(range(length)) if params["reverse"] else range(length):
            results = step(*fixed, *carry, *(jax.lax.index_in_dim(x, i, keepdims=False) for x in xs))
            carry, rows[i] = results[:carries], results[carries:]
        return [*carry, *(jnp.stack(column) for column in zip(*rows, strict=True))]

    return jax.make_jaxpr(steps)(*(_shape_of(variable.aval) for variable in equation.invars))


def flatten(closed: core.ClosedJaxpr) -> Program:
    """The flat program of a closed jaxpr."""
    flattener = _Flattener()
    inputs = tuple(flattener.value(variable.aval) for variable in closed.jaxpr.invars)
    outputs = tuple(flattener.open(closed, inputs))
    return Program(tuple(flattener.nodes), inputs, outputs, flattener.constants, flattener.avals)


def trace(function: Callable[..., Any], *arguments: Any) -> Program:
    """Writes a function down as a flat list of equations.

    Args:
        function: any function of pytrees of arrays.
        *arguments: arrays, tracers or `jax.ShapeDtypeStruct`s: only shapes and dtypes are looked at.

    Returns:
        The program; its inputs are the leaves of `arguments`, in order.

    Example:
        >>> [node.name for node in trace(lambda x: jax.jit(jnp.tanh)(2 * x), jnp.ones(3)).nodes]
        ['mul', 'tanh']
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(arguments)
    avals = [_shape_of(leaf) for _, leaf in leaves]
    out_tree: list[Any] = []

    def flat(*values: Any) -> list[Any]:
        result = function(*jax.tree_util.tree_unflatten(tree, values))
        results, structure = jax.tree_util.tree_flatten(result)
        out_tree.append(structure)
        return results

    program = flatten(jax.make_jaxpr(flat)(*avals))
    return dataclasses.replace(program, paths=tuple(path for path, _ in leaves), out_tree=out_tree[-1])


def _shape_of(leaf: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    if isinstance(leaf, bool | int | float | complex):
        return leaf  # keeps JAX's weak type
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False))


Replacement = Callable[..., Any]
# By result, the operands and the function that `replay` computes it with.
Replacements = dict[Value, tuple[tuple[Value, ...], Replacement]]


def replay(
    program: Program,
    values: Mapping[Value, Any],
    wanted: Sequence[Value | core.Literal],
    replacements: Mapping[Value, tuple[Sequence[Value], Replacement]] | None = None,
) -> list[Any]:
    """Evaluates some values of a program from others.

    Only the equations between the two are evaluated.

    Args:
        program: what to evaluate.
        values: the values that are given: all inputs, or whatever stands between these and `wanted`.
        wanted: the values to return.
        replacements: for a value, the values it is computed from and the function that computes it, instead of its
            equation.

    Returns:
        One array for each of `wanted`.

    Raises:
        KeyError: a wanted value depends on one that was not given.
    """
    replacements = replacements or {}
    known: dict[Value, Any] = {**program.constants, **values}
    plan = _plan(program, known.keys(), wanted, replacements)
    for step in plan:
        if isinstance(step, Node):
            results = step(*(known[value] for value in step.operands))
            named = [value for value in step.outputs if value is not None]
            # Of several results one may be given: it stays what it is, though the equation computes it as well.
            known.update({v: result for v, result in zip(named, results, strict=True) if v not in values})
        else:
            sources, function = replacements[step]
            known[step] = function(*(known[source] for source in sources))
    return [atom.val if isinstance(atom, core.Literal) else known[atom] for atom in wanted]


def _plan(
    program: Program,
    given: Iterable[Value],
    wanted: Sequence[Value | core.Literal],
    replacements: Mapping[Value, tuple[Sequence[Value], Replacement]],
) -> list[Node | Value]:
    """The equations (or replaced values) needed, in order."""
    needed = {value for value in wanted if isinstance(value, Value)}
    given = set(given)
    steps: list[Node | Value] = []
    for node in reversed(program.nodes):
        outputs = {value for value in node.outputs if value is not None and value in needed and value not in given}
        replaced = {value for value in outputs if value in replacements}
        for value in replaced:
            steps.append(value)
            needed.update(replacements[value][0])
        if outputs - replaced:
            steps.append(node)
            needed.update(node.operands)
    return steps[::-1]


@dataclasses.dataclass(frozen=True)
class Static:
    """What of a model is not an array: its structure, and leaves such as activation functions. Hashable, for `jit`."""

    tree: Any
    leaves: tuple[Any, ...]

    def join(self, arrays: Sequence[Any]) -> Any:
        """The model again, from its arrays."""
        rest = iter(arrays)
        leaves = [next(rest) if leaf is _ARRAY else leaf for leaf in self.leaves]
        return jax.tree_util.tree_unflatten(self.tree, leaves)

    def paths(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Where in the model each of its arrays is."""
        found = jax.tree_util.tree_flatten_with_path(self.join(arrays))[0]
        return tuple(path for (path, _), leaf in zip(found, self.leaves, strict=True) if leaf is _ARRAY)


class _Array:
    """Stands where an array was."""


_ARRAY = _Array()


def split(model: Any) -> tuple[list[Any], Static]:
    """A model as its arrays and the rest.

    A bare closure has no arrays of its own: it is all "rest", and what it closed over becomes constants of its program.

    Args:
        model: any callable; its arrays are found if it is a pytree.

    Returns:
        The arrays, and a hashable `Static` whose `join` gives the model back.

    Example:
        >>> from jax.tree_util import Partial
        >>> arrays, static = split(Partial(jnp.dot, jnp.ones((2, 2))))
        >>> static.join(arrays)(jnp.ones(2)).tolist()
        [2.0, 2.0]
    """
    leaves, tree = jax.tree_util.tree_flatten(model)
    is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
    return arrays, Static(tree, tuple(_ARRAY if array else leaf for leaf, array in zip(leaves, is_array, strict=True)))


def trace_model(model: Any, x: Any) -> tuple[Program, list[Any]]:
    """The program of `model(x)`, whose inputs are the model's arrays and then x.

    Returns:
        The program, and the model's arrays in the order of its inputs.

    Raises:
        TypeError: the model is not callable, or x is no array.
    """
    if not callable(model):
        raise TypeError(f"a model is a callable x -> outputs; got {type(model).__name__}")
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise TypeError(f"images are an array (n, h, w, c); got {type(x).__name__}")
    arrays, static = split(model)
    paths = [
        path
        for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]
        if isinstance(leaf, jax.Array | np.ndarray)
    ]
    program = trace(lambda leaves, image: static.join(leaves)(image), arrays, x)
    return dataclasses.replace(program, paths=(*paths, ())), arrays
