"""Pruning: a model in, the same model without some of its units or layers out.

    prune : (x → outputs, layer, units)  ↦  x → outputs, those units silenced

Nothing is trained and no weight is touched. A unit is silenced where it speaks, at its layer's value, so this works on
any model and any kind of layer. For convolution, bias and ReLU it is exactly what zeroing the unit's kernel and bias
does: relu(0 ∗ x + 0) = 0. Where batch norm comes in between, zeroing is not what one wants: a zero kernel leaves the
norm's own constant behind, and the unit goes on speaking.

Whole layers are pruned by building the network anew with fewer convolutions; `peak_layer` says how many.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.program.layers import Anatomy, Place, study
from jaxcam.program.trace import Replacement, Value, replay
from jaxcam.program.transform import given


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pruned:
    """x ↦ the outputs with some units silenced. Made by `prune`."""

    # Known to the program room under this name, so that layers keep the names they had.
    transformed_model: Any
    layer: str = dataclasses.field(metadata={"static": True})
    units: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array | np.ndarray) -> Any:
        x = jnp.asarray(x)
        anatomy, arrays = study(self.transformed_model, x)
        place = anatomy.find(self.layer)
        count = anatomy.layer(place).units
        if self.units and self.units[-1] >= count:
            raise ValueError(
                f"layer '{self.layer}' has no unit {self.units[-1]}; its {count} units are 0 to {count - 1}"
            )
        keep = np.ones(count, np.float32)
        keep[list(self.units)] = 0
        outputs = replay(
            anatomy.program, given(anatomy, arrays, x), anatomy.program.outputs, _silencing(anatomy, place, keep)
        )
        return jax.tree_util.tree_unflatten(anatomy.program.out_tree, outputs)


def prune(model: Any, layer: str, units: int | Iterable[Any]) -> Pruned:
    """Silences units of one layer: aᵤ := 0 for each unit u given.

    Args:
        model: any callable x (n, h, w, c) -> outputs, also one already pruned.
        layer: a name that `layers` lists; its name stays the same in the pruned model.
        units: one index or several, from 0; order and repetition do not matter, none is allowed.

    Returns:
        A callable pytree with the model's arrays for leaves: to be jitted, mapped, differentiated, tapped (it shows
        zeros; of a concatenation, what there was before), and pruned again.

    Raises:
        ValueError: an index is negative; at the call, if there is no such unit, or no such layer (the message names the
            closest).
        TypeError: the units are not whole numbers.

    Paper: section 5.2 of the thesis on class average images, which zeroes parameters.

    Example:
        >>> net = lambda x: jax.nn.relu(x @ jnp.array([[1.0, 2.0]])) @ jnp.array([[1.0], [10.0]])
        >>> prune(net, "dense_0", 1)(jnp.array([[3.0]])).tolist()
        [[3.0]]
    """
    return Pruned(model, layer, _indices(units))


def peak_layer(curves: Sequence[float] | np.ndarray) -> int:
    """Tells how many convolutions to keep: all up to the peak of the mean similarity curve.

    n = 1 + argmaxₗ mean over classes of s(class, l), the first of equal peaks.

    Args:
        curves: mean similarity of each convolution, first layer first: (layers,), or (classes, layers) with one curve
            per class. Larger means more similar.

    Returns:
        The number of convolutions to keep, for `jaxcam.models.load(..., convolutions=n)` and another training.

    Raises:
        ValueError: there is no layer, or a value is NaN.

    Paper: section 5.1 of the thesis on class average images, where the peak at layer 3 keeps 4 of 8 convolutions.

    Example:
        >>> peak_layer([0.1, 0.2, 0.4, 0.7, 0.6, 0.6])
        4
    """
    values = np.asarray(curves, np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"curves are (layers,) or (classes, layers), not empty; got shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError(f"a curve is NaN at layer {int(np.argwhere(np.isnan(values))[0, -1])}")
    return int(np.argmax(values.reshape(-1, values.shape[-1]).mean(axis=0))) + 1


def _indices(units: Any) -> tuple[int, ...]:
    """Sorted indices without repetition."""
    found = np.asarray(list(units) if isinstance(units, Iterable) else [units])
    # A mask of booleans would be read as the units 0 and 1.
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise TypeError(f"units are whole numbers from 0; got {found.dtype} (of a mask take np.flatnonzero)")
    if (found < 0).any():
        raise ValueError(f"units count from 0; got {found.min()}")
    return tuple(np.unique(found).tolist())


def along_units(keep: Any, value: Any, place: Place) -> Float[Array, "..."]:
    """A factor per unit (u,), shaped and typed to multiply a layer's value, wherever the model keeps its units."""
    shape = [-1 if axis == place.axes.units else 1 for axis in range(value.ndim)]
    return jnp.asarray(keep, value.dtype).reshape(shape)


def _silencing(anatomy: Anatomy, place: Place, keep: np.ndarray) -> dict[Value, tuple[Sequence[Value], Replacement]]:
    """For `replay`: the layer's value computed otherwise.

    A rectifier or a tag gets the factor before it, which is the same (it maps 0 to 0) and keeps the layer's last
    operation last: so `tap` of the pruned model, which reads there, sees the silence.
    """
    program = anatomy.program
    activation = anatomy.activations.get(place.value)
    if activation is not None:

        def rectified(x: Array) -> Array:
            quiet = x * along_units(keep, x, place)
            return replay(program, {activation.source: quiet}, [activation.result])[0]

        return {place.value: ((activation.source,), rectified)}
    maker = next(node for node in program.nodes if place.value in node.outputs)
    which = [value for value in maker.outputs if value is not None].index(place.value)

    def masked(*operands: Array) -> Array:
        if place.kind == "tag":
            (x,) = operands
            return maker(x * along_units(keep, x, place))[which]
        value = maker(*operands)[which]
        return value * along_units(keep, value, place)

    return {place.value: (maker.operands, masked)}
