"""Equations of every version of JAX, read in one way: names of operations, nested jaxprs, parts of a scan.

Problem: JAX writes the same program differently from version to version. `scan` counts its operands in
`num_consts` and `num_carry` up to JAX 0.10, and in `ft_in` from 0.12 on; with `jax_custom_jvp3`, `jax_custom_vjp3`
and `jax_remat3` a function with a derivative of its own, or a rematerialized one, is a `call_hi_primitive` that keeps
the operation in its parameter `_prim`.
Idea: everything that differs is read here, and the rest of the room sees one form: `operation_name` says
`custom_jvp_call`, `custom_vjp_call` or `checkpoint` whichever way JAX wrote it. A form that is not known is an error
that names the version of JAX, never a guess.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax.extend import core

# Equations that only call other equations, and the parameter that holds those.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
# Calls that bring their own derivative: they stay whole, so that the derivative does.
CUSTOM_DERIVATIVES = {
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
# What a `call_hi_primitive` does, by the class of its operation.
_HI_PRIMITIVES = {
    "CustomJVPTraced": "custom_jvp_call",
    "CustomVJPTraced": "custom_vjp_call",
    "RematTraced": "checkpoint",
    "CheckpointName": "name",
}


class ScanParts(NamedTuple):
    """How the operands of a scan divide: first the constants, then the carry, the rest are rows."""

    constants: int
    carry: int


def operation_name(equation: core.JaxprEqn) -> str:
    """The name of an equation's operation, the same in every version of JAX.

    Example:
        >>> import jax.numpy as jnp
        >>> operation_name(jax.make_jaxpr(jax.nn.relu)(jnp.ones(2)).jaxpr.eqns[0])
        'custom_jvp_call'
    """
    operation = _hi_primitive(equation)
    if operation is None:
        return equation.primitive.name
    kind = type(operation).__name__
    return _HI_PRIMITIVES.get(kind, kind)


def operation_params(equation: core.JaxprEqn) -> dict[str, Any]:
    """The parameters of an equation's operation, wherever this version of JAX keeps them."""
    operation = _hi_primitive(equation)
    return equation.params if operation is None else getattr(operation, "params", equation.params)


def called_jaxpr(equation: core.JaxprEqn) -> core.ClosedJaxpr:
    """The jaxpr that a call (`jit`, `checkpoint`, …) evaluates; its inputs are the equation's.

    Raises:
        NotImplementedError: this version of JAX writes the call in a form that is not known.
    """
    operation = _hi_primitive(equation)
    name = operation_name(equation)
    if operation is not None:
        jaxpr = getattr(operation, "jaxpr", None)
    else:
        jaxpr = equation.params.get(CALLS[name])
    if jaxpr is None:
        raise unknown_form(equation)
    closed = closed_jaxpr(jaxpr)
    if len(closed.jaxpr.invars) != len(equation.invars):
        raise unknown_form(equation)
    return closed


def derivative_body(equation: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """What a function with a derivative of its own computes; None where its operands are not the equation's.

    Raises:
        NotImplementedError: this version of JAX writes it in a form that is not known.
    """
    operation = _hi_primitive(equation)
    if operation is not None:
        jaxpr = getattr(getattr(operation, "traced", None), "jaxpr", None)
    else:
        jaxpr = equation.params.get(CUSTOM_DERIVATIVES[operation_name(equation)])
    if jaxpr is None:
        raise unknown_form(equation)
    closed = closed_jaxpr(jaxpr)
    # A rule of its own may take residuals that the function itself does not read.
    return closed if len(closed.jaxpr.invars) == len(equation.invars) else None


def scan_parts(equation: core.JaxprEqn) -> ScanParts:
    """How many operands of a scan are constants, and how many its carry.

    Raises:
        NotImplementedError: this version of JAX writes scans in a form that is not known.

    Example:
        >>> import jax.numpy as jnp
        >>> def total(x):
        ...     return jax.lax.scan(lambda carry, row: (carry + row * x, None), x, jnp.ones(3))[0]
        >>> scan_parts(jax.make_jaxpr(total)(1.0).jaxpr.eqns[-1])
        ScanParts(constants=1, carry=1)
    """
    params = equation.params
    if params.keys() >= {"num_consts", "num_carry"}:
        parts = ScanParts(params["num_consts"], params["num_carry"])
    elif hasattr(params.get("ft_in"), "unpack"):
        sizes = [len(tree) for tree in params["ft_in"].unpack()]
        if len(sizes) != 3 or sum(sizes) != len(equation.invars):
            raise unknown_form(equation)
        parts = ScanParts(sizes[0], sizes[1])
    else:
        raise unknown_form(equation)
    rows = len(equation.invars) - sum(parts)
    if rows < 0 or len(equation.outvars) < parts.carry or not params.keys() >= {"jaxpr", "length", "reverse"}:
        raise unknown_form(equation)
    return parts


def closed_jaxpr(jaxpr: Any) -> core.ClosedJaxpr:
    """A jaxpr with its constants, whether it came with some or not."""
    return jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else core.ClosedJaxpr(jaxpr, ())


def nested_jaxprs(equation: core.JaxprEqn) -> list[core.ClosedJaxpr]:
    """Every jaxpr in an equation's parameters: the branches of a `cond`, the body of a `while`, …"""
    operation = _hi_primitive(equation)
    if operation is not None:
        jaxpr = getattr(operation, "jaxpr", getattr(getattr(operation, "traced", None), "jaxpr", None))
        return [] if jaxpr is None else [closed_jaxpr(jaxpr)]
    leaves = jax.tree_util.tree_leaves(dict(equation.params), is_leaf=_is_jaxpr)
    return [closed_jaxpr(leaf) for leaf in leaves if _is_jaxpr(leaf)]


def _is_jaxpr(thing: Any) -> bool:
    return isinstance(thing, core.Jaxpr | core.ClosedJaxpr)


def unknown_form(equation: core.JaxprEqn) -> NotImplementedError:
    """The error for an equation whose parameters are of a form never seen before."""
    return NotImplementedError(
        f"JAX {jax.__version__} writes '{operation_name(equation)}' in a form that this jaxcam does not know "
        f"(parameters {', '.join(sorted(equation.params))}): take a newer jaxcam, or JAX 0.8.1 to 0.12"
    )


def _hi_primitive(equation: core.JaxprEqn) -> Any | None:
    """The operation of a `call_hi_primitive`; None for every other equation."""
    return equation.params.get("_prim") if equation.primitive.name == "call_hi_primitive" else None
