"""What `jaxcam leak-check` does: trains two networks on a planted leak, or asks a trained one about a region."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcam import data, studies, training
from jaxcam.cli.classes import NUMBER
from jaxcam.cli.console import bars
from jaxcam.cli.datasets import open_data, splits
from jaxcam.cli.networks import new_network, open_network, refuse
from jaxcam.cli.options import listed
from jaxcam.cli.outputs import count_outputs, select_outputs
from jaxcam.data import Dataset
from jaxcam.neurons.candidates import Candidates
from jaxcam.studies import RegionCheck
from jaxcam.studies.planting import colored, region_mask


@dataclasses.dataclass(frozen=True)
class Found:
    """Figures of each network, the images they are of, the region, and what a manifest says of networks and data.

    With them which outputs competed for the prediction.
    """

    checks: Mapping[str, RegionCheck]
    images: np.ndarray
    region: np.ndarray
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    candidates: Candidates


def plant(given: Mapping[str, Any], quiet: bool) -> Callable[[Path], Found]:
    """Reads the data and checks everything; what is returned trains and measures."""
    train, test = splits(given, given["data"] or "digits", progress=bars(quiet))
    rectangle = numbers(given["rectangle"], "--rectangle")
    region = region_mask(rectangle, train.images.shape[1:3])
    colors = studies.palette(len(train.names))
    plain, tested = (with_images(d, colored(d.images, colors)) for d in (train, test))
    described: dict[str, Any] = {}
    available: list[int] = []
    refuse("a leak that is planted, where networks are made with an output for each class", outputs=given["outputs"])
    if given["candidates"] != "all":
        raise ValueError("--candidates is for a trained network and a --region or --mask; leave it out")

    def measure(out: Path) -> Found:
        names = iter(("leaking", "clean"))

        def fit(images: np.ndarray, labels: np.ndarray) -> Any:
            name = next(names)
            shown = tested.images
            if name == "leaking":
                shown = studies.plant(shown, tested.labels, colors, rectangle=rectangle)
            network = new_network(given["model"], plain, convolutions=None, normalize="auto", seed=given["seed"])
            described.update(network.describe())
            available.append(count_outputs(network, plain))
            training.train(
                network.model,
                with_images(plain, images),
                with_images(tested, shown),
                out=out / name,
                epochs=given["epochs"],
                batch=given["train_batch"],
                learning_rate=given["learning_rate"],
                seed=given["seed"],
                progress=bars(quiet),
            )
            return network.model

        found = studies.leak_check(
            fit,
            plain.images,
            plain.labels,
            tested.images,
            tested.labels,
            rectangle=rectangle,
            colors=colors,
            **common(given),
        )
        for name in ("leaking", "clean"):
            (out / name / "state.safetensors").unlink(missing_ok=True)
        checks = {"leaking": found.leaking, "clean": found.clean}
        known = Candidates("all", tuple(range(len(train.names))), available[0])
        return Found(checks, found.images, region, described, train.describe(), known)

    return measure


def suspect(given: Mapping[str, Any], quiet: bool) -> Callable[[Path], Found]:
    """Opens the network and reads the data; what is returned measures."""
    network = open_network(given["model"], image_size=given["image_size"])
    dataset, described = open_data(network, "test", given, progress=bars(quiet))
    network = select_outputs(network, dataset, given["outputs"], given["candidates"])
    known = network.candidates
    assert known is not None
    size = dataset.images.shape[1:3]
    if given["mask"] is not None and given["region"] is not None:
        raise ValueError("--mask and --region both say where to look; give one of them")
    if given["mask"] is not None:
        wanted: Any = data.read_image(given["mask"], None, channels=1)[..., 0] > 0.5
    else:
        wanted = numbers(given["region"], "--region")
    region = region_mask(wanted, size)

    def measure(out: Path) -> Found:
        labels = network.labels(dataset.labels)
        check = studies.region_check(network.model, dataset.images, labels, region, **common(given))
        return Found({network.name: check}, dataset.images, region, network.describe(), described, known)

    return measure


def common(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of both studies."""
    return {
        "key": jax.random.key(given["seed"]),
        "explained": given["explained"],
        "samples": given["samples"],
        "batch": given["batch"],
    }


def with_images(dataset: Dataset, images: np.ndarray) -> Dataset:
    """The data set with other images in the place of its own."""
    return dataclasses.replace(dataset, images=images)


def numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Four whole numbers with commas between them.

    Example:
        >>> numbers("0, 1, 6,6", "--region")
        (0, 1, 6, 6)
    """
    if text is None:
        return None
    parts = listed(text)
    if len(parts) != 4 or not all(NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{option} {text!r} is not TOP,LEFT,HEIGHT,WIDTH in pixels, such as 0,0,6,6")
    return tuple(int(part) for part in parts)


def rows(checks: Mapping[str, RegionCheck]) -> list[dict[str, Any]]:
    """A row for each network: times the area for each method, then accuracies."""
    return [
        {
            "network": name,
            **{f"{m} × area": None if np.isnan(t) else t for m, t in check.times_area.items()},
            "accuracy": check.accuracy,
            "removed": check.removed,
            "moved": check.moved,
            "followed": check.followed,
        }
        for name, check in checks.items()
    ]


def said(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells for a reader."""

    def cell(name: str, value: Any) -> str:
        if value is None:
            return "blank"
        if isinstance(value, str):
            return value
        return f"{value:.2f}" if "area" in name else f"{value:.1%}"

    return list(rows[0]), [[cell(name, value) for name, value in row.items()] for row in rows]
