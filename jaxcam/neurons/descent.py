"""From a layer down to the image, over active entries: the order of the steps, the threads, the memory.

The steps themselves are matrices (`active.py`). Here they meet: where several read one value, what they send back is
added up, and clipped when the last has come, while it is in the cache. Pixels are shared among threads, one matrix
product each at a time.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import threadpoolctl
from scipy import sparse

from jaxcam.neurons.active import Entries, Skip, Step, Tile

# How many numbers a thread goes over again while they are in its cache.
_CACHED = 1 << 17


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def workers() -> int:
    """How many threads share the pixels: the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Stop:
    """A rectified value on the way down.

    Attributes:
        key: what it is known by.
        active: the active entries of what was rectified.
        ways: to the values below that it was made from, by their keys; steps first arrive or add, whatever the order.
    """

    key: int
    active: Entries
    ways: Sequence[tuple[int, Step | Skip]]


class ActivePass:
    """From a value down to the images, or these scaled, for one image and any units.

    Args:
        stops: from the highest down, each below all that read it.
        bottom: the shape (h, w, c) of the value below the last.
        guided: whether cotangents are clipped at zero at every ReLU.
    """

    def __init__(self, stops: Sequence[Stop], bottom: tuple[int, ...], guided: bool) -> None:
        self.stops, self.bottom, self.guided = stops, bottom, guided
        self.active = {stop.key: stop.active for stop in stops}
        # Who brings the last part of a value's sum: there it can be finished while it is at hand.
        self.last = {below: way for stop in stops for below, way in stop.ways}
        self.spare: list[np.ndarray] = []  # memory to use again: fresh memory costs a tenth of the time

    @functools.cached_property
    def rows(self) -> int:
        """Numbers kept for each unit at once, at the widest."""
        sums, widest = {self.stops[0].key: len(self.stops[0].active.wanted)}, 0
        for stop in self.stops:
            current = max(sums.pop(stop.key), len(stop.active.flat))
            for below, way in stop.ways:
                copied = sums.get(below, 0) if below in self.active and self.active[below].moved else 0
                # A skip's source waits until it is added.
                sums[below] = max(len(way.wanted), len(way.above.flat) if isinstance(way, Skip) else 0)
                widest = max(widest, current + copied + sum(sums.values()))
        return widest

    @functools.cached_property
    def bytes(self) -> int:
        """What the matrices take, and the lists of entries."""
        matrices = sum(way.bytes for stop in self.stops for _, way in stop.ways if isinstance(way, Step))
        return matrices + sum(stop.active.bytes for stop in self.stops)

    def __call__(self, cotangents: np.ndarray) -> np.ndarray:
        """Sends units back.

        Args:
            cotangents: (h·w·c, b) those of the highest stop's value, b units.

        Returns:
            (h·w·c, b) the cotangents of the value below the last.
        """
        top, b = self.stops[0], cotangents.shape[1]
        sums, settled = {top.key: cotangents[top.active.wanted]}, set()
        skips: dict[int, list[tuple[Skip, np.ndarray]]] = {}  # added where the next step arrives, or at the end
        with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(workers()) as pool:
            for stop in self.stops:
                current = self._arrived(sums.pop(stop.key, None), skips.pop(stop.key, []), b)
                if stop.key not in settled:
                    current = self._settle(stop.active, current)
                used = [current]
                for below, way in stop.ways:
                    if isinstance(way, Skip):
                        skips.setdefault(below, []).append((way, current))
                        continue
                    finish = self.active.get(below) if self.last[below] is way else None
                    if finish is not None and finish.summed:
                        finish = None
                    known, added = sums.pop(below, None), skips.pop(below, [])
                    sums[below] = self._run(way, current, known, added, finish, pool)
                    used += [above for _, above in added]
                    if known is not None and known is not sums[below]:
                        used.append(known)
                    if finish is not None:
                        settled.add(below)
                waiting = {id(above) for some in skips.values() for _, above in some}
                done = {id(values): values for values in used if id(values) not in waiting}
                self.spare += [(values if values.base is None else values.base).reshape(-1) for values in done.values()]
        (below,) = {*sums, *skips}
        return self._arrived(sums.get(below), skips.get(below, []), b)

    def _empty(self, rows: int, b: int) -> np.ndarray:
        """Memory for some rows: used before, if there is enough in one piece."""
        order = sorted(range(len(self.spare)), key=lambda i: self.spare[i].size)
        enough = [i for i in order if self.spare[i].size >= rows * b]
        if not enough:
            if order:
                del self.spare[order[-1]]  # too small, and would be kept beside what takes its place
            return np.empty((rows, b), np.float32)
        return self.spare.pop(enough[0])[: rows * b].reshape(rows, b)

    def _arrived(self, known: np.ndarray | None, skips: list[tuple[Skip, np.ndarray]], b: int) -> np.ndarray:
        """The sum of what came to a value."""
        if known is None:
            known = np.zeros((len(skips[0][0].wanted), b), np.float32)
        for skip, above in skips:
            skip.add(above, slice(0, len(known)), known)
        return known

    def _settle(self, active: Entries, values: np.ndarray) -> np.ndarray:
        """From cotangents of a value to those of what was rectified: pooling undone, clipped."""
        if active.summed:
            places, count = active.place, len(active.place)
            ones = np.ones(count, np.float32)
            # Summed before the rectifier sees them.
            values = sparse.csr_array((ones, (places, np.arange(count))), shape=(len(active.flat), count)) @ values
        elif active.moved:
            moved = np.empty_like(values)
            moved[active.place] = values
            values = moved
        return np.maximum(values, 0, out=values) if self.guided else values

    def _run(
        self,
        step: Step,
        current: np.ndarray,
        known: np.ndarray | None,
        skips: list[tuple[Skip, np.ndarray]],
        finish: Entries | None,
        pool: ThreadPoolExecutor,
    ) -> np.ndarray:
        """One step, added to what is known already and to skips, and settled if nothing else is to come."""
        b = current.shape[1]
        moved = finish is not None and finish.moved
        result = known if known is not None and not moved else self._empty(len(step.wanted), b)

        def work(tiles: list[Tile]) -> None:
            widest = max((tile.rows.stop - tile.rows.start for tile in tiles), default=0)
            part = np.empty((widest, b), np.float32)
            for group in _groups(tiles, _CACHED // b):
                first, last = group[0].rows.start, group[-1].rows.stop
                if known is not None:
                    values = known[first:last]
                else:
                    values = np.empty((last - first, b), np.float32) if moved else result[first:last]
                for tile in group:
                    here, empty = values[tile.rows.start - first : tile.rows.stop - first], known is None
                    for matrix, near in tile.products:
                        if empty:
                            np.matmul(matrix, current[near], out=here)
                        else:
                            here += np.matmul(matrix, current[near], out=part[: len(here)])
                        empty = False
                    if empty:
                        here[:] = 0
                for skip, above in skips:
                    skip.add(above, slice(first, last), values)
                if finish is not None and self.guided:
                    np.maximum(values, 0, out=values)
                if moved and finish is not None:
                    result[finish.place[first:last]] = values

        list(pool.map(work, _shares(step.tiles, workers())))
        return result


def _groups(tiles: list[Tile], rows: int) -> Iterator[list[Tile]]:
    """The tiles in runs of about so many rows, one at least."""
    group: list[Tile] = []
    for tile in tiles:
        if group and tile.rows.stop - group[0].rows.start > rows:
            yield group
            group = []
        group.append(tile)
    if group:
        yield group


def _shares(tiles: list[Tile], count: int) -> list[list[Tile]]:
    """The tiles in runs of about equal cost."""
    ends = np.cumsum([tile.cost for tile in tiles])
    if not tiles:
        return []
    cuts = np.searchsorted(ends, [ends[-1] * i / count for i in range(1, count)])
    edges = [0, *(int(cut) for cut in cuts), len(tiles)]
    return [tiles[a:b] for a, b in itertools.pairwise(edges)]
