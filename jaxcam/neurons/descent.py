"""From a layer down to the image, over active entries: the order of the steps, the threads, the memory.

The steps themselves are matrices (`active.py`). Here they meet: where several read one value, what they send back is
added up, and clipped when the last has come, while it is in the cache. Pixels are shared among threads, one matrix
product each at a time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxcam.neurons import loops
from jaxcam.neurons.active import Entries, Seeds, Skip, Step, workers
from jaxcam.neurons.arena import Arena, aligned, lines

# How many shares of a step there are for each thread: the more, the sooner one helps out another that was held up.
_SHARES = 4
# Bytes of a result that are not going to be in a cache when they are read again.
_LARGE = 1 << 22


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
        arena: memory, which passes that do not run at the same time may share.
    """

    def __init__(
        self, stops: Sequence[Stop], bottom: tuple[int, ...], guided: bool, arena: Arena | None = None
    ) -> None:
        self.stops, self.bottom, self.guided, self.arena = stops, bottom, guided, arena or Arena()
        self.active = {stop.key: stop.active for stop in stops}
        # Who brings the last part of a value's sum: there it can be finished while it is at hand.
        self.last = {below: way for stop in stops for below, way in stop.ways}

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

    def __call__(self, seeds: Seeds, units: np.ndarray) -> np.ndarray:
        """Sends units back.

        Args:
            seeds: those of the layer that the highest stop's value goes into.
            units: which of its units, (b,).

        Returns:
            (g, h·w·c, COLUMNS) the cotangents of the value below the last, units in groups, the last of them filled up;
            the next call takes their memory.
        """
        groups = -(-len(units) // loops.COLUMNS)
        rows = self.rows + len(seeds.slopes) + len(seeds.kernel)
        self.arena.begin(rows * groups * loops.COLUMNS * 3 // 2)  # gaps are lost; untouched, they take no memory
        sums: dict[int, np.ndarray] = {}
        seen: dict[int, np.ndarray] = {}  # of values that are settled: which of their rows are not zero
        skips: dict[int, list[tuple[Skip, np.ndarray]]] = {}  # added where the next step arrives, or at the end
        with ThreadPoolExecutor(workers()) as pool:
            sums[self.stops[0].key], seen[self.stops[0].key] = self._seeded(seeds, units, pool)
            for stop in self.stops:
                used = [above for _, above in skips.get(stop.key, [])]
                current = self._arrived(sums.pop(stop.key, None), skips.pop(stop.key, []))
                if stop.key not in seen:
                    current, seen[stop.key] = self._settled(stop.active, current, pool)
                used.append(current)
                listed = self._listed(seen.pop(stop.key), pool)
                for below, way in stop.ways:
                    if isinstance(way, Skip):
                        skips.setdefault(below, []).append((way, current))
                        continue
                    finish = self.active.get(below) if self.last[below] is way else None
                    if finish is not None and finish.summed:
                        finish = None
                    known, added = sums.pop(below, None), skips.pop(below, [])
                    used += [above for _, above in added]
                    if len(added) > 1:
                        known = self._arrived(known, added[:-1])
                    moved = finish is not None and finish.moved
                    result = self._take(groups, len(way.wanted)) if known is None or moved else known
                    nonzero = np.empty((groups, len(way.wanted)), np.bool_)
                    self._run(way, (current, *listed), known, added[-1:], finish, (result, nonzero), pool)
                    sums[below] = result
                    if known is not None and known is not result:
                        used.append(known)
                    if finish is not None:
                        seen[below] = nonzero
                waiting = {id(above) for some in skips.values() for _, above in some}
                for values in used:
                    if id(values) not in waiting:
                        self.arena.give(values)
                self.arena.give(listed[0])
        (below,) = {*sums, *skips}
        return self._arrived(sums.get(below), skips.get(below, []))

    @staticmethod
    def turn(signal: np.ndarray, first: int, turned: np.ndarray) -> None:
        """Writes units of a signal (g, n, COLUMNS), from one on, as rows (b, n)."""
        with ThreadPoolExecutor(workers()) as pool:
            _shared(pool, signal.shape[1], lambda *run: loops.turn(signal, first, *run, turned))

    def _take(self, groups: int, rows: int) -> np.ndarray:
        return self.arena.take(groups, rows, loops.COLUMNS)

    def _arrived(self, known: np.ndarray | None, skips: list[tuple[Skip, np.ndarray]]) -> np.ndarray:
        """The sum of what came to a value."""
        if known is None:
            skip, above = skips[0]
            known = aligned(len(above), len(skip.wanted), loops.COLUMNS)
            known[:] = 0
        for skip, above in skips:
            for group, sums in zip(above, known, strict=True):
                loops.add(group, skip.sources, skip.targets, skip.factors, sums)
        return known

    def _seeded(self, seeds: Seeds, units: np.ndarray, pool: ThreadPoolExecutor) -> tuple[np.ndarray, np.ndarray]:
        """The highest value's cotangents, settled."""
        active = self.stops[0].active
        slopes, kernel = (self._grouped(numbers, units, pool) for numbers in (seeds.slopes, seeds.kernel))
        values = self._take(len(slopes), len(active.wanted))
        seen, clipped = np.empty(values.shape[:2], np.bool_), self.guided and not active.moved

        def work(first: int, last: int) -> None:
            loops.seed(seeds.layout, slopes, kernel, active.wanted, first, last, clipped, values, seen)

        _shared(pool, len(active.wanted), work)
        for used in (slopes, kernel):
            self.arena.give(used)
        return self._settled(active, values, pool) if active.moved else (values, seen)

    def _grouped(self, numbers: np.ndarray, units: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
        """Columns of numbers (n, u) in groups (g, n, COLUMNS); the last is filled up with zeros."""
        groups = self._take(-(-len(units) // loops.COLUMNS), len(numbers))
        _shared(pool, len(numbers), lambda *run: loops.columns(numbers, units, *run, groups))
        return groups

    def _settled(self, active: Entries, values: np.ndarray, pool: ThreadPoolExecutor) -> tuple[np.ndarray, np.ndarray]:
        """From a value's cotangents to those of what was rectified: pooling undone, clipped; and which are not zero."""
        result = self._take(len(values), len(active.flat)) if active.moved else values
        seen = np.empty(result.shape[:2], np.bool_)

        def work(first: int, last: int) -> None:
            loops.settle(values, *active.sources, first, last, self.guided, result, seen)

        _shared(pool, len(active.flat), work)
        if active.moved:
            self.arena.give(values)
        return result, seen

    def _listed(self, seen: np.ndarray, pool: ThreadPoolExecutor) -> tuple[np.ndarray, np.ndarray]:
        """Which entries count, for each group: see `loops.listed`."""
        groups, n = seen.shape
        numbers = self.arena.take(groups * (2 * n + 1)).view(np.int32)
        entries, starts = numbers[: groups * n].reshape(groups, n), numbers[groups * n :].reshape(groups, n + 1)
        list(pool.map(loops.listed, seen, entries, starts))
        return entries, starts

    def _run(
        self,
        step: Step,
        signal: tuple[np.ndarray, np.ndarray, np.ndarray],
        known: np.ndarray | None,
        skips: list[tuple[Skip, np.ndarray]],
        finish: Entries | None,
        result: tuple[np.ndarray, np.ndarray],
        pool: ThreadPoolExecutor,
    ) -> None:
        """One step, added to what is known already and to a skip, and settled if nothing else is to come."""
        nothing, nowhere = np.empty((len(signal[0]), 0, loops.COLUMNS), np.float32), np.empty(0, np.int64)
        added = nothing, nowhere, nowhere, np.empty(0, np.float32)
        for skip, above in skips:
            added = above, skip.sources, skip.targets, skip.factors
        places = finish.place if finish is not None and finish.moved else nowhere
        known = nothing if known is None else known
        past = result[0].nbytes > _LARGE and lines(result[0])

        def work(run: slice) -> None:
            made = step.tiles[run], step.products, step.weights
            loops.send(*made, *signal, known, *added, finish is not None and self.guided, places, past, *result)

        list(pool.map(work, step.shares(_SHARES * workers())))


def _shared(pool: ThreadPoolExecutor, count: int, work: Callable[[int, int], None]) -> None:
    """Has threads share entries: `work(first, last)`."""
    edges = np.linspace(0, count, _SHARES * workers() + 1).astype(int).tolist()
    list(pool.map(work, edges[:-1], edges[1:]))
