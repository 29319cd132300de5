"""The layers of any model: found in its equations, named by its parameters.

A layer is a value a person would ask about: what a convolution or dense layer gives once its bias, batch norm and
ReLU have been applied, where these follow directly; a sum, a pooling, a concatenation; anything tagged with `tag`.
Parameters lend their path (`features.conv3`); what has no path is called by kind and order (`pool_2`). A module used
twice gives `name` and `name@2`.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import warnings
from collections.abc import Iterable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from jaxcam.program.axes import Axes, follow_axes
from jaxcam.program.equations import nested_jaxprs
from jaxcam.program.recognize import Activation, activations, is_affine
from jaxcam.program.trace import LONGEST_SCAN, Node, Program, Value, flatten, trace_model

MODEL_FIELD = (
    "transformed_model"  # the field under which jaxcam's own wrappers keep a model: not part of a layer's name
)
# What a reader counts as layers when they stand inside an equation that stays whole.
_OPERATIONS = {"conv_general_dilated": "convolution", "dot_general": "matrix product"}
_REMEDIES = {
    "while": "write the loop with a fixed number of steps (jax.lax.fori_loop with Python integers, jax.lax.scan)",
    "cond": "choose the branch in Python, outside of the model",
    "scan": f"jaxcam opens loops of at most {LONGEST_SCAN} steps",
}
_REMEDY = "call what is inside as a plain function, or explain it as a model of its own"
_WEIGHTS = {"kernel", "weight", "weights", "w", "W", "weight_v", "scale"}
_CONTAINERS = {"value", "raw_value"}


@dataclasses.dataclass(frozen=True)
class Layer:
    """What can be named inside a model.

    Attributes:
        name: what `tap`, `patch` and all methods take.
        kind: "conv", "dense", "relu", "pool", "add", "concat" or "tag".
        shape: of its value for one image, units last: (h, w, u) or (u,).
        units: the number of its units (channels), u.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    units: int


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a layer is in a program.

    Attributes:
        name: the layer's name.
        kind: the layer's kind.
        value: the program's value that is the layer's.
        axes: the image and unit axes of that value.
        node: the equation the layer starts with (its convolution, its sum).
        aliases: other names it answers to (`conv_3`).
    """

    name: str
    kind: str
    value: Value
    axes: Axes
    node: Node
    aliases: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """A model's program, read once: what depends on the input, which values are layers, which equations rectify."""

    program: Program
    x: Value
    live: set[Value]
    activations: dict[Value, Activation]
    places: list[Place]

    def find(self, name: str) -> Place:
        """The place of a layer.

        Raises:
            ValueError: there is none of that name; the message names the closest.
        """
        for place in self.places:
            if name == place.name:
                return place
        for place in self.places:
            if name in place.aliases:
                return place
        raise ValueError(unknown_layer(name, [place.name for place in self.places]))

    def layer(self, place: Place) -> Layer:
        shape = self.program.avals[place.value].shape
        rest = tuple(size for axis, size in enumerate(shape) if axis not in (place.axes.images, place.axes.units))
        units = shape[place.axes.units]
        return Layer(place.name, place.kind, (*rest, units), units)

    def unopened(self, *operations: str) -> str | None:
        """One line that counts these operations inside equations that stay whole; None if there are none.

        A `while` loop, a `cond`, a long scan and a function with a derivative of its own are one equation of a program:
        what is computed inside cannot be named, tapped or explained.
        """
        names = operations or tuple(_OPERATIONS)
        for node in self.program.nodes:
            if not node.varying(self.live):
                continue
            inside = [name for name in _nested_names(node) if name in names]
            for name in names:
                if (count := inside.count(name)) > 0:
                    noun = _OPERATIONS[name] if count == 1 else f"{_OPERATIONS[name]}s"
                    verb = "stands" if count == 1 else "stand"
                    return (
                        f"{count} {noun} {verb} inside '{node.name}' after {self.owner(node.varying(self.live)[0])}, "
                        f"which stays whole: {_REMEDIES.get(node.name, _REMEDY)}"
                    )
        return None

    def is_input(self, value: Value) -> bool:
        """Whether a value is the images, or these scaled and shifted: no layer comes before it."""
        upstream = self.program.leading_to(value)
        return not any(place.value in upstream for place in self.places)

    def owner(self, value: Value) -> str:
        """The layer whose value was the last before `value`: what an error message names."""
        last, upstream = "the input", self.program.leading_to(value)
        for place in self.places:
            if place.value in upstream:
                last = f"layer '{place.name}'"
        return last


def _nested_names(node: Node) -> list[str]:
    """The operations inside an equation, however deep."""
    nested = [flatten(jaxpr) for jaxpr in nested_jaxprs(node.equation)]
    return [name for program in nested for inner in program.nodes for name in (inner.name, *_nested_names(inner))]


def unknown_layer(name: str, names: list[str]) -> str:
    """The message for a layer that is not there."""
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    known = f"; there are {', '.join(names)}." if len(names) <= 8 else "."
    hint = f"; did you mean '{close[0]}'?" if close else known
    return f"no layer '{name}'{hint} jc.layers(model, x), or jaxcam layers MODEL, lists all {len(names)}."


def study(model: Any, x: Any) -> tuple[Anatomy, list[Any]]:
    """Traces a model and finds its layers.

    Returns:
        The anatomy, and the model's arrays in the order of the program's inputs.
    """
    program, arrays = trace_model(model, x)
    return dissect(program), arrays


def dissect(program: Program) -> Anatomy:
    """Finds the layers of a program whose last input is the image batch."""
    x = program.inputs[-1]
    live = program.depending_on([x])
    found = activations(program)
    axes = follow_axes(program, x, live)
    chain = _Chains(program, live, found)
    leaves = _leaves_of(program)

    places: list[Place] = []
    counts: dict[str, int] = {}
    used: dict[str, int] = {}
    absorbed: dict[Value, str] = {}  # values inside another layer, and that layer
    for node in program.nodes:
        kind = _kind(node, program, live, found, axes)
        if kind is None:
            continue
        output = node.outputs[0]
        assert output is not None
        alias = f"{kind}_{counts.setdefault(kind, 0)}"
        counts[kind] += 1
        if kind in {"relu", "pool"} and output in absorbed:
            places = [
                dataclasses.replace(p, aliases=(*p.aliases, alias)) if p.name == absorbed[output] else p for p in places
            ]
            continue
        value, passed = (output, []) if kind in {"tag", "relu", "concat"} else chain.follow(output)
        if axes[value].images is None or axes[value].units is None:
            continue
        if kind == "tag":
            name = str(node.params["name"])
        else:
            name = _parameter_name(node, program, live, leaves) if kind in {"conv", "dense"} else ""
            name = name or alias
        used[name] = used.get(name, 0) + 1
        if used[name] > 1:
            name = f"{name}@{used[name]}"
        absorbed.update(dict.fromkeys(passed, name))
        places.append(Place(name, kind, value, axes[value], node, (alias,)))
    return Anatomy(program, x, live, found, places)


def _kind(
    node: Node, program: Program, live: set[Value], found: dict[Value, Activation], axes: dict[Value, Axes]
) -> str | None:
    output = node.outputs[0] if node.outputs else None
    if output is None or output not in live:
        return None
    if is_affine(node, live):
        return "conv" if node.name == "conv_general_dilated" else "dense"
    if output in found:
        return "relu"
    varying = node.varying(live)
    match node.name:
        case "name":
            return "tag"
        case "reduce_window_max" | "reduce_window_sum":
            return "pool"
        case "reduce_sum" | "reduce_max":
            before, after = axes[varying[0]], axes[output]
            spatial = len(program.avals[varying[0]].shape) > 2
            return "pool" if spatial and None not in before and None not in after else None
        case "add" | "add_any":
            return "add" if len(varying) == 2 else None
        case "concatenate":
            return "concat" if len(varying) > 1 else None
    return None


class _Chains:
    """Follows a value through the bias, batch norm and rectifier that come directly after it."""

    def __init__(self, program: Program, live: set[Value], found: dict[Value, Activation]) -> None:
        self.program, self.live, self.found = program, live, found
        self.rectified = {activation.source: activation for activation in found.values()}
        self.consumers = program.consumers()
        self.returned = {atom for atom in program.outputs if isinstance(atom, Value)}

    def follow(self, value: Value) -> tuple[Value, list[Value]]:
        """The last value of the chain, and all values passed on the way."""
        passed: list[Value] = []
        while (following := self.next(value)) is not None:
            value = following
            passed.append(value)
            if value in self.found:
                break
        while (following := self._without_extra_axes(value)) is not None:
            value = following
            passed.append(value)
        return value, passed

    def _without_extra_axes(self, value: Value) -> Value | None:
        """Equinox pools each image with an axis of length 1 in front, and takes that axis away at once."""
        readers = self.consumers.get(value, [])
        more = len(self.program.avals[value].shape) > len(self.program.avals[self.program.inputs[-1]].shape)
        taken = more and len(readers) == 1 and readers[0].name == "squeeze" and value not in self.returned
        return readers[0].outputs[0] if taken else None

    def next(self, value: Value) -> Value | None:
        if value in self.returned:
            return None
        readers = self.consumers.get(value, [])
        activation = self.rectified.get(value)
        if activation is not None:
            inside = {*activation.inner, activation.result}
            inner_readers = [reader for inner in activation.inner for reader in self.consumers.get(inner, [])]
            if all(inside.issuperset(reader.outputs) for reader in [*readers, *inner_readers]):
                return activation.result
        if len(readers) != 1:
            return None
        reader = readers[0]
        varying = len(reader.varying(self.live))
        if varying == 1 and reader.name in {"add", "sub", "mul", "div", "convert_element_type"}:
            result = reader.outputs[0]
            same = result is not None and self.program.avals[result].size == self.program.avals[value].size
            return result if same else None
        if varying == 1 and reader.name in {"reshape", "squeeze", "transpose", "expand_dims"}:
            # A change of layout belongs to the layer only if more of the layer follows it (Equinox adds its bias
            # after one).
            result = reader.outputs[0]
            return (
                result if result is not None and self._layout(value, result) and self.next(result) is not None else None
            )
        return None

    def _layout(self, value: Value, result: Value) -> bool:
        sizes = [sorted(size for size in self.program.avals[v].shape if size > 1) for v in (value, result)]
        return sizes[0] == sizes[1]


def _leaves_of(program: Program) -> dict[Value, frozenset[int]]:
    """For each value the inputs it is computed from (by position), the image batch left out."""
    known = {value: frozenset([i]) for i, value in enumerate(program.inputs[:-1])}
    for node in program.nodes:
        sources = frozenset().union(*(known.get(value, frozenset()) for value in node.operands))
        known.update({value: sources for value in node.outputs if value is not None})
    return known


def _parameter_name(node: Node, program: Program, live: set[Value], leaves: dict[Value, frozenset[int]]) -> str:
    kernel = next(atom for atom in node.inputs if not isinstance(atom, Value) or atom not in live)
    if not isinstance(kernel, Value):
        return ""
    names = [path_name(program.paths[i]) for i in sorted(leaves.get(kernel, ()))]
    # The keys that all of a kernel's parameters share: weight norm keeps two beside each other.
    columns = zip(*(name.split(".") for name in names), strict=False)
    return ".".join(column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, columns))


def path_name(path: Iterable[Any]) -> str:
    """A layer's name from the path of its kernel: `.features['conv3'].kernel.value` is `features.conv3`."""
    keys: list[Any] = []
    for key in path:
        if isinstance(key, jax.tree_util.GetAttrKey | jax.tree_util.DictKey):
            keys.append(str(key.name if isinstance(key, jax.tree_util.GetAttrKey) else key.key))
        elif keys:  # a position in a list; before any name it only says how a Partial was built
            keys.append(str(getattr(key, "idx", getattr(key, "key", key))))
        if keys and keys[-1] in {MODEL_FIELD, "params"} and len(keys) == 1:
            keys.clear()
    while len(keys) > 1 and keys[-1] in _CONTAINERS:
        keys.pop()
    if keys and keys[-1] in _WEIGHTS:
        keys.pop()
    return ".".join(keys)


def layers(model: Any, x: Any) -> list[Layer]:
    """Lists what can be named inside a model, in the order of its evaluation.

    Nothing is computed: the model is traced with the shape of x.

    Args:
        model: any callable `x -> outputs`.
        x: a batch (n, h, w, c), or a `jax.ShapeDtypeStruct` of one.

    Returns:
        One `Layer` per convolution or dense layer, sum, pooling, concatenation, free-standing ReLU and tag.

    Raises:
        TypeError: the model is not callable.
        ValueError: the model fails on a single image, which has no batch axis; or all its layers are inside an
            equation that stays whole (a `while` loop, a `cond`). Where only some are, a warning says so.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax.tree_util import Partial
        >>> net = Partial(lambda p, x: jax.nn.relu(x @ p["hidden"]["w"]).sum(-1), {"hidden": {"w": jnp.ones((3, 4))}})
        >>> layers(net, jnp.ones((1, 3)))
        [Layer(name='hidden', kind='dense', shape=(4,), units=4)]
    """
    try:
        anatomy, _ = study(model, x)
    except Exception as error:  # a user's own network may fail in any way
        if len(getattr(x, "shape", ())) != 3 or not callable(model) or "x[None]" in str(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the model fails on an array of shape {tuple(x.shape)}: {reason}; one image needs a batch axis, x[None]"
        ) from error
    if (complaint := anatomy.unopened()) is not None:
        if not any(place.kind in {"conv", "dense"} for place in anatomy.places):
            raise ValueError(f"no layer can be named: {complaint}")
        warnings.warn(f"not all layers can be named: {complaint}", stacklevel=2)
    return [anatomy.layer(place) for place in anatomy.places]


def tag(x: Array, name: str) -> Array:
    """Names a value inside a model of yours; changes nothing.

    tag(x) = x. The name lives in the traced equations, where `layers`, `tap` and `patch` find it; it is JAX's own
    `checkpoint_name`, so values named for rematerialization are layers as well.

    Args:
        x: any array inside a model.
        name: what to call it.

    Returns:
        x.

    Example:
        >>> import jax.numpy as jnp
        >>> [layer.name for layer in layers(lambda x: tag(2 * x, "twice") + 1, jnp.ones((1, 2, 2, 3)))]
        ['twice']
    """
    return checkpoint_name(x, name)
