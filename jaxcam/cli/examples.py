"""From what a user names to a class of the data and to pictures of a concept."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxcam import studies
from jaxcam.cli import photographs
from jaxcam.cli.classes import NUMBER, number_of
from jaxcam.cli.networks import Network
from jaxcam.data import Dataset, read_image
from jaxcam.studies.textures import KINDS

DRAWN = 50
"""Pictures of a concept that a formula draws."""


def class_of(said: str, dataset: Dataset) -> int:
    """The class a user means: by its name, or else by its number.

    Raises:
        ValueError: there is no such class, the closest is named; or several have that name.
    """
    number = int(said) if NUMBER.fullmatch(said) else -1
    is_number = said not in dataset.names and 0 <= number < len(dataset.names)
    if (named := number if is_number else number_of(said, dataset.names)) is not None:
        return named
    near = difflib.get_close_matches(said, dataset.names, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(dataset.names[:10])}"
    raise ValueError(f"{dataset.name} has no class {said!r}{meant}")


def pictures(said: Sequence[str], shape: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """Pictures of each concept, as large as the images: a folder's, or those of a formula.

    Args:
        said: folders, or kinds that `jaxcam.studies.concept_images` knows.
        shape: h, w and c of the images.
        seed: of the formulas.

    Raises:
        ValueError: no such concept and no such folder; two of one name.
        FileNotFoundError: no such folder.
    """
    found: dict[str, np.ndarray] = {}
    size, _, channels = shape
    for number, concept in enumerate(said):
        path = Path(concept)
        if concept in KINDS and not path.is_dir():
            key = jax.random.fold_in(jax.random.key(seed), number)
            name, images = concept, studies.concept_images(concept, DRAWN, size, key=key, channels=channels)
        elif path.is_dir() or "/" in concept:
            name, images = path.name, read_folder(path, size, channels)
        else:
            near = difflib.get_close_matches(concept, KINDS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(KINDS)}, and folders"
            raise ValueError(f"no concept {concept!r}{meant}")
        if name in found:
            raise ValueError(f"two concepts are called {name!r}; rename a folder")
        found[name] = images
    return found


def read_folder(path: Path, size: int, channels: int) -> np.ndarray:
    """All pictures of a folder and below, (n, size, size, channels)."""
    return np.stack([read_image(file, size, channels=channels) for file in photographs.found([path])])


def check_square(network: Network, dataset: Dataset) -> None:
    """Raises unless the images are square: pictures of concepts are cropped to squares."""
    h, w = dataset.images.shape[1:3]
    if h != w:
        raise ValueError(
            f"pictures of concepts are square, the images of {dataset.name} are {h}×{w}; give --image-size"
        )
