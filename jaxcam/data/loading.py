"""`jaxcam.data.load`: one call for every source of images."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam.data import download, published
from jaxcam.data.checks import closest
from jaxcam.data.dataset import Dataset
from jaxcam.data.folder import load_folder
from jaxcam.data.images import resize, to_float
from jaxcam.data.prepared import DEFAULT_SIZE, default_directory, is_prepared, load_prepared, pad_digits
from jaxcam.data.splits import check_split, evenly, stratified


def load(
    name: str | os.PathLike[str],
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    skip_broken: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> Dataset:
    """Loads labeled images, from a name or a folder, as float32 in [0, 1].

    Args:
        name: one of

            - `"digits"`: 1,797 handwritten digits that come with scikit-learn, 8×8, split 80 to 20 in each class.
            - `"mnist"`, `"cifar10"`: from the published files in `data_dir` or in its subdirectory `mnist` or
              `cifar-10-batches-bin`; where there are none, as tensorflow-datasets prepared them there; else they
              are downloaded to it.
            - `"tfds:NAME"`: any set of labeled images of tensorflow-datasets, e.g. `"tfds:imagenette/160px"`; read from
              `data_dir` if it is prepared there, downloaded to it otherwise. TensorFlow is not needed.
            - a path: a folder with a subfolder of JPEG, PNG, WebP or BMP pictures for each class, or with `train/` and
              `test/` (or `val/`) that have such subfolders. Without them, 20 % of each class are for testing, always
              the same ones. Pictures become RGB, upright, what is transparent white.
        split: `"train"` or `"test"`; a set of tensorflow-datasets may have others.
        data_dir: where files of data sets are, or are downloaded to; None means tensorflow-datasets' own directory,
            `~/tensorflow_datasets`.
        image_size: height and width of what is returned, in pixels. None means 32 for digits (enlarged) and mnist
            (28×28 in a black border), 32 for cifar10, what the set has for tensorflow-datasets where all its pictures
            are of one square size, and 224 elsewhere. Other pictures are resized by an antialiased bilinear filter
            until the shorter side fits, and what is too long is cropped evenly.
        skip_broken: leave pictures out that cannot be read, with a warning that names them, instead of refusing all.
        limit: at most so many images, evenly from all classes; always the same ones.
        progress: draw a bar, on standard error, where decoding takes a while.

    Returns:
        a `Dataset`, which unpacks as `images (n, h, w, c), labels (n,), names (k,)`.

    Raises:
        FileNotFoundError: a file, a folder or `data_dir` is missing.
        ValueError: an unknown name or split, truncated or foreign files, unreadable pictures; each named.

    Example:
        >>> images, labels, names = load("digits", "test")
        >>> images.shape, labels.shape, names[:3]
        ((359, 32, 32, 1), (359,), ('0', '1', '2'))
    """
    for option, value in {"image_size": image_size, "limit": limit}.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} must be at least 1, not {value}")
    place = None if data_dir is None else Path(data_dir).expanduser()
    if place is not None and not place.is_dir():
        raise FileNotFoundError(
            f"data_dir {str(place)!r} is not a directory: create it, or point to where the files are"
        )
    if isinstance(name, str) and name in SOURCES:
        check_split(name, split)
        return SOURCES[name](split, place, size=image_size, limit=limit, progress=progress)
    if isinstance(name, str) and name.startswith("tfds:"):
        return load_prepared(
            name.removeprefix("tfds:"), split, data_dir=place, size=image_size, limit=limit, progress=progress
        )
    path = Path(name).expanduser()
    if isinstance(name, str) and not path.is_dir() and os.sep not in name and "/" not in name:
        known = closest(name, names())
        raise ValueError(f"no data set {name!r} and no folder of that name; {known}, tfds:NAME and folders of images")
    return load_folder(
        path, split, size=image_size or DEFAULT_SIZE, skip_broken=skip_broken, limit=limit, progress=progress
    )


def names() -> tuple[str, ...]:
    """The data sets known by a name of their own.

    Returns:
        What `load` takes beside `tfds:NAME` and a folder.

    Example:
        >>> names()
        ('digits', 'mnist', 'cifar10')
    """
    return tuple(SOURCES)


def _digits(split: str, data_dir: Path | None, *, size: int | None, limit: int | None, progress: bool) -> Dataset:
    # scikit-learn takes half a second to import, which nothing else here has to wait for.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    chosen = stratified(bunch.target, split)
    chosen = chosen[evenly(bunch.target[chosen], limit)]
    # Counts of black pixels in 4×4 blocks, 0 to 16.
    images = (bunch.images[chosen, :, :, None] / 16).astype(np.float32)
    size = size or 32
    preparation = f"bilinear from 8 to {size}"
    names = tuple(map(str, range(10)))
    return Dataset(resize(images, size), bunch.target[chosen], names, "digits", split, preparation)


def _published(
    name: str,
    read: Callable[[Path, str], published.Arrays | None],
    fetch: Callable[..., None],
    prepare: Callable[[np.ndarray, int | None], tuple[np.ndarray, str]],
    split: str,
    data_dir: Path | None,
    *,
    size: int | None,
    limit: int | None,
    progress: bool,
) -> Dataset:
    """The published files where they are, else what tensorflow-datasets has prepared, else the files fetched."""
    place = data_dir or default_directory()
    arrays = read(place, split)
    if arrays is None:
        if is_prepared(name, data_dir):
            return load_prepared(name, split, data_dir=data_dir, size=size, limit=limit, progress=progress)
        try:
            fetch(place, split, progress=progress)
        except (OSError, ValueError) as error:
            files = published.file_names(name, split)
            raise FileNotFoundError(
                f"the files of {name} are not in {str(place)!r} ({files}) and cannot be downloaded: {error}; "
                "put them there or pass data_dir (--data-dir)"
            ) from error
        arrays = read(place, split)
        assert arrays is not None
    pixels, labels, names = arrays
    chosen = evenly(labels, limit)
    images, preparation = prepare(to_float(pixels[chosen]), size)
    return Dataset(images, labels[chosen], names, name, split, preparation)


def _resize_photos(images: np.ndarray, size: int | None) -> tuple[np.ndarray, str]:
    if size in (None, 32):
        return images, "as published"
    return resize(images, size), f"antialiased bilinear from 32 to {size}"


SOURCES: dict[str, Callable[..., Any]] = {
    "digits": _digits,
    "mnist": functools.partial(_published, "mnist", published.read_mnist, download.fetch_mnist, pad_digits),
    "cifar10": functools.partial(_published, "cifar10", published.read_cifar10, download.fetch_cifar10, _resize_photos),
}
