"""The backward pass over what is active, and nothing else.

A ReLU that is silent at a place sends nothing back through it, and a max pool sends everything back to one place of
four. For one image both are known after the forward pass, for all units alike: of the 16,384 cotangents behind
VGG11's second convolution at most 8,192 are ever nonzero. So each convolution of a chain becomes, pixel by pixel, a
small dense matrix between the active entries on either side; the units stand in the columns:

    S_q = M_q G_near(q)        q: a pixel of the convolution's input; rows of S: those of its channels that count below
                               near(q): the active entries of the output within the kernel's reach of q
                               M_q: the weights between the two
    G   = max(S, 0) · E        for the guided rule; E: what ReLU and batch norm let through, by entry

The numbers are those of the plain pass (the same products, without the zeros). The sizes depend on the image, so this
runs on the host, in the matrix product numpy brings, one thread a share of the pixels: no compilation. A network
trained on CIFAR-10, most of whose units are dead, needs a tenth of the work; one with random weights, a fifth.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import threadpoolctl
from scipy import sparse

# Rows a matrix product should have at least; below, neighboring pixels share one.
_ROWS = 24


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
    """The active entries of a convolution's output.

    Attributes:
        flat: index in the output (h, w, u), ascending: so the entries of neighboring pixels stand together.
        starts: for each pixel, where its entries start; one more at the end.
        factor: what a cotangent is multiplied with on its way from the ReLU to the convolution.
        wanted: index in the value above (after pooling) of each cotangent the entries are made from, ascending.
        place: for each of `wanted`, the entry it goes to.
        summed: whether several of `wanted` may go to one entry (windows that overlap).
    """

    flat: np.ndarray
    starts: np.ndarray
    factor: np.ndarray
    wanted: np.ndarray
    place: np.ndarray
    summed: bool

    @functools.cached_property
    def unscaled(self) -> bool:
        """Whether all factors are one: no batch norm, no leaky slope."""
        return bool((self.factor == 1).all())


def entries(passed: np.ndarray, winners: np.ndarray | None, pool: dict | None) -> Entries:
    """Finds the active entries of a convolution's output.

    Args:
        passed: (h, w, u) the derivative of the value above before pooling with respect to the convolution's output.
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
    return Entries(flat, starts, passed.reshape(-1)[flat].astype(np.float32), wanted, place, summed)


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
    """

    def __init__(self, convolution: Convolution, above: Entries, wanted: np.ndarray) -> None:
        self.convolution, self.above, self.wanted = convolution, above, wanted
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
            products.append((matrix, near))
        return _Tile(slice(int(first), int(last)), tuple(products))


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def workers() -> int:
    """How many threads share the pixels: the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ActivePass:
    """A chain of convolutions backward, for one image and any units.

    Args:
        chain: from the highest convolution down: a key of its own, the convolution, the active entries of its output.
        guided: whether cotangents are clipped at zero at every ReLU.
        known: steps made before, by the keys of the convolutions they lie between; new ones are added.
    """

    def __init__(
        self, chain: Sequence[tuple[int, Convolution, Entries]], guided: bool, known: dict[tuple[int, int], Step]
    ) -> None:
        self.guided = guided
        self.entries = [active for _, _, active in chain]
        self.bottom = chain[-1][1].input_shape
        everything = np.arange(int(np.prod(self.bottom)))
        self.steps = []
        for i, (key, convolution, above) in enumerate(chain):
            below = chain[i + 1][0] if i + 1 < len(chain) else -1
            if (key, below) not in known:
                wanted = self.entries[i + 1].wanted if below >= 0 else everything
                known[key, below] = Step(convolution, above, wanted)
            self.steps.append(known[key, below])

    def rows(self) -> int:
        """Numbers kept for each unit at once, at the widest."""
        return max(len(step.above.flat) + len(step.wanted) for step in self.steps)

    def __call__(self, cotangents: np.ndarray) -> np.ndarray:
        """Sends units back.

        Args:
            cotangents: (h·w·c, b) those of the value above the highest convolution of the chain, b units.

        Returns:
            (h·w·c, b) the cotangents of the lowest convolution's input.
        """
        top = self.entries[0]
        current = self._gather(top, cotangents[top.wanted])
        with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(workers()) as pool:
            for step, below in zip(self.steps, [*self.entries[1:], None], strict=True):
                current = self._run(step, below, current, pool)
        return current

    def _settle(self, active: Entries, values: np.ndarray, rows: slice, out: np.ndarray) -> None:
        """From cotangents of the value above to those of the convolution's active outputs."""
        if self.guided:
            np.maximum(values, 0, out=values)
        place = active.place[rows]
        if not active.unscaled:
            values *= active.factor[place, None]
        out[place] = values

    def _gather(self, active: Entries, values: np.ndarray) -> np.ndarray:
        """The same for all cotangents at once, where several may meet at one entry: windows that overlap."""
        if active.summed:
            places, count = active.place, len(active.place)
            ones = np.ones(count, np.float32)
            # Summed before the ReLU sees them.
            values = sparse.csr_array((ones, (places, np.arange(count))), shape=(len(active.flat), count)) @ values
            if self.guided:
                np.maximum(values, 0, out=values)
            values *= active.factor[:, None]
            return values
        out = np.empty((len(active.flat), values.shape[1]), np.float32)
        self._settle(active, values, slice(0, len(active.wanted)), out)
        return out

    def _run(self, step: Step, below: Entries | None, current: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
        b = current.shape[1]
        direct = below is not None and not below.summed
        result = np.empty((len(below.flat) if direct and below is not None else len(step.wanted), b), np.float32)

        def work(tiles: list[_Tile]) -> None:
            widest = max((tile.rows.stop - tile.rows.start for tile in tiles), default=0)
            total, part = np.empty((widest, b), np.float32), np.empty((widest, b), np.float32)
            for tile in tiles:
                count = tile.rows.stop - tile.rows.start
                values = total[:count]
                if not tile.products:
                    values[:] = 0
                for i, (matrix, near) in enumerate(tile.products):
                    np.matmul(matrix, current[near], out=part[:count] if i else values)
                    if i:
                        values += part[:count]
                if direct and below is not None:
                    self._settle(below, values, tile.rows, result)
                else:
                    result[tile.rows] = values

        list(pool.map(work, _shares(step.tiles, workers())))
        return result if below is None or direct else self._gather(below, result)


def _shares(tiles: list[_Tile], count: int) -> list[list[_Tile]]:
    """The tiles in runs of about equal cost."""
    ends = np.cumsum([tile.cost for tile in tiles])
    if not tiles:
        return []
    cuts = np.searchsorted(ends, [ends[-1] * i / count for i in range(1, count)])
    edges = [0, *(int(cut) for cut in cuts), len(tiles)]
    return [tiles[a:b] for a, b in itertools.pairwise(edges)]
