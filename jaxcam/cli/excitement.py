"""What `jaxcam maximize` is asked, and what it keeps of the answer."""

import dataclasses
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

from jaxcam import studies
from jaxcam.cli import checkpoints, classes, photographs
from jaxcam.cli.calling import count_classes
from jaxcam.cli.class_images import write_npz
from jaxcam.cli.classes import Answers
from jaxcam.cli.datasets import open_data
from jaxcam.cli.figures_of_quality import write_csv
from jaxcam.cli.networks import Network, open_given
from jaxcam.program import tap
from jaxcam.program.compiled import compiled
from jaxcam.viewing import figures

PLAIN = ("steps", "learning_rate", "score", "space", "canvas", "jitter", "rotation", "scale", "l2", "tv", "blur")
NINE = 9


@dataclasses.dataclass(frozen=True)
class Asked:
    """Everything that is known before the first picture.

    Attributes:
        network: what is asked.
        model: it, or the part of it up to a layer.
        layer: the layer's name; None for the outputs.
        units: which (t,).
        names: what to call each.
        left_out: how many units are not drawn.
        together: whether all units make one picture.
        shape: of an image.
        start: the real images whose mean the pictures begin with, or the shape.
        real: the real images; None where there are none.
        exemplars: which of them excite each unit most.
        described: what a manifest says of them.
        options: of `jc.studies.maximize`.
        seed, batch: of the run.
        directory: as `--model` was given.
    """

    network: Network
    model: Any
    layer: str | None
    units: np.ndarray
    names: tuple[str, ...]
    left_out: int
    together: bool
    shape: tuple[int, int, int]
    start: Any
    real: np.ndarray | None
    exemplars: Any
    described: dict[str, Any]
    options: Mapping[str, Any]
    seed: int
    batch: int
    directory: str

    def nine(self) -> np.ndarray | None:
        """The real images that excite each unit most (t, 9, h, w, c)."""
        if self.real is None or self.together:
            return None
        return np.asarray(self.real)[self.exemplars.indices[self.units]]


def asked(given: Mapping[str, Any], *, progress: bool) -> Asked:
    """Reads and checks what was typed, the cheap things first.

    Raises:
        ValueError: anything given is wrong.
        FileNotFoundError: a file is not there.
    """
    if given["together"] and not given["target"]:
        raise ValueError("--together adds up units that are named; give --target, more than once")
    network = open_given(given)
    if given["frames"]:
        checkpoints.kept(given["model"])
    size = network.image_size or given["image_size"] or photographs.USUAL
    shape = (size, size, photographs.channels_of(network, size))
    model = network.model if given["layer"] is None else tap(network.model, given["layer"])
    units = count(network, given["layer"], shape)
    names = classes.read_names(given["classes"]) or network.names if given["layer"] is None else None
    if names is not None and len(names) != units:
        raise ValueError(f"there are {len(names)} class names, and {network.name} has {units} outputs")
    answers = Answers(np.zeros((1, units)), names)
    if given["target"]:
        chosen = np.array([int(classes.targets(said, answers)[0]) for said in given["target"]])
    else:
        chosen = np.arange(units)[:: -(-units // given["most"])]
    real, described = real_images(network, given, size, progress=progress)
    if given["from_mean"] and real is None:
        raise ValueError("--from-mean needs real images; give --images or --data")
    return Asked(
        network=network,
        model=model,
        layer=given["layer"],
        units=chosen,
        names=tuple(names[unit] if names else f"unit {unit}" if given["layer"] else f"class {unit}" for unit in chosen),
        left_out=0 if given["target"] else units - len(chosen),
        together=given["together"],
        shape=shape,
        start=real if given["from_mean"] else shape,
        real=real,
        exemplars=None if real is None else studies.most_exciting(model, real, count=NINE),
        described=described,
        options={name: given[name] for name in PLAIN}
        | {"center": given["center"], "colors": not given["plain_colors"], "answers": given["answers"]}
        | {"diversity": given["diversity"], "layer": given["differ_in"]},
        seed=given["seed"],
        batch=given["batch"],
        directory=given["model"],
    )


def count(network: Network, layer: str | None, shape: Sequence[int]) -> int:
    """How many units a layer has; of the outputs, how many classes there are.

    Raises:
        ValueError: no such layer, or a model that does not take the images or gives no logits.
    """
    classes = count_classes(network.model, network.name, (1, *shape))
    if layer is None:
        return classes
    units = jax.eval_shape(tap(network.model, layer), jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[-1]
    return int(units)


def real_images(
    network: Network, given: Mapping[str, Any], size: int, *, progress: bool
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The real images, if there are any, and what a manifest says of them."""
    if given["images"]:
        pictures = photographs.read(photographs.found(given["images"]), network, size)
        return pictures.images, pictures.describe()
    if given["data"] is None and network.trained.get("data") is None:
        return None, {}
    dataset, described = open_data(network, "train", {**given, "image_size": size}, progress=progress)
    return np.asarray(dataset.images, np.float32), described


def pictures(asked: Asked, model: Any, *, progress: bool, bar: str = "pictures") -> studies.Maximized:
    """The pictures of all units, some at a time."""
    key = jax.random.key(asked.seed)
    if asked.together:
        toward = studies.direction({int(unit): 1.0 for unit in asked.units})
        return studies.maximize(model, asked.start, toward, key=key, **asked.options)
    parts = []
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as shown:
        task = shown.add_task(bar, total=len(asked.units))
        for begin in range(0, len(asked.units), asked.batch):
            some = asked.units[begin : begin + asked.batch]
            padded = np.resize(some, min(asked.batch, len(asked.units)))  # one compilation for all
            found = studies.maximize(model, asked.start, padded, key=key, **asked.options)
            parts.append(
                jax.tree_util.tree_map(np.asarray, jax.tree_util.tree_map(itemgetter(slice(len(some))), found))
            )
            shown.advance(task, len(some))
    return jax.tree_util.tree_map(lambda *arrays: np.concatenate(arrays), *parts)


def rows(asked: Asked, found: studies.Maximized) -> list[dict[str, Any]]:
    """A row for each unit: its name, the score of its best picture and, of classes, the probability."""
    scores = np.asarray(found.scores)
    best = scores.argmax(1)
    if asked.together:
        return [{"name": " + ".join(asked.names), "score": float(scores.max())}]
    result: list[dict[str, Any]] = [
        {"unit": int(unit), "name": name, "score": float(values.max())}
        for unit, name, values in zip(asked.units, asked.names, scores, strict=True)
    ]
    if asked.layer is None:
        ask = compiled(lambda x: jax.nn.softmax(asked.model(x)))
        for row, picture, place in zip(result, found.images, best, strict=True):
            row["probability"] = float(ask(jnp.asarray(picture[place])[None])[0, row["unit"]])
    return result


def write(asked: Asked, found: studies.Maximized, rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """maximized.npz and units.csv."""
    arrays: dict[str, Any] = {
        "units": asked.units,
        "images": found.images,
        "scores": found.scores,
        "curve": found.curve,
    }
    if asked.real is not None and not asked.together:
        arrays |= {
            "real_indices": asked.exemplars.indices[asked.units],
            "real_scores": asked.exemplars.scores[asked.units],
            "real": asked.nine(),
        }
    write_npz(out / "maximized.npz", {name: np.asarray(values) for name, values in arrays.items()})
    write_csv(out / "units.csv", list(rows[0]), [list(row.values()) for row in rows])


def frames(asked: Asked, out: Path, *, progress: bool) -> list[str]:
    """The same pictures at every epoch that was kept; how they change is what the network learned."""
    names, films = [], []
    for name, network in checkpoints.kept(asked.directory):
        model = network.model if asked.layer is None else tap(network.model, asked.layer)
        films.append(np.asarray(pictures(asked, model, progress=progress, bar=name).images[:, 0]))
        names.append(name)
    film = np.stack(films, 1)
    write_npz(out / "frames.npz", {"units": asked.units, "frames": film})
    rows = asked.names if not asked.together else (" + ".join(asked.names),)
    titles = [f"{row}: {names[0]} … {names[-1]}" for row in rows]
    figures.save(figures.excitements(film, titles, columns=1, tile=1.0), out / "frames.png")
    return names
