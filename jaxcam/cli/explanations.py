"""What `jaxcam explain` and `jaxcam compare` are asked, and what they keep of the answer."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.attribution.methods import METHODS, Method
from jaxcam.cli import classes, methods, photographs
from jaxcam.cli.classes import Answers, percent
from jaxcam.cli.console import bars
from jaxcam.cli.networks import Network, open_given
from jaxcam.cli.photographs import Photographs
from jaxcam.program import tap
from jaxcam.viewing import figures

LARGEST = 12
"""So many images are on one sheet; the pictures of all are beside it."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """Everything that is known before the first map is computed.

    Attributes:
        network: what is explained.
        photographs: on what.
        answers: what it says of them.
        explained: the class of each image (n,).
        methods: by what.
        options: for each method its own.
        layers: for methods that take one.
    """

    network: Network
    photographs: Photographs
    answers: Answers
    explained: np.ndarray
    methods: Sequence[Method]
    options: Mapping[str, Mapping[str, Any]]
    layers: Sequence[str]


def shown(
    given: Mapping[str, Any], limit: int | None = None, *, quiet: bool
) -> tuple[Network, Photographs, Answers, np.ndarray]:
    """The network, the photographs, what it says of them, and the class asked about of each, the cheap things first."""
    files = photographs.found(given["images"], limit)
    names = classes.read_names(given["classes"])
    network = open_given(given)
    pictures = photographs.read(files, network, given["image_size"])
    answers = classes.answers(network, pictures.images, names, given["batch"])
    explained = classes.targets(given.get("target"), answers)
    photographs.say_size(network, given["image_size"], quiet=quiet)
    return network, pictures, answers, explained


def asked(given: Mapping[str, Any], usual: Sequence[str], limit: int | None = None, *, quiet: bool) -> Asked:
    """Reads and checks what was typed, the cheap things first.

    Args:
        given: the options of a command.
        usual: the methods where none is named.
        limit: how many images at most.
        quiet: say nothing on the way.

    Raises:
        ValueError: anything given is wrong.
        FileNotFoundError: a file is not there.
    """
    wanted = methods.chosen(given["method"] or usual)
    options = methods.options_of(wanted, given["option"])
    layers = list(dict.fromkeys(given["layer"]))
    methods.check_layer(layers, wanted)
    network, pictures, answers, explained = shown(given, limit, quiet=quiet)
    check_layers(layers, network, pictures)
    return Asked(network, pictures, answers, explained, wanted, options, layers)


def maps_of(
    asked: Asked, given: Mapping[str, Any], *, quiet: bool, timed: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, str]]:
    """As `jaxcam.cli.methods.maps_of`, of what was asked; "all" methods are those that can explain the network."""
    return methods.maps_of(
        asked.methods,
        asked.network,
        asked.photographs.images,
        asked.explained,
        asked.options,
        layers=asked.layers,
        seed=given["seed"],
        batch=given["batch"],
        skip="all" in given["method"],
        timed=timed,
        progress=bars(quiet),
    )


def check_layers(layers: Sequence[str], network: Network, pictures: Photographs) -> None:
    """Raises where the network has no such layer, before any map is computed."""
    for layer in layers:
        jax.eval_shape(tap(network.model, layer), jnp.asarray(pictures.images[:1]))


def check_any(maps: Mapping[str, Any], left_out: Mapping[str, str]) -> None:
    """Raises where no method was left."""
    if not maps:
        name, reason = next(iter(left_out.items()))
        raise ValueError(f"no method can explain this network; {name}: {reason}")


def arrays(asked: Asked, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What maps.npz holds: the maps, raw, and what they belong to."""
    return {
        **maps,
        "images": asked.photographs.images,
        "target": asked.explained,
        "probabilities": asked.answers.probabilities.astype(np.float32),
    }


def draw(asked: Asked, maps: Mapping[str, np.ndarray], out: Path, channels: str) -> None:
    """A picture for each image, and a sheet of all, or of the first."""
    signed = {name: METHODS[name.partition(":")[0]].signed for name in maps}
    titles = classes.said_of(asked.photographs.names, asked.answers, asked.explained)
    images = asked.photographs.images
    (out / "pictures").mkdir()
    for index, name in enumerate(asked.photographs.names):
        one = {method: values[index : index + 1] for method, values in maps.items()}
        figure = figures.contact_sheet(
            images[index : index + 1], one, titles=titles[index : index + 1], signed=signed, channels=channels
        )
        figures.save(figure, out / "pictures" / f"{name}.png")
    some = {name: values[:LARGEST] for name, values in maps.items()}
    sheet = figures.contact_sheet(images[:LARGEST], some, titles=titles[:LARGEST], signed=signed, channels=channels)
    figures.save(sheet, out / "sheet.png")


def rows(asked: Asked) -> list[dict[str, Any]]:
    """For each image what was predicted and what explained, for the manifest."""
    found = []
    for name, file, values, best, target in zip(
        asked.photographs.names,
        asked.photographs.files,
        asked.answers.probabilities,
        asked.answers.predicted,
        asked.explained,
        strict=True,
    ):
        found.append(
            {
                "name": name,
                "file": str(file),
                "predicted": {
                    "output": int(best),
                    "class": asked.answers.name(best),
                    "probability": float(values[best]),
                },
                "explained": {
                    "output": int(target),
                    "class": asked.answers.name(target),
                    "probability": float(values[target]),
                },
            }
        )
    return found


def said(asked: Asked) -> list[tuple[str, ...]]:
    """The same for a reader."""
    return [
        (
            row["name"],
            row["predicted"]["class"],
            percent(row["predicted"]["probability"]),
            row["explained"]["class"],
            percent(row["explained"]["probability"]),
        )
        for row in rows(asked)
    ]


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options as JSON can hold them: of functions the name."""
    return {name: getattr(value, "__name__", value) for name, value in options.items()}
