"""What each unit saw, and how much of the image is in it: `maps` and `similarity`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import check_batch, check_finite
from jaxcam.attribution.targets import select_output
from jaxcam.neurons.confidence import Images
from jaxcam.neurons.engine import Engine, LayerUnits, check_rule
from jaxcam.neurons.measures import Measure, measure
from jaxcam.neurons.passes import maps_in_chunks, prepare
from jaxcam.program.compiled import compiled
from jaxcam.program.trace import Static, split
from jaxcam.program.transform import Ruled

AGAINST = ("image", "confidence")


def maps(
    model: Any,
    x: Images,
    layer: str,
    units: Sequence[int] | np.ndarray | None = None,
    rule: str = "guided",
    *,
    steps: int = 32,
    precision: str = "float32",
    memory: int | None = None,
) -> Float[Array, "units n h w c"]:
    """What in each image a unit responds to: one map for each unit of a layer.

    Mᵤ(x) = ∂(Σ aᵤ(x))/∂x under a backward rule, aᵤ being the unit's activation, summed over space.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float32, as the model takes them.
        layer: a name that `jc.layers` lists.
        units: which units, each in [0, u); None for all.
        rule: "guided" (guided backpropagation), "gradient", "deconv" or "integrated" (integrated gradients from black).
        steps: of integrated gradients.
        precision: of the matrix products, "float32", "tensorfloat32" or "bfloat16".
        memory: bytes the engine may take on each device; None for half of what it has, but on CPUs at most 8 GiB.

    Returns:
        Raw maps (units, n, h, w, c) with sign, in units of activation per unit of x (of activation, if integrated). A
        unit that an image does not activate has a black map there.

    Raises:
        ValueError: no such layer, unit or rule; images the model fails on, or with NaN; an operation the rule says
            nothing about.
        TypeError: images that are not floating point.

    Example:
        >>> net = lambda x: jax.nn.relu(x @ jnp.array([[1.0], [-1.0]])).sum((1, 2))
        >>> maps(net, jnp.array([[[[3.0, 1.0]]]]), "dense_0", rule="gradient").tolist()
        [[[[[1.0, -1.0]]]]]

    Springenberg et al. 2015 (guided), Simonyan et al. 2014 (gradient), Zeiler and Fergus 2014 (deconv), Sundararajan
    et al. 2017 (integrated). Differs from: the deconvnet and integrated maps of a dead unit, which the papers leave
    as they come, are black here as well.
    """
    check_images(x)
    x = jnp.asarray(x)
    options: dict[str, Any] = {"steps": steps, "precision": precision, "memory": memory, "dtype": x.dtype}
    asked = None if units is None else np.size(units)
    engine = Engine(model, (1, *x.shape[1:]), [layer], rule, asked=asked, **options)
    count = engine.anatomy.layer(engine.anatomy.find(layer)).units
    wanted = np.arange(count) if units is None else np.asarray(units)
    if (
        wanted.ndim != 1
        or wanted.size == 0
        or not np.issubdtype(wanted.dtype, np.integer)
        or np.any((wanted < 0) | (wanted >= count))
    ):
        raise ValueError(f"layer '{layer}' has units 0 to {count - 1}; got units={units}")
    if _is_traced(engine, x):
        chunk = engine.chunk(layer, len(wanted))
        how = (layer, engine.rule, engine.steps, precision)
        each = [maps_in_chunks(prepare(model, x[i : i + 1], *how), jnp.asarray(wanted), chunk) for i in range(len(x))]
        return jnp.concatenate(each, axis=1)
    found = []
    for i in range(len(x)):
        sender = engine.image(x[i : i + 1]).layer(engine.layers[0])
        found.append(jnp.concatenate([some_maps[: len(some)] for some, some_maps in sender.chunks(wanted)]))
    return jnp.concatenate(found, axis=1)


def similarity(
    model: Any,
    x: Images,
    layers: Sequence[str] | None = None,
    *,
    rule: str = "guided",
    against: str = "image",
    metric: str = "cosine",
    target: int | Sequence[int] | None = None,
    steps: int = 32,
    precision: str = "float32",
    memory: int | None = None,
) -> dict[str, Float[Array, "n u"]]:
    """How similar the map of every unit is to the image, or to the map of the network's answer.

    sᵤ(x) = measure(Mᵤ(x), r), with r = x (method one) or r = the map of the target's logit (method two). Maps are
    reduced as they appear; they are never all in memory.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float32; class average images, usually.
        layers: names that `jc.layers` lists; None for every convolution.
        rule: "guided", "gradient", "deconv" or "integrated".
        against: "image", or "confidence" for the map of the target's logit under the same rule.
        metric: "cosine" (in [-1, 1]), "euclidean", "hamming", "histogram" or "perceptual_hash" (distances).
        target: the class whose logit is meant by "confidence": one for all images, one for each, or None for the
            predicted.
        steps: of integrated gradients.
        precision: of the matrix products, "float32", "tensorfloat32" or "bfloat16".
        memory: bytes the engine may take on each device; None for half of what it has, but on CPUs at most 8 GiB.

    Returns:
        For each layer (n, u). A dead unit has what the measure gives a black map: 0 for cosine.

    Raises:
        ValueError: no such layer, rule, measure or target; images the model fails on, or with NaN.
        TypeError: images that are not floating point.

    Example:
        >>> net = lambda x: jax.nn.relu(x @ jnp.array([[1.0, -1.0], [1.0, -1.0]]))
        >>> similarity(net, jnp.ones((1, 1, 1, 2)), ["dense_0"])["dense_0"].round(3).tolist()
        [[1.0, 0.0]]

    From the thesis on class average images, formulas 3-2 to 3-6.
    """
    check_images(x)
    x, chosen = jnp.asarray(x), measure(metric)
    options: dict[str, Any] = {"steps": steps, "precision": precision, "memory": memory, "dtype": x.dtype}
    engine = Engine(model, (1, *x.shape[1:]), layers, rule, **options)
    references = reference(model, x, against, rule, target, steps)
    if _is_traced(engine, x):
        return _traced_similarity(engine, model, x, references, chosen)
    found: dict[str, list[np.ndarray]] = {name: [] for name in engine.layers}
    for i in range(len(x)):
        image = engine.image(x[i : i + 1])
        for name in engine.layers:
            found[name].append(layer_similarity(image.layer(name), references[i : i + 1], chosen))
    return {name: jnp.stack([jnp.asarray(row) for row in rows]) for name, rows in found.items()}


def layer_similarity(sender: LayerUnits, reference: Array, chosen: Measure) -> np.ndarray:
    """The similarities (u,) of one layer's units to one reference (1, h, w, c); dead units are not sent back at all."""
    result = np.full(len(sender.dead), chosen.dead, np.float32)
    for units, some_maps in sender.chunks(np.flatnonzero(~sender.dead)):
        result[units] = np.asarray(_measured(some_maps, reference, chosen.function))[: len(units)]
    return result


@functools.partial(compiled, static_argnames="function")
def _measured(maps: Array, reference: Array, function: Callable[..., Array]) -> Array:
    return function(maps, reference)[:, 0]


def _traced_similarity(
    engine: Engine, model: Any, x: Array, references: Array, chosen: Measure
) -> dict[str, Float[Array, "n u"]]:
    """The same under an outer transformation, where the work can't depend on values: nothing is skipped."""
    found = {}
    for name in engine.layers:
        rows = []
        for i in range(len(x)):
            state = prepare(model, x[i : i + 1], name, engine.rule, engine.steps, engine.precision)
            units = jnp.arange(state.dead.shape[-1])
            chunk = engine.chunk(name, len(units))
            rows.append(
                maps_in_chunks(state, units, chunk, functools.partial(_row, chosen.function, references[i : i + 1]))
            )
        found[name] = jnp.stack(rows)
    return found


def _row(function: Callable[..., Array], reference: Array, maps: Array) -> Array:
    return function(maps, reference)[:, 0]


def reference(
    model: Any, x: Array, against: str, rule: str, target: int | Sequence[int] | None = None, steps: int = 32
) -> Array:
    """What maps are compared with: the images, or the maps of their targets' logits."""
    if against not in AGAINST:
        raise ValueError(f"similarity is against {' or '.join(map(repr, AGAINST))}; got against={against!r}")
    check_rule(rule, steps)
    if against == "image":
        return jnp.asarray(x)
    arrays, static = split(model)
    classes = jax.eval_shape(model, x).shape
    if len(classes) != 2:
        raise ValueError(f"against='confidence' needs a model with outputs (n, k); this one's are {classes}")
    targets = np.asarray(-1 if target is None else target)
    if targets.shape not in {(), (len(x),)}:
        raise ValueError(f"a target is one class, or one for each of {len(x)} images; got target={target}")
    targets = np.broadcast_to(targets, (len(x),))
    if target is not None and not np.all((targets >= 0) & (targets < classes[1])):
        raise ValueError(f"targets are classes 0 to {classes[1] - 1}; got target={target}")
    path = steps if rule == "integrated" else 0
    return _confidence_map(arrays, static, x, jnp.asarray(targets), "gradient" if path else rule, path)


@functools.partial(compiled, static_argnames=("static", "rule", "steps"))
def _confidence_map(arrays: list[Any], static: Static, x: Array, targets: Array, rule: str, steps: int) -> Array:
    model = static.join(arrays)
    targets = jnp.where(targets < 0, jnp.argmax(model(x), axis=-1), targets)
    ruled = model if rule == "gradient" else Ruled(model, rule)

    def score(image: Array) -> Array:
        return jnp.sum(select_output(ruled(image), targets))

    gradient = jax.grad(score)
    if not steps:
        return gradient(x)
    return x * jnp.mean(jax.lax.map(lambda i: gradient(x * (i + 0.5) / steps), jnp.arange(steps)), axis=0)


def check_images(x: Any) -> None:
    """Raises unless x is a batch of finite images (n, h, w, c)."""
    check_batch(x)
    check_finite(x)


def _is_traced(engine: Engine, x: Any) -> bool:
    """Whether the images, the model's arrays, or what a closure closed over are under an outer transformation."""
    values = [x, *engine.arrays, *engine.anatomy.program.constants.values()]
    return any(isinstance(value, jax.core.Tracer) for value in values)
