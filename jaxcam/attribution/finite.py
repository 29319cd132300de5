"""Who made it NaN: the first equation, forward or backward, whose result is not finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.program.layers import study
from jaxcam.program.trace import replay
from jaxcam.program.transform import given


def culprit(model: Any, x: Any) -> str:
    """One line that names the first equation of a model whose result, or gradient, is not finite.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), finite.
    """
    anatomy, arrays = study(model, x)
    for path, array in zip(anatomy.program.paths, arrays, strict=False):
        if jnp.issubdtype(jnp.result_type(array), jnp.inexact) and not np.isfinite(np.asarray(array)).all():
            return f"the model's weights are not finite: {jax.tree_util.keystr(path)} has NaN or infinite values"
    values = {**anatomy.program.constants, **given(anatomy, arrays, x)}
    named: list[tuple[int, Any, int]] = [(-1, None, anatomy.x)]
    for index, node in enumerate(anatomy.program.nodes):
        results = node(*(values[operand] for operand in node.operands))
        outputs = [value for value in node.outputs if value is not None]
        for value, result in zip(outputs, results, strict=True):
            values[value] = result
            if value in anatomy.live and jnp.issubdtype(result.dtype, jnp.inexact):
                named.append((index, node, value))
                # Infinities are how max pooling and masks say "nothing here"; they count once a layer has one too.
                if not bool(jnp.isfinite(result).all()) and bool(jnp.isfinite(_read(values, node, anatomy)).all()):
                    return (
                        f"equation {index}, '{node.name}' giving {anatomy.program.avals[value].str_short()}, is the "
                        f"first whose values are not finite, after {anatomy.owner(value)}"
                    )
    outputs = [value for value in anatomy.program.outputs if isinstance(value, int)]
    start = given(anatomy, arrays, x)

    def loses(position: int) -> bool:
        """Whether the gradient has been lost on the way back to a value."""
        value = named[position][2]

        def above(middle: Any) -> Any:
            found = replay(anatomy.program, {**start, value: middle}, outputs)
            return sum(jnp.sum(out) for out in found if jnp.issubdtype(out.dtype, jnp.inexact))

        return not bool(jnp.isfinite(jax.grad(above)(values[value])).all())

    # What is lost stays lost further down, so the last value that has lost it is found by halving.
    low, high = 0, len(named)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if loses(middle) else (low, middle)
    if low > 0:
        index, node, value = named[min(low, len(named) - 1)]
        return (
            f"the outputs are finite but their gradient is not: it is first lost on the way back through equation "
            f"{index}, '{node.name}' giving {anatomy.program.avals[value].str_short()}, after "
            f"{anatomy.owner(named[low - 1][2])}"
        )
    return "the map is not finite although the model's outputs and gradients are; look at the method's options"


def _read(values: Any, node: Any, anatomy: Any) -> Any:
    found = [values[v] for v in node.operands if jnp.issubdtype(jnp.result_type(values[v]), jnp.inexact)]
    return jnp.concatenate([jnp.ravel(value) for value in found]) if found else jnp.zeros(1)
