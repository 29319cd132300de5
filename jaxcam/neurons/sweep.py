"""Every unit of every layer for every class, streamed to a store: `sweep`.

The work is a list of items (class, layer), done in order. What an item gives depends on nothing but the model, the
class average and the options, and each of its arrays is one chunk of the store, written under another name and
renamed; last comes the item's mark. So a sweep killed at any moment leaves whole items and items without a mark, and
the next one does the latter: the finished store is, byte for byte, that of a sweep never interrupted.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from skimage.measure import block_reduce

from jaxcam.neurons.budget import chunk_memory
from jaxcam.neurons.candidates import checked
from jaxcam.neurons.confidence import Images, confidences
from jaxcam.neurons.engine import Engine, LayerUnits
from jaxcam.neurons.hosts import Crew, Item, Processes
from jaxcam.neurons.measures import Measure, measure
from jaxcam.neurons.similarity import check_images, layer_similarity, reference
from jaxcam.neurons.store import EXTREMES, THUMBNAIL, Store, Sweep, open_sweep


def sweep(
    model: Any,
    averages: Images,
    out: str | Any,
    *,
    classes: Sequence[str] | None = None,
    outputs: Sequence[int] | None = None,
    layers: Sequence[str] | None = None,
    rule: str = "guided",
    against: str = "image",
    metric: str = "cosine",
    steps: int = 32,
    describe: dict[str, Any] | None = None,
    precision: str = "float32",
    memory: int | None = None,
    progress: bool = True,
    processes: Processes | None = None,
) -> Sweep:
    """Measures every unit of every layer on every class average, into a Zarr store that survives any interruption.

    For each class i and each unit u of each layer: the similarity sᵢᵤ = measure(Mᵤ(xᵢ), r) of `similarity`, whether
    the unit is dead there, its mean activation; and for each class and layer the maps of the 8 least and the 8 most
    similar live units.

    Args:
        model: any callable `x -> outputs`.
        averages: one image for each class (k, h, w, c), as the model takes them.
        out: the store's path, a directory `*.zarr`. If it holds an unfinished sweep of the same model, averages and
            options, that one is continued; a finished one is returned as it is.
        classes: the classes' names; by default "0", "1", …
        outputs: the model's output for each class; by default 0, 1, …
        layers: names that `jc.layers` lists; None for every convolution.
        rule: "guided", "gradient", "deconv" or "integrated".
        against: "image" (method one) or "confidence" (method two).
        metric: "cosine", "euclidean", "hamming", "histogram" or "perceptual_hash".
        steps: of integrated gradients.
        describe: what is to be kept with the store as attributes: the model's name, the data, the seed; anything JSON
            can say.
        precision: of the matrix products, "float32", "tensorfloat32" or "bfloat16".
        memory: bytes that the whole process may take (on GPUs, of each one's memory): it decides how many units go back
            at once. None for half of what the machine has, however much of it is free: equal calls give equal bytes.
            Where it runs out nevertheless, half as many go on, with a warning. A store that is continued keeps to what
            it was begun with unless another number is given here.
        progress: show a bar.
        processes: this one among several that make the same call, from `jaxcam.neurons.join`: each does its part, and
            all return when everything is done.

    Returns:
        The finished store, open for reading.

    Raises:
        ValueError: the store at `out` is of another model, data or options; averages that are constant or have NaN;
            no such layer, rule, measure or precision; a memory that is taken before anything is measured.
        MemoryError: not even one unit at a time fits.
        OSError: the disk is full, or another process is lost; what was measured so far is kept, and the same call goes
            on from there.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> net = lambda x: jax.nn.relu(x.reshape(len(x), -1) @ jnp.array([[1.0, -1.0], [0.5, -1.0]]))
        >>> averages = np.array([[[[1.0, 0.5]]], [[[0.5, 1.0]]]], np.float32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = sweep(net, averages, f"{folder}/sweep.zarr", layers=["dense_0"], progress=False)
        ...     print(found.similarity("dense_0").round(2))
        [[1.  0. ]
         [0.8 0. ]]
    """
    averages = np.asarray(averages)
    names = [str(i) for i in range(len(averages))] if classes is None else [str(name) for name in classes]
    _check(averages, names)
    targets = tuple(range(len(averages))) if outputs is None else checked(outputs)
    if len(targets) != len(averages):
        raise ValueError(f"{len(averages)} class averages need an output of the model each; got {len(targets)}")
    averages, chosen = averages.astype(np.float32), measure(metric)
    engine = Engine(model, (1, *averages.shape[1:]), layers, rule, steps=steps, precision=precision)
    references = np.asarray(reference(model, jnp.asarray(averages), against, rule, list(targets), steps))
    confidence = np.asarray(confidences(model, averages))  # what fails, fails before there is a store
    options: dict[str, Any] = {"rule": rule, "against": against, "metric": metric, "precision": precision}
    if rule == "integrated":
        options["steps"] = steps
    if targets != tuple(range(len(averages))):
        options["outputs"] = list(targets)
    chunks = chunk_memory(memory)
    make = functools.partial(
        Store.create_or_continue,
        out,
        layers={name: engine.anatomy.layer(engine.anatomy.find(name)) for name in engine.layers},
        classes=names,
        averages=averages,
        outputs=confidence.shape[1],
        options=options,
        memory=chunks,
        identity={"model": _fingerprint(engine), "averages": _digest([averages])},
        describe=describe or {},
    )

    def opened(alone: bool) -> Store:
        store = make(alone=alone)
        engine.memory = store.memory if memory is None else chunks
        return store

    def prepared() -> tuple[Store, list[Item]]:
        store = opened(alone=True)
        items = store.missing()
        if items:
            store.write_confidence(confidence)
        return store, items

    work = functools.partial(_measure, engine, averages=averages, references=references, chosen=chosen)
    if processes is None:
        work(*prepared(), progress=progress)
        return open_sweep(out)
    with Crew(processes, Path(out)) as crew:
        # The first one makes the store and says what is missing; only then do the others open it.
        items = crew.agree(lambda: prepared()[1])
        store = opened(alone=False)
        own = crew.mine(items, [store.units[layer] for _, layer in items])
        work(store, own, progress=progress and processes.index == 0)
        crew.wait(lambda: not store.missing())
    return open_sweep(out)


def _measure(
    engine: Engine,
    store: Store,
    items: Sequence[Item],
    *,
    averages: np.ndarray,
    references: np.ndarray,
    chosen: Measure,
    progress: bool,
) -> None:
    """Measures and writes some items, class by class."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("units", total=sum(store.units[layer] for _, layer in items))
        for i, own in itertools.groupby(items, key=lambda item: item[0]):
            image = engine.image(jnp.asarray(averages[i : i + 1]))
            for _, layer in own:
                bar.update(task, description=f"class {store.classes[i]}, {layer}")
                item = _item(image.layer(layer), jnp.asarray(references[i : i + 1]), chosen)
                _check_finite(item, layer, store.classes[i])
                store.write(i, layer, **item)
                bar.advance(task, store.units[layer])


def _item(sender: LayerUnits, reference: Array, chosen: Measure) -> dict[str, np.ndarray]:
    """What the store keeps of one class and one layer."""
    found = layer_similarity(sender, reference, chosen)
    ranked = rank(chosen.oriented(found), sender.dead)
    shown = ranked[ranked >= 0]
    h, w, c = reference.shape[1:]
    factor = -(-max(h, w) // THUMBNAIL)
    maps = np.zeros((2 * EXTREMES, -(-h // factor), -(-w // factor), c), np.float32)
    if len(shown):
        chunks = [np.asarray(some_maps)[: len(some), 0] for some, some_maps in sender.chunks(shown)]
        maps[ranked >= 0] = _reduced(np.concatenate(chunks), factor)
    return {
        "similarity": found,
        "dead": sender.dead,
        "activation": sender.activation,
        "extreme_unit": ranked.astype(np.int32),
        "extreme_map": maps,
    }


def _check_finite(item: dict[str, np.ndarray], layer: str, name: str) -> None:
    """Raises where a number is none: it would be ranked and averaged like any other."""
    for kind in ("similarity", "activation", "extreme_map"):
        if (count := int((~np.isfinite(item[kind])).sum())) > 0:
            raise ValueError(
                f"layer '{layer}' gives {count} NaN or infinite values of {kind} for class '{name}'; look at the "
                "network's weights, or leave the layer out"
            )


def _reduced(maps: np.ndarray, factor: int) -> np.ndarray:
    """Maps (b, h, w, c) by the mean of cells of `factor` pixels a side; those at the edge may have fewer."""
    pixels = np.ones((1, *maps.shape[1:3], 1), np.float32)
    cells = (1, factor, factor, 1)
    return block_reduce(maps, cells, np.sum) / block_reduce(pixels, cells, np.sum)


def rank(similarity: np.ndarray, dead: np.ndarray, count: int = EXTREMES) -> np.ndarray:
    """The `count` least similar live units, ascending, then the `count` most similar, descending; −1 where there are
    none.

    Args:
        similarity: (u,), larger is more similar.
        dead: (u,).
        count: of units at either end.

    Example:
        >>> rank(np.array([0.3, 0.1, 0.0, 0.2]), np.array([False, False, True, False]), count=2).tolist()
        [1, 3, 0, 3]
    """
    live = np.flatnonzero(~dead)
    order = live[np.argsort(similarity[live], kind="stable")]
    ranked = np.full(2 * count, -1)
    some = min(count, len(order))
    ranked[:some] = order[:some]
    ranked[count : count + some] = order[::-1][:some]
    return ranked


def _check(averages: np.ndarray, names: list[str]) -> None:
    check_images(averages)
    if len(names) != len(averages):
        raise ValueError(f"{len(averages)} class averages need as many names; got {len(names)}: {', '.join(names)}")
    for name, average in zip(names, averages, strict=True):
        if np.ptp(average) == 0:
            raise ValueError(
                f"the average of class '{name}' is {average.flat[0]:g} everywhere: nothing to compare maps with; "
                "look at its images, or leave the class out."
            )


def _digest(arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]


def _fingerprint(engine: Engine) -> str:
    """What a model computes: its equations and its numbers, wherever they are kept."""
    program = engine.anatomy.program
    numbers = [np.asarray(jax.device_get(a)) for a in engine.arrays if jnp.issubdtype(a.dtype, jnp.number)]
    constants = [np.asarray(value) for value in program.constants.values()]
    equations = [
        (node.name, [str(program.avals[value].str_short()) for value in node.outputs if value is not None])
        for node in program.nodes
    ]
    return hashlib.sha256((repr(equations) + _digest(numbers) + _digest(constants)).encode()).hexdigest()[:32]
