"""A folder of photographs as a data set: one subfolder for each class, named as the class.

    photos/cat/*.jpg               or already split:   photos/train/cat/*.jpg
    photos/dog/*.png                                   photos/test/cat/*.jpg     (or val/, valid/, validation/)

Pictures may be JPEG, PNG, WebP or BMP, in any case of letters; names that begin with a dot are skipped.
"""

import os
import warnings
from pathlib import Path

import numpy as np

from jaxcam.data.checks import closest, listed
from jaxcam.data.dataset import Dataset
from jaxcam.data.images import PREPARATION, SUFFIXES, decode_all
from jaxcam.data.splits import as_labels, check_split, evenly, stratified

TEST_FOLDERS = ("test", "val", "valid", "validation")


def load_folder(path: Path, split: str, *, size: int, skip_broken: bool, limit: int | None, progress: bool) -> Dataset:
    """Loads a folder of images; `jaxcam.data.load` documents the options.

    Raises:
        FileNotFoundError: there is no such folder, no class in it, or a class without a picture.
        ValueError: pictures that cannot be read, all named; classes of test that train does not have.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {str(path)!r}")
    check_split(str(path), split)
    names, files, labels = _listing(path, split)
    chosen = evenly(labels, limit)
    files, labels = [files[index] for index in chosen], labels[chosen]
    _check_memory(len(files), size)
    images, broken = decode_all(files, lambda file: file, size, channels=3, progress=progress)
    if broken:
        report = listed(f"{files[index].relative_to(path)} ({reason})" for index, reason in sorted(broken.items()))
        count = f"{len(broken)} of {len(files)} images in {str(path)!r} cannot be read"
        if not skip_broken:
            raise ValueError(f"{count}: {report}; remove them or pass skip_broken=True (--skip-broken)")
        if len(broken) == len(files):
            raise ValueError(f"{count}, none is left: {report}")
        warnings.warn(f"{count} and were skipped: {report}", stacklevel=3)
        whole = np.setdiff1d(np.arange(len(files)), list(broken))
        images, labels = images[whole], labels[whole]
    preparation = PREPARATION.format(size)
    return Dataset(images, labels, names, name=str(path), split=split, preparation=preparation)


def _listing(path: Path, split: str) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """The classes, and the files of a split with their labels, in an order that depends on names alone."""
    folders = {folder.name: folder for folder in _subfolders(path)}
    train = folders.get("train")
    # A class may be called "train" too: as a split it has classes in it.
    if train is None or not _subfolders(train):
        names, files, labels = _classes(path)
        chosen = stratified(labels, split)
        if not chosen.size:
            raise ValueError(
                f"{str(path)!r} has one image of each class, which are for training: there is no test split"
            )
        return names, [files[index] for index in chosen], labels[chosen]
    names, files, labels = _classes(train)
    if split == "train":
        return names, files, labels
    test = next((folders[name] for name in TEST_FOLDERS if name in folders), None)
    if test is None:
        raise FileNotFoundError(f"{str(path)!r} has train/ but neither {' nor '.join(f'{n}/' for n in TEST_FOLDERS)}")
    tested, files, labels = _classes(test)
    for name in tested:
        if name not in names:
            raise ValueError(f"{str(test)!r} has a class {name!r} that train/ does not have; {closest(name, names)}")
    return names, files, as_labels(names.index(tested[label]) for label in labels)


def _classes(path: Path) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    folders = _subfolders(path)
    if not folders:
        raise FileNotFoundError(f"no classes in {str(path)!r}: it needs a subfolder of images for each class")
    names = tuple(folder.name for folder in folders)
    members = [_images(folder) for folder in folders]
    empty = [name for name, files in zip(names, members, strict=True) if not files]
    if empty:
        what = f"the classes {listed(empty)} have" if len(empty) > 1 else f"the class {empty[0]!r} has"
        raise FileNotFoundError(f"{what} no image in {str(path)!r}; images end in {listed(SUFFIXES)}")
    labels = np.repeat(np.arange(len(names)), [len(files) for files in members]).astype(np.int32)
    return names, [file for files in members for file in files], labels


def _subfolders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    if images and len(images) < len(files):
        others = listed((file.name for file in files if file.suffix.lower() not in SUFFIXES), 5)
        warnings.warn(f"{str(folder)!r}: {others} left out; images end in {listed(SUFFIXES)}", stacklevel=6)
    return images


def _check_memory(count: int, size: int) -> None:
    """Says so before the system would kill the process without a word."""
    needed = count * size * size * 3 * 4
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ValueError(
            f"{count:,} images of {size}×{size} take {needed / 1e9:.0f} GB, this machine has {memory / 1e9:.0f}: "
            "pass a smaller limit or image_size"
        )
