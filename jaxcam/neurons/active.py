"""The backward pass over what is active, and nothing else.

A ReLU that is silent at a place sends nothing back through it, and a max pool sends everything back to one place of
four. For one image both are known after the forward pass, for all units alike: of the 16,384 cotangents behind
VGG11's second convolution at most 8,192 are ever nonzero. So each convolution of a chain becomes, pixel by pixel, a
small dense matrix between the active entries on either side; the units stand in the columns:

    S_q = M_q G_near(q)        q: a pixel of the convolution's input; rows of S: those of its channels that count below
                               near(q): the active entries of the output within the kernel's reach of q
                               M_q: the weights between the two, times what ReLU and batch norm let through
    G   = max(S, 0)            for the guided rule

Where several convolutions and skips read one value (a residual block), what they send back is added up before the
rectifier under it sees it.

The numbers are those of the plain pass (the same products, without the zeros). The sizes depend on the image, so this
runs on the host, in the matrix product numpy brings, one thread a share of the pixels: no compilation. A network
trained on CIFAR-10, most of whose units are dead, needs a tenth of the work; one with random weights, a fifth.
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

# Rows a matrix product should have at least; below, neighboring pixels share one.
_ROWS = 24
# How many numbers a thread goes over again while they are in its cache.
_CACHED = 1 << 17


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution of one image, channels last: its kernel (kh, kw, c, u) and how it is laid over the image."""

    kernel: np.ndarray
    strides: tuple[int, int]
    padding: tuple[int, int]  # before the first row and the first column
    dilation: tuple[int, int]
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Entries:
    """The active entries of what goes into a rectifier: a convolution's output, or a sum of such.

    Attributes:
        flat: index in the output (h, w, u), ascending: so the entries of neighboring pixels stand together.
        starts: for each pixel, where its entries start; one more at the end.
        wanted: index in the value above (after pooling) of each cotangent the entries are made from, ascending.
        place: for each of `wanted`, the entry it goes to.
        summed: whether several of `wanted` may go to one entry (windows that overlap).
    """

    flat: np.ndarray
    starts: np.ndarray
    wanted: np.ndarray
    place: np.ndarray
    summed: bool

    @functools.cached_property
    def moved(self) -> bool:
        """Whether the entries stand in another order than what they are made from."""
        return self.summed or not np.array_equal(self.place, np.arange(len(self.flat)))


def entries(passed: np.ndarray, winners: np.ndarray | None, pool: dict | None) -> Entries:
    """Finds the active entries of what goes into a rectifier.

    Args:
        passed: (h, w, u) the derivative of the value above before pooling with respect to it.
        winners: (h', w', u) for each pooling window which place holds its maximum, row by row; None without pooling.
        pool: the window's "size", "strides" and "padding", each for the two spatial axes.
    """
    h, w, u = passed.shape
    if winners is None or pool is None:
        wanted = flat = np.flatnonzero(passed)
        place, summed = np.arange(len(flat)), False
    else:
        rows, columns, channels = np.ix_(*(np.arange(size) for size in winners.shape))
        y = rows * pool["strides"][0] - pool["padding"][0] + winners // pool["size"][1]
        x = columns * pool["strides"][1] - pool["padding"][1] + winners % pool["size"][1]
        target = ((y * w + x) * u + channels).reshape(-1)
        wanted = np.flatnonzero(passed.reshape(-1)[target])
        flat, place = np.unique(target[wanted], return_inverse=True)
        summed = len(flat) < len(wanted)
    starts = np.searchsorted(flat, np.arange(h * w + 1) * u)
    return Entries(flat, starts, wanted, place, summed)


@dataclasses.dataclass(frozen=True)
class _Tile:
    """Some pixels of a convolution's input: rows of the result, and the products that give them."""

    rows: slice
    products: tuple[tuple[np.ndarray, slice], ...]

    @property
    def cost(self) -> int:
        return sum(matrix.size for matrix, _ in self.products) + 1


class Step:
    """One convolution backward: the cotangents of its active outputs ↦ the wanted cotangents of its input.

    Args:
        convolution: the convolution.
        above: its active outputs.
        wanted: which cotangents of its input are wanted, flat and ascending.
        factor: (h, w, u) what a cotangent is multiplied with on its way from the rectifier to the convolution's output;
            None for one.
    """

    def __init__(
        self, convolution: Convolution, above: Entries, wanted: np.ndarray, factor: np.ndarray | None = None
    ) -> None:
        self.convolution, self.above, self.wanted = convolution, above, wanted
        factors = None if factor is None else factor.reshape(-1)[above.flat].astype(np.float32)
        self.factors = None if factors is None or (factors == 1).all() else factors
        h, w, c = convolution.input_shape
        self.starts = np.searchsorted(wanted, np.arange(h * w + 1) * c)
        self.channels = wanted % c
        kh, kw, _, u = convolution.kernel.shape
        # Rows (place in the kernel row, output channel), so that one entry's weights to all input channels lie
        # together.
        self.weights = np.ascontiguousarray(convolution.kernel.transpose(0, 1, 3, 2)).reshape(kh, kw * u, c)
        mean = max(1, round(len(wanted) / (h * w)))
        width = int(np.clip(-(-_ROWS // mean), 1, w))
        tiles = [self._tile(y, x, min(x + width, w)) for y in range(h) for x in range(0, w, width)]
        self.tiles = [tile for tile in tiles if tile.rows.start < tile.rows.stop]

    @functools.cached_property
    def bytes(self) -> int:
        """What the weights kept take."""
        return sum(matrix.nbytes for tile in self.tiles for matrix, _ in tile.products)

    @staticmethod
    def size(convolution: Convolution, above: Entries, wanted: np.ndarray) -> int:
        """About how many weights the step keeps."""
        kh, kw = convolution.kernel.shape[:2]
        h, w, _ = convolution.input_shape
        return int(len(above.flat) * kh * kw * max(1.0, len(wanted) / (h * w)))

    def _tile(self, y: int, left: int, right: int) -> _Tile:
        geometry = self.convolution
        (height, width, u), w = geometry.output_shape, geometry.input_shape[1]
        first, last = self.starts[y * w + left], self.starts[y * w + right]
        products = []
        for ky in range(geometry.kernel.shape[0]):
            row, off = divmod(y + geometry.padding[0] - ky * geometry.dilation[0], geometry.strides[0])
            if off or not 0 <= row < height:
                continue
            reach = (geometry.kernel.shape[1] - 1) * geometry.dilation[1]
            low = max(0, -(-(left + geometry.padding[1] - reach) // geometry.strides[1]))
            high = min(width - 1, (right - 1 + geometry.padding[1]) // geometry.strides[1])
            if low > high:
                continue
            near = slice(self.above.starts[row * width + low], self.above.starts[row * width + high + 1])
            if near.start == near.stop:
                continue
            flat = self.above.flat[near]
            columns, outputs = (flat // u) % width, flat % u
            matrix = np.zeros((last - first, len(flat)), np.float32)
            for x in range(left, right):
                place, off_places = np.divmod(
                    x + geometry.padding[1] - columns * geometry.strides[1], geometry.dilation[1]
                )
                hit = np.flatnonzero((off_places == 0) & (place >= 0) & (place < geometry.kernel.shape[1]))
                a, b = self.starts[y * w + x] - first, self.starts[y * w + x + 1] - first
                if a == b or not len(hit):
                    continue
                block = self.weights[ky].take(place[hit] * u + outputs[hit], axis=0)
                channels = self.channels[first + a : first + b]
                if len(channels) < block.shape[1]:
                    block = block.take(channels, axis=1)
                if len(hit) == len(flat):
                    matrix[a:b] = block.T
                else:
                    matrix[a:b, hit] = block.T
            if self.factors is not None:
                matrix *= self.factors[near]
            products.append((matrix, near))
        return _Tile(slice(int(first), int(last)), tuple(products))


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def workers() -> int:
    """How many threads share the pixels: the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Skip:
    """A skip backward: the cotangents of a sum's active entries ↦ the wanted ones of what was added as it is.

    Args:
        above: the sum's active entries.
        wanted: which cotangents are wanted, flat and ascending.
        factor: see `Step`.
    """

    def __init__(self, above: Entries, wanted: np.ndarray, factor: np.ndarray | None = None) -> None:
        self.above, self.wanted = above, wanted
        flat, self.sources, self.targets = np.intersect1d(above.flat, wanted, assume_unique=True, return_indices=True)
        factors = None if factor is None else factor.reshape(-1)[flat].astype(np.float32)
        self.factors = None if factors is None or (factors == 1).all() else factors

    def add(self, current: np.ndarray, rows: slice, sums: np.ndarray) -> None:
        """Adds what comes back to the sums of some of the wanted cotangents."""
        first, last = np.searchsorted(self.targets, (rows.start, rows.stop))
        found = current[self.sources[first:last]]
        if self.factors is not None:
            found *= self.factors[first:last, None]
        sums[self.targets[first:last] - rows.start] += found


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
                sums[below] = len(way.wanted)
                widest = max(widest, current + copied + sum(sums.values()))
        return widest

    @functools.cached_property
    def bytes(self) -> int:
        """What the matrices take."""
        return sum(way.bytes for stop in self.stops for _, way in stop.ways if isinstance(way, Step))

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

        def work(tiles: list[_Tile]) -> None:
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


def _groups(tiles: list[_Tile], rows: int) -> Iterator[list[_Tile]]:
    """The tiles in runs of about so many rows, one at least."""
    group: list[_Tile] = []
    for tile in tiles:
        if group and tile.rows.stop - group[0].rows.start > rows:
            yield group
            group = []
        group.append(tile)
    if group:
        yield group


def _shares(tiles: list[_Tile], count: int) -> list[list[_Tile]]:
    """The tiles in runs of about equal cost."""
    ends = np.cumsum([tile.cost for tile in tiles])
    if not tiles:
        return []
    cuts = np.searchsorted(ends, [ends[-1] * i / count for i in range(1, count)])
    edges = [0, *(int(cut) for cut in cuts), len(tiles)]
    return [tiles[a:b] for a, b in itertools.pairwise(edges)]
