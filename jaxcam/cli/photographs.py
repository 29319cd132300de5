"""From the files and folders a user names to the images a network takes."""

import dataclasses
import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam.cli.calling import NoLogits, count_classes, refusal
from jaxcam.cli.console import note, printable
from jaxcam.cli.networks import Network
from jaxcam.data import read_image
from jaxcam.data.images import SUFFIXES
from jaxcam.files import instead_of_a_file

USUAL = 224
"""Height and width, in pixels, for networks that do not say theirs."""


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Pictures as a network takes them.

    Attributes:
        files: where they were read.
        images: (n, h, w, c) float32 in [0, 1].
        names: what to call each, all different: the file's name without its ending.
    """

    files: tuple[Path, ...]
    images: np.ndarray
    names: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """What a manifest says of them."""
        return {
            "files": [str(file) for file in self.files],
            "count": len(self.files),
            "image": list(self.images.shape[1:]),
            "fingerprint": hashlib.sha256(np.ascontiguousarray(self.images).data).hexdigest(),
        }


def found(paths: Sequence[Path], limit: int | None = None) -> list[Path]:
    """The picture files that are meant: files as they are given, of folders all pictures in them and below.

    Args:
        paths: files and folders.
        limit: how many at most, evenly from all.

    Raises:
        FileNotFoundError: there is no such file; the closest beside it is named.
        ValueError: a folder without pictures.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            inside = [file for file in inside if not file.name.startswith(".")]
            if not inside:
                raise ValueError(f"no picture in the folder {path}; pictures end in {', '.join(SUFFIXES)}")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            entries = path.parent.iterdir() if path.parent.is_dir() else ()
            beside = [entry.name for entry in entries if entry.is_file() or entry.is_dir()]
            near = difflib.get_close_matches(path.name, beside, n=1)
            meant = f"; did you mean {path.parent / near[0]}?" if near else ""
            raise FileNotFoundError(f"no image file {path}{instead_of_a_file(path)}{meant}")
    files = list(dict.fromkeys(files))
    if limit is None or limit >= len(files):
        return files
    return [files[index * len(files) // limit] for index in range(limit)]


def read(files: Sequence[Path], network: Network, image_size: int | None = None) -> Photographs:
    """The pictures, in the size and with the channels that a network takes.

    Args:
        files: at least one.
        network: it says its size, or takes what is given, or 224.
        image_size: in pixels, for networks that do not say.

    Raises:
        ValueError: a file that is no picture, or a network that takes neither color nor grey images of this size.
    """
    size = network.image_size or image_size or USUAL
    channels = channels_of(network, size)
    images = np.stack([read_image(file, size, channels=channels) for file in files])
    return Photographs(tuple(files), images, different([printable(file.stem) for file in files]))


def say_size(network: Network, image_size: int | None, *, quiet: bool) -> None:
    """A note on the size that pictures are taken at, where neither the network nor the user says one."""
    if not (network.image_size or image_size):
        note(
            f"{network.name} does not say its size: images are taken at {USUAL}×{USUAL}; "
            "--image-size PIXELS sets another",
            quiet=quiet,
        )


def channels_of(network: Network, size: int) -> int:
    """3 or 1: what a network says, or what it does not fail on.

    Raises:
        ValueError: it takes neither, gives no logits, or has nothing left of images of this size.
    """
    config = getattr(network.model, "config", None)
    if getattr(config, "channels", None) in (1, 3):
        return int(config.channels)  # type: ignore[union-attr]
    reasons: list[ValueError] = []
    for channels in (3, 1):
        shape = (1, size, size, channels)
        try:
            count_classes(network.model, network.name, shape)
        except ValueError as error:
            reasons.append(error)
        else:
            return channels
    first = next((reason for reason in reasons if isinstance(reason, NoLogits)), reasons[0])
    beginning, reason = refusal(network.name, (1, size, size, 3)), str(first)
    if not reason.startswith(beginning):
        raise first
    raise ValueError(
        f"{network.name} takes neither color nor grey images of {size}×{size}: {reason.removeprefix(beginning)}; "
        "--image-size is the size"
    )


def different(names: Sequence[str]) -> tuple[str, ...]:
    """Names that are all different, numbered where they were not.

    Example:
        >>> different(["cat", "dog", "cat"])
        ('cat', 'dog', 'cat_2')
    """
    result: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in result:
            number += 1
            candidate = f"{name}_{number}"
        result.append(candidate)
    return tuple(result)
