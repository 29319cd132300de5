"""A Flax NNX module taken apart into plain arrays, to be differentiated, donated and stored, and put together again.

    module  ⇄  its form, parameters {name: array}, statistics {name: array}

Parameters (`nnx.Param`) are what is learned; statistics (batch norm's, say) are what the forward pass updates. The keys
of dropout are neither: they are drawn anew for every step from the training's own seed, so none has to be kept.
The form holds no array and can be hashed: networks of one form share their compiled programs.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

Arrays = dict[str, Array]

GROUPS = (nnx.Param, nnx.RngState, nnx.Intermediate, ...)
"""How a module is split: parameters, random states, what it records on the way (left out), and all the rest."""


@dataclasses.dataclass(frozen=True)
class Group:
    """The form of one group of variables."""

    structure: Any
    names: tuple[str, ...]
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, state: nnx.State[Any, Any]) -> "Group":
        """The form of a state."""
        leaves, structure = jax.tree.flatten(state)
        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        return cls(structure, tuple(named(state)), shapes)

    def filled(self, arrays: Sequence[Array]) -> nnx.State[Any, Any]:
        """The state with these values, in the order of the names."""
        state: nnx.State[Any, Any] = jax.tree.unflatten(self.structure, arrays)
        return state


@dataclasses.dataclass(frozen=True)
class Form:
    """All about a module but its values, in training mode and in evaluation mode."""

    training: nnx.GraphDef[Any]
    evaluation: nnx.GraphDef[Any]
    parameters: Group
    statistics: Group
    random: Group

    def join(self, parameters: Arrays, statistics: Arrays, *, key: Key[Array, ""] | None = None) -> Any:
        """A module with these values: in training mode with a key, in evaluation mode without."""
        definition = self.evaluation if key is None else self.training
        return nnx.merge(
            definition,
            self.parameters.filled([parameters[name] for name in self.parameters.names]),
            self.statistics.filled([statistics[name] for name in self.statistics.names]),
            self.random.filled(_streams(self.random, jax.random.key(0) if key is None else key)),
        )


def take_apart(model: nnx.Module) -> tuple[Form, Arrays, Arrays]:
    """Takes a module apart.

    Args:
        model: any NNX module; left as it is.

    Returns:
        its form; copies of its parameters and of its statistics, by path: `features.conv0.kernel`.
    """
    copy = nnx.clone(model)
    copy.train()
    training, *states = nnx.split(copy, *GROUPS)
    parameters, random, _, statistics = states
    copy.eval()
    form = Form(training, nnx.graphdef(copy), Group.of(parameters), Group.of(statistics), Group.of(random))
    # Copies of our own: what training is given is donated, that is, gone.
    return form, jax.tree.map(jnp.copy, named(parameters)), jax.tree.map(jnp.copy, named(statistics))


def statistics_of(model: nnx.Module) -> Arrays:
    """The values of a module that are neither parameters nor random states nor what it recorded on the way."""
    return named(nnx.split(model, *GROUPS)[-1])


def put_back(model: nnx.Module, form: Form, parameters: Arrays, statistics: Arrays) -> None:
    """Gives a module these values, in place, and leaves it in evaluation mode."""
    nnx.update(
        model,
        form.parameters.filled([parameters[name] for name in form.parameters.names]),
        form.statistics.filled([statistics[name] for name in form.statistics.names]),
    )
    model.eval()


def named(state: nnx.State[Any, Any]) -> Arrays:
    """The values of a state by path, in the order of its leaves."""
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    # The last step leads from a variable into its value, which is no step of the path that users see.
    return {".".join(map(_step, path[:-1])): value for path, value in flat}


def _step(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))


def _streams(group: Group, key: Key[Array, ""]) -> list[Array]:
    """Random streams with keys of their own drawn from `key`, none of it used yet.

    A module may bring keys of any kind and, where it was built by vmap, any number of them.
    """
    values: list[Array] = []
    for number, (name, leaf) in enumerate(zip(group.names, group.leaves, strict=True)):
        is_typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        if not (is_typed or name.endswith("key")):
            values.append(jnp.zeros(leaf.shape, leaf.dtype))
            continue
        own = jax.random.fold_in(key, number)
        if not is_typed:
            values.append(jax.random.bits(own, leaf.shape, leaf.dtype))
            continue
        like = jax.eval_shape(jax.random.key_data, leaf)
        bits = jax.random.bits(own, like.shape, like.dtype)
        values.append(jax.random.wrap_key_data(bits, impl=jax.random.key_impl(jnp.empty((), leaf.dtype))))
    return values
