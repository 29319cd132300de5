"""One compilation for all functions that come to the same equations.

Problem: `jax.jit` compiles anew for every function it is given, and the way through a network is one function for each
layer or block, though the third block of a stage is the second again with other weights. Idea: write the function down
first (`jax.make_jaxpr`), with every array an argument, and compile the equations; two functions whose equations read
the same are the same to the compiler.

Types: `Once(f: A → B): A → B`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcam.program.compiled import compiled


class Equations:
    """A closed jaxpr, equal to any other that reads the same. Hashable, so that `jit` compiles it once."""

    def __init__(self, jaxpr: core.Jaxpr) -> None:
        # Constants are arguments like any other; what they are does not matter to the compiler.
        opened = jaxpr.replace(constvars=[], invars=[*jaxpr.constvars, *jaxpr.invars])
        self.function = core.jaxpr_as_fun(core.ClosedJaxpr(opened, ()))
        text = str(opened)
        # An array printed with its middle left out says nothing about the rest.
        self._text = text if "..." not in text else f"{id(self)} {text}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equations) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclasses.dataclass(frozen=True)
class _Written:
    """What a function came to for arguments of some shapes."""

    equations: Equations
    constants: tuple[Any, ...]
    read: tuple[int, ...]  # which leaves of the arguments
    out_tree: Any


class Once:
    """A function of pytrees of arrays, compiled; functions of equal equations share one compilation.

    Args:
        function: pure. It is called once for each combination of structures and shapes of its arguments, and must not
            close over arrays that change.

    Example:
        >>> twice, again = Once(lambda x: 2 * x), Once(lambda x: x * 2)
        >>> float(twice(jnp.ones(()))), float(again(jnp.ones(())))
        (2.0, 2.0)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._known: dict[Any, _Written] = {}

    def __call__(self, *arguments: Any) -> Any:
        leaves, tree = jax.tree_util.tree_flatten(arguments)
        kinds = tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        if (tree, kinds) not in self._known:
            self._known[tree, kinds] = self._write(leaves, tree)
        written = self._known[tree, kinds]
        results = _evaluate(written.equations, *written.constants, *(leaves[i] for i in written.read))
        return jax.tree_util.tree_unflatten(written.out_tree, results)

    def _write(self, leaves: Sequence[Any], tree: Any) -> _Written:
        out_tree: list[Any] = []

        def flat(*values: Any) -> list[Any]:
            result = self._function(*jax.tree_util.tree_unflatten(tree, values))
            results, structure = jax.tree_util.tree_flatten(result)
            out_tree.append(structure)
            return results

        closed = jax.make_jaxpr(flat)(*(jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)) for a in leaves))
        jaxpr = closed.jaxpr
        atoms = [*jaxpr.outvars, *(atom for equation in jaxpr.eqns for atom in equation.invars)]
        wanted = {atom for atom in atoms if isinstance(atom, core.Var)}
        read = tuple(i for i, variable in enumerate(jaxpr.invars) if variable in wanted)
        jaxpr = jaxpr.replace(invars=[jaxpr.invars[i] for i in read])
        return _Written(Equations(jaxpr), tuple(closed.consts), read, out_tree[-1])


@functools.partial(compiled, static_argnums=0)
def _evaluate(equations: Equations, *arrays: Any) -> list[Any]:
    return equations.function(*arrays)
