"""Which images belong to train and which to test, the same on every machine, today and in a year."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int32, Int64, Integer

from jaxcam.data.checks import closest

SPLITS = ("train", "test")


def check_split(name: str, split: str, available: Iterable[str] = SPLITS) -> None:
    """Refuses a split that does not exist, with the closest that does."""
    available = tuple(available)
    if split not in available:
        raise ValueError(f"{name} has no split {split!r}; {closest(split, available)}")


def permutation(count: int, *seed: int) -> Int64[np.ndarray, " {count}"]:
    """Puts 0 … count − 1 in random order, the same in every version of numpy.

    Only the raw bits of numpy's generators are promised to stay as they are, so these are what is sorted.

    Args:
        count: how many numbers.
        seed: one or several whole numbers, each at least 0.

    Returns:
        (count,), each number once.

    Example:
        >>> permutation(5, 0).tolist()
        [3, 2, 1, 0, 4]
    """
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def stratified(
    labels: Integer[np.ndarray, " n"], split: str, *, share: float = 0.2, seed: int = 0
) -> Int64[np.ndarray, " m"]:
    """Splits data that comes without a split: the same share of every class, drawn once and for all.

    Args:
        labels: (n,), the class of each image, in a fixed order.
        split: "train" or "test".
        share: the share of each class that is tested on, in (0, 1); of a class with two images or more at least
            one is tested on and one trained on, a single image is trained on.
        seed: of the draw.

    Returns:
        the indices of the split, ascending.

    Example:
        >>> stratified(np.array([0, 0, 0, 0, 0, 1, 1]), "test").shape
        (2,)
    """
    test = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held = min(max(1, round(share * len(members))), len(members) - 1)
        test.append(members[permutation(len(members), seed, int(label))[:held]])
    is_test = np.zeros(len(labels), bool)
    is_test[np.concatenate(test)] = True
    return np.flatnonzero(is_test if split == "test" else ~is_test)


def evenly(labels: Integer[np.ndarray, " n"], limit: int | None, *, seed: int = 0) -> Int64[np.ndarray, " m"]:
    """Chooses at most `limit` images, as many of each class as can be; a smaller limit chooses among the same.

    Args:
        labels: (n,), the class of each image.
        limit: how many at most; None for all.
        seed: of the draw within each class.

    Returns:
        the indices chosen, ascending.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
        >>> np.bincount(labels[evenly(labels, 5)]).tolist()
        [2, 2, 1]
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members[permutation(len(members), seed, int(label))]] = np.arange(len(members))
    return np.sort(np.lexsort((labels, rank))[:limit])


def as_labels(labels: Iterable[int]) -> Int32[np.ndarray, " n"]:
    """Labels as they are kept everywhere: int32."""
    return np.fromiter(labels, np.int32)
