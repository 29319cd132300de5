"""From `--data` to images: what was given, or what the network was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcam import data
from jaxcam.cli.manifest import plain
from jaxcam.cli.networks import Network
from jaxcam.cli.relocated import is_name
from jaxcam.data import Dataset

SOURCE = ("data", "data_dir", "limit", "skip_broken")
"""The options that say which images."""


def splits(given: Mapping[str, Any], name: str, *, progress: bool) -> tuple[Dataset, Dataset]:
    """The images to train on and to test on, of the data `name` and the options `jaxcam.cli.options.data` declares."""
    train, test = (
        data.load(
            name,
            split,
            data_dir=given["data_dir"],
            image_size=given["image_size"],
            skip_broken=given["skip_broken"],
            limit=given["limit"],
            progress=progress,
        )
        for split in ("train", "test")
    )
    return train, test


def open_data(
    network: Network, split: str, given: Mapping[str, Any], *, progress: bool
) -> tuple[Dataset, dict[str, Any]]:
    """The images a network is asked about.

    Args:
        network: it decides the image size, and is asked for the data where none is given.
        split: "train" or "test".
        given: the options `SOURCE`, and image_size for networks that do not say theirs.
        progress: show a bar.

    Returns:
        The images, and what a manifest says of them: the description, and under "source" the options, all given.

    Raises:
        ValueError: no data is given and nobody knows what the network was trained on; and as `jaxcam.data.load`.
        FileNotFoundError: what the network was trained on is not there any more; and as `jaxcam.data.load`.
    """
    source: dict[str, Any] = {name: given.get(name) for name in SOURCE}
    if source["data"] is None:
        known = {name: network.trained.get(name) for name in SOURCE}
        if known["data"] is None:
            raise ValueError(f"nothing says what {network.name} was trained on; give --data")
        missing = gone(known)
        if missing is not None and source[missing] is None:
            raise FileNotFoundError(
                f"the images of {network.name} were in {known[missing]}, and there is no such folder now; give "
                f"--{missing.replace('_', '-')} with where they are"
            )
        source = {name: known[name] if source[name] in (None, False) else source[name] for name in SOURCE}
    size = network.image_size or given.get("image_size")
    dataset = data.load(
        source["data"],
        split,
        data_dir=source["data_dir"],
        image_size=size,
        skip_broken=bool(source["skip_broken"]),
        limit=source["limit"],
        progress=progress,
    )
    return dataset, dataset.describe() | {"source": plain(source) | {"image_size": size}}


def gone(source: Mapping[str, Any]) -> str | None:
    """Which of "data" and "data_dir" is a folder that is not there any more, if one is."""
    for name in ("data", "data_dir"):
        path = source.get(name)
        if path is not None and not is_name(name, str(path)) and not Path(path).expanduser().is_dir():
            return name
    return None
