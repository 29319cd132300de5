"""What a network is shown: images, their labels, and the names of the classes, checked once and for all."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxcam.data.checks import check_images


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labeled images in memory; unpacks as `images, labels, names`.

    Args:
        images: (n, h, w, c) float32 in [0, 1].
        labels: (n,) int32, each the index of its class in `names`.
        names: the k class names.
        name: what was loaded, as it was asked for.
        split: which part of it, `"train"` or `"test"`.
        preparation: in words, how the pictures were brought to this size; stored with every network trained on them.

    Raises:
        TypeError: images or labels that are no numbers of the right kind.
        ValueError: no images, NaN, values outside [0, 1], more or fewer labels than images, labels without a name.

    Example:
        >>> data = Dataset(np.ones((2, 4, 4, 1)), np.array([0, 1]), ("cat", "dog"))
        >>> images, labels, names = data
        >>> images.shape, labels.tolist(), names
        ((2, 4, 4, 1), [0, 1], ('cat', 'dog'))
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    name: str = "arrays"
    split: str = "train"
    preparation: str = ""

    def __post_init__(self) -> None:
        check_images(self.images, allow_constant=True)
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise TypeError(f"labels must be whole numbers of shape (n,), not {labels.dtype} of shape {labels.shape}")
        if len(labels) != len(self.images):
            raise ValueError(f"there are {len(self.images)} images but {len(labels)} labels")
        names = tuple(str(name) for name in self.names)
        stray = labels[(labels < 0) | (labels >= len(names))]
        if stray.size:
            raise ValueError(f"label {stray[0]} of {self.name} names no class: there are {len(names)}, counted from 0")
        # A frozen dataclass is filled in through object, as its own __init__ does.
        object.__setattr__(self, "images", np.ascontiguousarray(self.images, np.float32))
        object.__setattr__(self, "labels", labels.astype(np.int32))
        object.__setattr__(self, "names", names)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.images, self.labels, self.names))

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.images)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The sha256 of images, labels and names: the same data or not, whatever the files were called."""
        digest = hashlib.sha256(repr((self.images.shape, self.names)).encode())
        digest.update(self.images.data)
        digest.update(self.labels.data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What is written into manifests and checkpoints to say, and to check, which data it was.

        Returns:
            name, split, count, image (h, w, c), classes (how many), preparation and fingerprint, ready for JSON.

        Example:
            >>> data = Dataset(np.ones((1, 2, 2, 1)), np.array([0]), ("zero",), name="digits")
            >>> {key: value for key, value in data.describe().items() if key in ("name", "count", "image")}
            {'name': 'digits', 'count': 1, 'image': [2, 2, 1]}
        """
        return {
            "name": self.name,
            "split": self.split,
            "count": self.count,
            "image": list(self.images.shape[1:]),
            "classes": len(self.names),
            "preparation": self.preparation,
            "fingerprint": self.fingerprint,
        }
