"""Memory used again and again: the system brings fresh memory page by page, which takes as long as to fill it twice."""

from __future__ import annotations

import math
import sys

import numpy as np

_NUMBERS = 16  # that a processor reads at once: a line of the cache


def aligned(*shape: int) -> np.ndarray:
    """An array of float32, any numbers, that starts where a line of the cache does; JAX takes such without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + _NUMBERS, np.float32)
    start = -memory.__array_interface__["data"][0] // memory.itemsize % _NUMBERS
    return memory[start : start + size].reshape(shape)


def lines(array: np.ndarray) -> bool:
    """Whether an array starts where a line of the cache does."""
    return array.__array_interface__["data"][0] % (_NUMBERS * array.itemsize) == 0


class Arena:
    """Arrays of float32, in one piece of memory as far as they fit into it."""

    def __init__(self) -> None:
        self._memory = aligned(0)
        self._taken: dict[int, int] = {}  # from where to where

    @property
    def bytes(self) -> int:
        """What the piece takes."""
        return self._memory.nbytes

    def begin(self, size: int) -> None:
        """Has room for so many numbers; what was taken before is free again, but what somebody still holds."""
        self._taken.clear()
        held = sys.getrefcount(self._memory.base) > 2  # one is ours, one the call's; every array taken is another
        if size > len(self._memory) or held:
            self.forget()  # not both at once
            self._memory = aligned(size)

    def forget(self) -> None:
        """Gives the memory up."""
        self._taken.clear()
        self._memory = aligned(0)

    def take(self, *shape: int) -> np.ndarray:
        """An array of any numbers, in the smallest gap it fits into; fresh memory if in none."""
        size, gaps, end = math.prod(shape), [], 0
        whole = -(-size // _NUMBERS) * _NUMBERS  # so that the next one starts with a line, too
        for start, stop in [*sorted(self._taken.items()), (len(self._memory), 0)]:
            if whole <= start - end:
                gaps.append((start - end, end))
            end = stop
        if not gaps or not size:
            return aligned(*shape)
        start = min(gaps)[1]
        self._taken[start] = start + whole
        return self._memory[start : start + size].reshape(shape)

    def give(self, array: np.ndarray) -> None:
        """Takes back what `take` gave; another array is left alone."""
        address = array.__array_interface__["data"][0] - self._memory.__array_interface__["data"][0]
        if array.size and 0 <= address < self._memory.nbytes:
            self._taken.pop(address // self._memory.itemsize, None)
