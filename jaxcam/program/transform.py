"""The transformations: a model in, a function of the same model out.

    tap    : (x → outputs, layer)  ↦  x → activations
    patch  : (x → outputs, layer)  ↦  (x, activations) → outputs
    guided : (x → outputs)         ↦  x → the same outputs, another backward pass
    deconv : likewise

Each result is again a callable pytree whose only arrays are the model's own. So it can be jitted, vmapped,
differentiated, passed through `jax.jit` as an argument, and transformed again: `tap(guided(model), "layer3")`.

Sharp edges. A model is traced anew at every call outside `jit`; put `jax.jit` around what is called often. Batch norm
and dropout have to be in inference mode. A function with a derivative of its own (`jax.custom_vjp`) stays whole:
layers inside it have no names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcam.program.layers import MODEL_FIELD, Anatomy, Place, study
from jaxcam.program.recognize import Activation, is_piecewise_linear
from jaxcam.program.trace import Replacements, Value, replay


def canonical(value: Array, place: Place) -> Array:
    """A layer's value with images first and units last, wherever the model keeps them."""
    images, units = place.axes
    assert images is not None
    assert units is not None
    return jnp.moveaxis(value, (images, units), (0, -1))


def original(value: Array, place: Place) -> Array:
    """The inverse of `canonical`."""
    images, units = place.axes
    assert images is not None
    assert units is not None
    return jnp.moveaxis(value, (0, -1), (images, units))


def given(anatomy: Anatomy, arrays: list[Any], x: Array) -> dict[Value, Any]:
    """The values a replay starts from: the model's arrays and the images."""
    return dict(zip(anatomy.program.inputs, [*arrays, x], strict=True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Renewed:
    """x ↦ outputs of a model that is made anew from its parts at each call.

    A module that writes to itself while it is called (`sow` of Flax NNX) may only do so within the
    transformation it was made in. A copy made where it is called is right anywhere, and what it
    writes goes with it: the user's model stays as it was.
    """

    transformed_model: Any

    def __call__(self, x: Any) -> Any:
        leaves, tree = jax.tree_util.tree_flatten(self.transformed_model)
        return jax.tree_util.tree_unflatten(tree, leaves)(x)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Tap:
    """x ↦ a layer's value, or several layers' as a dict. Made by `tap`."""

    transformed_model: Any
    layers: str | tuple[str, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Any:
        anatomy, arrays = study(self.transformed_model, x)
        names = [self.layers] if isinstance(self.layers, str) else list(self.layers)
        places = [anatomy.find(name) for name in names]
        values = replay(anatomy.program, given(anatomy, arrays, x), [place.value for place in places])
        found = [canonical(value, place) for value, place in zip(values, places, strict=True)]
        return found[0] if isinstance(self.layers, str) else dict(zip(names, found, strict=True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Patch:
    """(x, activations) ↦ the outputs with a layer's value replaced. Made by `patch`."""

    transformed_model: Any
    layer: str = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array, activations: Array) -> Any:
        anatomy, arrays = study(self.transformed_model, x)
        place = anatomy.find(self.layer)
        aval = anatomy.program.avals[place.value]
        want = jax.eval_shape(lambda value: canonical(value, place), aval).shape
        if jnp.shape(activations) != want:
            raise ValueError(f"layer '{self.layer}' has activations of shape {want}; got {jnp.shape(activations)}")
        value = original(jnp.asarray(activations, aval.dtype), place)
        values = {**given(anatomy, arrays, x), place.value: value}
        outputs = replay(anatomy.program, values, anatomy.program.outputs)
        return jax.tree_util.tree_unflatten(anatomy.program.out_tree, outputs)


def as_pytree(model: Any) -> Any:
    """The model; a bare function wrapped, so that what is made of it can be an argument of `jax.jit` as well.

    Raises:
        TypeError: it is not callable.
    """
    if not callable(model):
        raise TypeError(f"a model is a callable x -> outputs; got {type(model).__name__}")
    return jax.tree_util.Partial(model) if jax.tree_util.all_leaves([model]) else model


class RuleError(ValueError):
    """An operation that a backward rule says nothing about."""


# (a rectifier, what it is) ↦ the rectifier with another backward pass
Rule = Callable[[Callable[..., Any], Activation], Callable[..., Any]]


def guided_rule(rectify: Callable[..., Any], activation: Activation) -> Callable[..., Any]:
    """The rectifier with the guided backward pass: R ↦ rectify'(x) · max(R, 0)."""

    @jax.custom_vjp
    def guided_relu(x: Array) -> Array:
        return rectify(x)

    def forward(x: Array) -> tuple[Array, Any]:
        return rectify(x), x

    def backward(x: Array, cotangent: Array) -> tuple[Array]:
        return (activation.pull_back(rectify, x, jnp.maximum(cotangent, 0)),)

    guided_relu.defvjp(forward, backward)
    return guided_relu


def deconv_rule(rectify: Callable[..., Any], activation: Activation) -> Callable[..., Any]:
    """The rectifier with the deconvnet's backward pass: R ↦ max(R, 0), whatever x was."""

    @jax.custom_vjp
    def deconv_relu(x: Array) -> Array:
        return rectify(x)

    def forward(x: Array) -> tuple[Array, None]:
        return rectify(x), None

    def backward(_: None, cotangent: Array) -> tuple[Array]:
        return (jnp.maximum(cotangent, 0),)

    deconv_relu.defvjp(forward, backward)
    return deconv_relu


RULES: dict[str, Rule | None] = {"gradient": None, "guided": guided_rule, "deconv": deconv_rule}


def rectifier_replacements(anatomy: Anatomy, rule: str) -> Replacements:
    """Every rectifier of a program with another backward pass.

    Raises:
        ValueError: the rule is unknown, or the program has a nonlinear operation the rule says nothing about.
    """
    if rule not in RULES:
        raise ValueError(f"no rule '{rule}'; there are {', '.join(RULES)}.")
    make = RULES[rule]
    if make is None:
        return {}
    _check_ruled(anatomy, rule)
    makers = {value: node for node in anatomy.program.nodes for value in node.outputs}
    replacements: Replacements = {}
    for result, activation in anatomy.activations.items():
        if result not in anatomy.live or not jnp.issubdtype(anatomy.program.avals[result].dtype, jnp.floating):
            continue
        node = makers[result]

        def rectify(x: Array, node: Any = node, activation: Any = activation) -> Array:
            values = {activation.source: x}
            return replay(anatomy.program, values, [activation.result])[0]

        replacements[result] = ((activation.source,), make(rectify, activation))
    return replacements


def _check_ruled(anatomy: Anatomy, rule: str) -> None:
    """Raises where an operation would silently keep its ordinary gradient."""
    inner = {value for activation in anatomy.activations.values() for value in activation.inner}
    used = anatomy.program.used  # an output that is not returned has no gradient
    for index, node in enumerate(anatomy.program.nodes):
        outputs = {value for value in node.outputs if value in used}
        if not outputs or not outputs & anatomy.live or outputs <= inner or outputs & anatomy.activations.keys():
            continue
        if not is_piecewise_linear(node, anatomy.live):
            source = next(v for v in node.operands if v in anatomy.live)
            aval = anatomy.program.avals[min(outputs)]
            raise RuleError(
                f"the {rule} rule says nothing about equation {index}, '{node.name}' giving {aval.str_short()}, after "
                f"{anatomy.owner(source)}: it is defined for rectifiers, max pooling and linear operations; "
                "explain the logits (no softmax), or use the plain gradient."
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Ruled:
    """The model with another backward pass. Made by `guided` and `deconv`."""

    transformed_model: Any
    rule: str = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Any:
        return replaced(self.transformed_model, x, lambda anatomy: rectifier_replacements(anatomy, self.rule))


def replaced(model: Any, x: Array, replacements: Callable[[Anatomy], Replacements]) -> Any:
    """The outputs of a model some of whose equations are computed otherwise.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c).
        replacements: the model's anatomy ↦ what `replay` puts in place of its equations.
    """
    anatomy, arrays = study(model, x)
    outputs = replay(anatomy.program, given(anatomy, arrays, x), anatomy.program.outputs, replacements(anatomy))
    return jax.tree_util.tree_unflatten(anatomy.program.out_tree, outputs)


def check_rectifies(model: Any, x: Array, method: str) -> None:
    """Raises unless something between the images and the outputs of a model rectifies.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c).
        method: the method that needs it, for the message.

    Raises:
        ValueError: there is no rectifier, so a rule for rectifiers changes nothing.
    """
    anatomy, _ = study(model, x)
    if anatomy.live.isdisjoint(anatomy.activations):
        raise ValueError(
            f"{method} is another backward pass through ReLUs (or ReLU6, leaky ReLU), and the model has none; its maps "
            "would be the plain gradient, which is saliency"
        )


def tap(model: Any, layer: str | list[str] | tuple[str, ...]) -> Tap:
    """The part of a model up to a layer, as a model of its own.

    tap(f, l)(x) = aₗ(x), the activations of layer l, images first and units last.

    Args:
        model: any callable `x -> outputs`.
        layer: a name that `layers` lists, or several.

    Returns:
        A callable `x (n, h, w, c) -> (n, h', w', u)`, or for several layers a dict of such arrays by name.

    Raises:
        TypeError: the model is not callable, or the layer no name.
        ValueError: at the call, if there is no such layer; the message names the closest.

    Example:
        >>> net = lambda x: jax.nn.relu(x @ jnp.array([[1.0], [-1.0]]))
        >>> tap(net, "dense_0")(jnp.array([[3.0, 1.0], [1.0, 3.0]])).tolist()
        [[2.0], [0.0]]
    """
    if not isinstance(layer, str | list | tuple):
        raise TypeError(f"a layer is a name that jc.layers(model, x) lists, such as 'conv_0'; got {layer!r}")
    return Tap(as_pytree(model), layer if isinstance(layer, str) else tuple(layer))


def patch(model: Any, layer: str) -> Patch:
    """A model whose layer takes another value.

    patch(f, l)(x, a) = f(x) computed with aₗ := a; so patch(f, l)(x, tap(f, l)(x)) = f(x), and the gradient with
    respect to a is Grad-CAM's.

    Args:
        model: any callable `x -> outputs`.
        layer: a name that `layers` lists.

    Returns:
        A callable `(x (n, h, w, c), a (n, h', w', u)) -> outputs`.

    Raises:
        ValueError: at the call, if there is no such layer or the activations have another shape.

    Example:
        >>> net = lambda x: 10 * jax.nn.relu(x @ jnp.array([[1.0], [-1.0]]))
        >>> patch(net, "dense_0")(jnp.array([[3.0, 1.0]]), jnp.array([[5.0]])).tolist()
        [[50.0]]
    """
    return Patch(as_pytree(model), layer)


def guided(model: Any) -> Ruled:
    """The same model, whose ReLUs let only positive gradients back through.

    At every ReLU y = max(x, 0) the gradient R becomes R · [x > 0] · [R > 0], however the ReLU is written: where x is
    exactly 0, nothing passes. Outputs are the model's own; only derivatives differ.

    Args:
        model: any callable `x -> outputs` made of linear operations, rectifiers (ReLU, ReLU6, leaky ReLU) and max
            pooling.

    Returns:
        A callable with the same outputs.

    Raises:
        ValueError: at the call, if the model has another nonlinearity; the message names its equation and layer.

    Example:
        >>> net = lambda x: -jax.nn.relu(x)
        >>> jax.grad(lambda x: guided(net)(x).sum())(jnp.array([[1.0, -1.0]])).tolist()
        [[0.0, 0.0]]

    Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015. Differs from: the paper and
    Captum know ReLU only; for ReLU6 and leaky ReLU the ordinary derivative is taken of the positive R, at a kink that
    of the side where the unit is off (0, for a leaky ReLU its slope), as PyTorch's.
    """
    return Ruled(as_pytree(model), "guided")


def deconv(model: Any) -> Ruled:
    """The same model, whose ReLUs treat the backward pass as the forward one.

    At every ReLU the gradient R becomes max(R, 0), whatever the input was. Outputs are the model's own; only
    derivatives differ.

    Args:
        model: any callable `x -> outputs` made of linear operations, rectifiers and max pooling.

    Returns:
        A callable with the same outputs.

    Raises:
        ValueError: at the call, if the model has another nonlinearity; the message names its equation and layer.

    Example:
        >>> jax.grad(lambda x: deconv(jax.nn.relu)(x).sum())(jnp.array([[1.0, -1.0]])).tolist()
        [[1.0, 1.0]]

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014.
    """
    return Ruled(as_pytree(model), "deconv")


assert MODEL_FIELD in {field.name for field in dataclasses.fields(Tap)}
