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

import numpy as np

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

    @property
    def bytes(self) -> int:
        """What the lists take."""
        return self.flat.nbytes + self.wanted.nbytes + self.place.nbytes

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
class Tile:
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

    def _tile(self, y: int, left: int, right: int) -> Tile:
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
        return Tile(slice(int(first), int(last)), tuple(products))


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
