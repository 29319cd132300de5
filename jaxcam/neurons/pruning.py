"""Does the measure mean anything? Silence the units it ranks highest, or lowest, and see what is left of the accuracy.

If similarity says how much a unit matters, removing the most similar units must hurt, and removing the least similar
must not. But most units of a deep layer are dead on the class averages: they are the least similar by definition, and
removing them proves nothing. So two controls go with each result: removing as many units at random, over several seeds,
and the whole comparison among the live units only. A unit is live if the average image of at least one class activates
it.
"""

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num
from rich.console import Console
from rich.progress import Progress

from jaxcam.neurons.candidates import compete
from jaxcam.neurons.inference import check_images, check_labels, check_outputs, padded_batches
from jaxcam.neurons.measures import measure
from jaxcam.neurons.prune import along_units
from jaxcam.neurons.pruning_table import PruningRow
from jaxcam.program.compiled import compiled
from jaxcam.program.layers import study
from jaxcam.program.rewrite import rewrites
from jaxcam.program.trace import Static, replay, split
from jaxcam.program.transform import given


def pruning_study(
    model: Any,
    images: Num[Array, "..."] | Num[np.ndarray, "..."],
    labels: Num[Array, "..."] | Num[np.ndarray, "..."],
    similarity: Mapping[str, Float[np.ndarray, "k u"]],
    dead: Mapping[str, Bool[np.ndarray, "k u"]],
    *,
    fraction: float = 0.4,
    seeds: int = 5,
    layers: Sequence[str] | None = None,
    metric: str = "cosine",
    candidates: Sequence[int] | None = None,
    batch: int = 256,
    progress: bool = True,
) -> list[PruningRow]:
    """Measures the accuracy without the most, the least similar, and random units of each layer, one layer at a time.

    A unit's score is its similarity averaged over all classes, sᵤ = (1/k) Σ s(class, u), with its value for a black map
    where it is dead. Removed are the round(fraction · units) highest or lowest scores, equal ones in the order of the
    units; among live units, round(fraction · live) of these. Nothing is fine-tuned.

    Args:
        model: x (n, h, w, c) -> logits (n, k).
        images: (n, h, w, c) floating point, test images.
        labels: (n,) integers, the model's output for each image.
        similarity: for each layer (k, u), values of the metric per class and unit.
        dead: for each layer (k, u), True where the class's average does not activate the unit.
        fraction: share of units to remove, in [0, 1].
        seeds: how many random choices, seeds 0, 1, …; a choice depends on seed, layer name and number of units only.
        layers: the layers to study; all of `similarity` if None.
        metric: the measure of `similarity`, which says whether larger means more similar.
        candidates: the model's outputs that compete: the largest of them is the prediction; None for all of them.
        batch: images in the model at a time.
        progress: whether to show a progress bar on stderr.

    Returns:
        For each layer 5 + 2 · seeds rows; each says how many outputs competed.

    Raises:
        ValueError: unknown layer or metric, arrays of another shape than the layer, NaN, labels that do not fit
            the outputs or the candidates, impossible options.
        TypeError: images are not floating point, or labels are not integers.

    Paper: section 5.2 of the thesis on class average images (40 %).

    Differs from the paper: the random and the live controls are ours.

    Example:
        >>> net = lambda x: jax.nn.relu(x.mean((1, 2)) @ jnp.eye(2)) @ jnp.eye(2)
        >>> images = np.eye(2).reshape(2, 1, 1, 2)
        >>> rows = pruning_study(net, images, np.array([0, 1]), {"dense_0": np.array([[0.1, 0.9]])},
        ...                      {"dense_0": np.array([[False, False]])}, fraction=0.5, seeds=1, progress=False)
        >>> [(row.which, row.accuracy) for row in rows[:3]]
        [('none', 1.0), ('most', 0.5), ('least', 1.0)]
    """
    check_images(images, batch)
    check_labels(images, labels)
    if not 0 <= fraction <= 1 or seeds < 1:
        raise ValueError(f"pruning needs 0 ≤ fraction ≤ 1 and seeds ≥ 1; got {fraction} and {seeds}")
    oriented = measure(metric).oriented
    chosen = list(similarity if layers is None else layers)
    _check_layers(model, images, chosen, similarity, dead)
    images = np.asarray(images) if isinstance(images, jax.Array) else images
    model, labels = compete(model, labels, candidates)
    arrays, static = split(model)
    competing = check_outputs(static, arrays, (1, *images.shape[1:]), labels)

    rows = []
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("pruning", total=len(chosen) * images.shape[0])
        for layer in chosen:
            scores = oriented(np.asarray(similarity[layer], np.float64)).mean(axis=0)
            live: np.ndarray = np.logical_not(np.asarray(dead[layer], bool).all(axis=0))
            removals = _removals(layer, scores, live, fraction, seeds)
            # Where all units are live, half of the choices are made twice.
            keeps, places = np.unique([keep for _, _, keep in removals], axis=0, return_inverse=True)
            hits = np.zeros(len(keeps), np.int64)
            for part, padded, own in padded_batches(images, labels, batch):
                # Nothing is classified as −1, the label of the images that fill up the last batch.
                hits += np.asarray(_hits(static, layer, arrays, padded, own, keeps.astype(np.float32)))
                bar.advance(task, part.stop - part.start)
            for (which, seed, _), place in zip(removals, places.ravel(), strict=True):
                accuracy = int(hits[place]) / images.shape[0]
                units = (layer, len(live), int(live.sum()))
                rows.append(PruningRow(*units, which, seed, float(fraction), accuracy, competing))
    return rows


def _check_layers(
    model: Any, images: Any, layers: list[str], similarity: Mapping[str, Any], dead: Mapping[str, Any]
) -> None:
    """Raises unless every layer is there and its arrays fit it, before any of the long work."""
    anatomy, _ = study(model, jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32))
    for layer in layers:
        units = anatomy.layer(anatomy.find(layer)).units
        for what, table in (("similarities", similarity), ("dead units", dead)):
            if layer not in table:
                near = difflib.get_close_matches(layer, table, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"no {what} of layer '{layer}'{hint} (there are those of {len(table)} layers)")
            shape = np.shape(table[layer])
            if len(shape) != 2 or shape[0] == 0 or shape[1] != units:
                raise ValueError(
                    f"{what} of layer '{layer}' have shape {shape}; its {units} units need (classes, {units})"
                )
        if not np.isfinite(similarity[layer]).all():
            raise ValueError(f"a similarity of layer '{layer}' is NaN or infinite")


def ends(scores: np.ndarray, candidates: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """The candidates of the highest scores, highest first, and those of the lowest, lowest first: a share of them each.

    Example:
        >>> [units.tolist() for units in ends(np.array([0.1, 0.9, 0.5]), np.array([0, 1, 2]), 0.34)]
        [[1], [0]]
    """
    count = round(fraction * len(candidates))
    lowest = candidates[np.argsort(scores[candidates], kind="stable")]
    highest = candidates[np.argsort(-scores[candidates], kind="stable")]
    return highest[:count], lowest[:count]


def _removals(
    layer: str, scores: np.ndarray, live: np.ndarray, fraction: float, seeds: int
) -> list[tuple[str, int | None, np.ndarray]]:
    """What to remove: kind, seed, and for each unit whether it is kept."""
    everyone = np.arange(len(scores))

    def without(removed: np.ndarray) -> np.ndarray:
        return ~np.isin(everyone, removed)

    removals: list[tuple[str, int | None, np.ndarray]] = [("none", None, without(everyone[:0]))]
    for suffix, candidates in (("", everyone), ("_live", everyone[live])):
        most, least = ends(scores, candidates, fraction)
        removals.append(("most" + suffix, None, without(most)))
        removals.append(("least" + suffix, None, without(least)))
        for seed in range(seeds):
            drawn = np.random.default_rng([seed, *layer.encode()]).permutation(candidates)[: len(most)]
            removals.append(("random" + suffix, seed, without(drawn)))
    return removals


@partial(compiled, static_argnums=(0, 1))
def _hits(
    static: Static, layer: str, arrays: list[Any], x: jax.Array, labels: jax.Array, keeps: jax.Array
) -> jax.Array:
    """For each mask of units, how many images are classified correctly.

    What comes before the layer, and what bypasses it, is computed once; only the rest once per mask.
    """
    anatomy, arrays = study(static.join(arrays), x)
    program, place = anatomy.program, anatomy.find(layer)
    faster = rewrites(program)
    after = program.depending_on([place.value])
    read = {value for node in program.nodes if not after.isdisjoint(node.outputs) for value in node.operands}
    bypass = sorted((read & anatomy.live) - after)
    start = given(anatomy, arrays, x)
    value, *others = replay(program, start, [place.value, *bypass], faster)
    start = {**start, **dict(zip(bypass, others, strict=True))}

    def count(keep: jax.Array) -> jax.Array:
        quiet = value * along_units(keep, value, place)
        (logits,) = replay(program, {**start, place.value: quiet}, program.outputs, faster)
        return (logits.argmax(axis=-1) == labels).sum()

    return jax.lax.map(count, keeps)
