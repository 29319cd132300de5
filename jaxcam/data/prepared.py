"""Any image classification set of tensorflow-datasets, without TensorFlow.

The catalog's `data_source` reads array_record files by plain Python; their pictures are taken out still encoded and
decoded by pillow like any other. What is prepared already needs no network either.
"""

import contextlib
import io
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from jaxcam.data.checks import guess, listed
from jaxcam.data.dataset import Dataset
from jaxcam.data.images import PREPARATION, decode_all, resize
from jaxcam.data.splits import SPLITS, as_labels, check_split, evenly, stratified
from jaxcam.interrupts import on_stop

# What the catalog's sets call the part that is tested on, best first.
TEST_SPLITS = ("test", "validation")
DEFAULT_SIZE = 224


def load_prepared(
    name: str, split: str, *, data_dir: Path | None, size: int | None, limit: int | None, progress: bool
) -> Dataset:
    """Loads `name` of tensorflow-datasets; `jaxcam.data.load` documents the options.

    Raises:
        ValueError: no such set, no set of labeled images, no such split, or it could be neither found nor downloaded.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    if not builder.info.splits:
        _prepare(builder, name)
    image_key, label_key = _keys(builder, name)
    available = tuple(builder.info.splits)
    wanted = split
    if split == "test" and "test" not in available:
        wanted = next((test for test in TEST_SPLITS if test in available), "train")
    check_split(f"tfds:{name}", split, dict.fromkeys((*SPLITS, *available)))
    try:
        source = builder.as_data_source(wanted, decoders={image_key: tfds.decode.SkipDecoding()})
    except (NotImplementedError, ValueError) as error:
        raise ValueError(f"tfds:{name} cannot be read without TensorFlow: {_first_line(error)}") from error
    labels = as_labels(source[index][label_key] for index in range(len(source)))
    # A set without a test split is split as a folder is.
    alone = split in SPLITS and not set(TEST_SPLITS) & set(available)
    chosen = stratified(labels, split) if alone else np.arange(len(labels))
    chosen = chosen[evenly(labels[chosen], limit)]
    images, preparation = _images(builder.info.features[image_key], source, image_key, chosen, name, size, progress)
    names = tuple(builder.info.features[label_key].names)
    return Dataset(images, labels[chosen], names, name=f"tfds:{name}", split=split, preparation=preparation)


def default_directory() -> Path:
    """Where tensorflow-datasets keeps its sets unless told otherwise: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    import tensorflow_datasets as tfds

    return Path(tfds.core.constants.DATA_DIR).expanduser()


def is_prepared(name: str, data_dir: Path | None) -> bool:
    """Whether tensorflow-datasets has the set ready on this disk."""
    return bool(_builder(name, data_dir).info.splits)


def pad_digits(images: np.ndarray, size: int | None) -> tuple[np.ndarray, str]:
    """MNIST's 28×28 as networks for 32×32 take them: two black pixels around, unless 28 is asked for."""
    if size == 28:
        return images, "as published, 28"
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    if size in (None, 32):
        return padded, "padded with black from 28 to 32"
    return resize(padded, size), f"padded with black from 28 to 32, antialiased bilinear to {size}"


def _builder(name: str, data_dir: Path | None) -> Any:
    import tensorflow_datasets as tfds

    place = None if data_dir is None else str(data_dir)
    try:
        with _quiet():
            try:
                return tfds.builder(name, data_dir=place, file_format="array_record")
            except TypeError:
                # What is only found as files, not in the catalog, has its format already.
                return tfds.builder(name, data_dir=place)
    except tfds.core.DatasetNotFoundError as error:
        catalog = tfds.list_builders(with_community_datasets=False)
        raise ValueError(
            f"tensorflow-datasets has no {name!r} in its catalog or in {place or tfds.core.constants.DATA_DIR}; "
            f"{guess(_base(name), catalog)}see tensorflow.org/datasets/catalog for its {len(catalog)} sets"
        ) from error
    except ImportError as error:
        missing = error.name or _first_line(error).rsplit(" ", 1)[-1].strip("'")
        raise ValueError(f"tfds:{name} needs the module {missing!r}, which is not installed") from error
    except (ValueError, AssertionError, OSError) as error:
        raise ValueError(f"tfds:{name} cannot be opened: {_first_line(error)}") from error


def _prepare(builder: Any, name: str) -> None:
    """Downloads and converts; what fails leaves nothing behind and becomes one line."""
    place = Path(builder.data_dir)
    try:
        urls = list(builder.url_infos or ())
        if urls:
            _check_network(urls[0])
        generate = builder._generate_examples
        builder._generate_examples = lambda *args, **kwargs: _with_pictures(generate(*args, **kwargs))
        before = _incomplete(place)
        with _quiet(), on_stop(lambda: _remove(_incomplete(place) - before)):
            builder.download_and_prepare()
    except ImportError as error:
        # Many sets' scripts read their sources by TensorFlow, though reading what they wrote does without.
        raise ValueError(
            f"tfds:{name} is not in {place} and its script needs the module {error.name!r}, which is not installed: "
            "install it, or prepare the set elsewhere with file_format='array_record' and copy the directory"
        ) from error
    except Exception as error:
        # Every set runs its own script here, which can fail in any way.
        raise ValueError(f"tfds:{name} is not in {place} and cannot be prepared there: {_first_line(error)}") from error


def _incomplete(place: Path) -> set[Path]:
    """The folders beside a set's own in which tensorflow-datasets prepares it."""
    return set(place.parent.glob(f"incomplete.*_{place.name}"))


def _remove(folders: set[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _with_pictures(examples: Any) -> Any:
    """Hands arrays over as pictures: tensorflow-datasets encodes arrays by TensorFlow, pictures by pillow."""
    if not isinstance(examples, Iterator):
        return examples
    return ((key, {name: _as_picture(value) for name, value in example.items()}) for key, example in examples)


def _as_picture(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[-1] in (1, 3, 4):
        return PIL.Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value)
    return value


def _check_network(url: str) -> None:
    # Without a network tensorflow-datasets retries for three minutes before it says so.
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20).close()
    except urllib.error.HTTPError:
        return  # An answer, whatever it says, is a network.
    except OSError as error:
        raise OSError(f"no network, {urllib.parse.urlsplit(url).hostname} cannot be reached") from error


def _keys(builder: Any, name: str) -> tuple[str, str]:
    """The features that hold the picture and its class."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    pairs = builder.info.supervised_keys
    if not pairs:
        pictures = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
        classes = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
        pairs = (pictures[0], classes[0]) if len(pictures) == len(classes) == 1 else None
    if (
        not pairs
        or len(pairs) != 2
        or type(features.get(pairs[0])) is not tfds.features.Image
        or not isinstance(features.get(pairs[1]), tfds.features.ClassLabel)
    ):
        held = listed(f"{key} ({type(feature).__name__})" for key, feature in features.items())
        raise ValueError(f"tfds:{name} is not a set of labeled images; each example holds {held}")
    if features[pairs[0]].np_dtype != np.uint8:
        raise ValueError(f"tfds:{name} holds images of {features[pairs[0]].np_dtype}; only bytes are read")
    return pairs


def _images(
    feature: Any, source: Sequence[Any], key: str, chosen: np.ndarray, name: str, size: int | None, progress: bool
) -> tuple[np.ndarray, str]:
    h, w, channels = feature.shape
    encoded: Callable[[int], io.BytesIO] = lambda index: io.BytesIO(source[index][key])  # noqa: E731
    is_small = h is not None and h == w
    digits = _base(name) == "mnist"
    native = h if is_small and (size is None or digits) else size or DEFAULT_SIZE
    images, broken = decode_all(chosen.tolist(), encoded, native, channels=1 if channels == 1 else 3, progress=progress)
    if broken:
        index, reason = next(iter(broken.items()))
        raise ValueError(f"tfds:{name}: {len(broken)} images cannot be read, the first is number {index} ({reason})")
    if digits:
        return pad_digits(images, size)
    return images, "as published" if is_small and native == h else PREPARATION.format(native)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Sends what tensorflow-datasets prints to standard error: standard output belongs to results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _base(name: str) -> str:
    """The set's own name, without configuration and version."""
    return name.split("/")[0].split(":")[0]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
