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
runs on the host, in loops that know no sizes (`loops.py`), one thread a share of the pixels. A network
trained on CIFAR-10, most of whose units are dead, needs a tenth of the work; one with random weights, a fifth.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxcam.neurons import loops
from jaxcam.neurons.matrices import Layout, fill, plan

# Rows a matrix product should have at least; below, neighboring pixels share one.
_ROWS = 12


def workers() -> int:
    """How many threads share the pixels: the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution of one image, channels last: its kernel (kh, kw, c, u) and how it is laid over the image."""

    kernel: np.ndarray
    strides: tuple[int, int]
    padding: tuple[int, int]  # before the first row and the first column
    dilation: tuple[int, int]
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]


def layout_of(convolution: Convolution, pixels: int = 1) -> Layout:
    """How a convolution is laid, as the loops take it."""
    return Layout(
        *(convolution.input_shape, convolution.output_shape, convolution.kernel.shape[:2]),
        *(convolution.strides, convolution.padding, convolution.dilation),
        *(pixels, loops.ROWS, loops.TERMS, loops.HIGHEST),
    )


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

    @functools.cached_property
    def sources(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of `wanted` go to each entry, entry by entry; and where those of each start, one more at the end."""
        order = np.argsort(self.place, kind="stable")
        return order, np.searchsorted(self.place[order], np.arange(len(self.flat) + 1))


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


class Seeds:
    """The units of a layer, and what each sends back to the layer's input through its own slice of the kernel.

    Args:
        convolution: the layer's.
        slopes: (h', w', u) the cotangents of the convolution's output, those of each unit in its channel.
    """

    def __init__(self, convolution: Convolution, slopes: np.ndarray) -> None:
        self.layout, units = layout_of(convolution), convolution.output_shape[2]
        # A column for each unit; copied, as what JAX gives is another type to the loops: it can't be written to.
        self.slopes, self.kernel = (
            np.array(numbers.reshape(-1, units), np.float32, order="C") for numbers in (slopes, convolution.kernel)
        )


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
        self.above, self.wanted = above, wanted
        factors = np.ones(len(above.flat), np.float32) if factor is None else factor.reshape(-1)[above.flat]
        h, w, c = convolution.input_shape
        rows = np.searchsorted(wanted, np.arange(h * w + 1) * c)
        mean = max(1, round(len(wanted) / (h * w)))
        layout = layout_of(convolution, pixels=int(np.clip(-(-_ROWS // mean), 1, w)))
        self.tiles, self.products = plan(layout, rows, above.starts)
        heights, ends = self.tiles[:, 1] - self.tiles[:, 0], np.append(0, self.products[:, 2].cumsum())
        heights = -(-heights // loops.ROWS) * loops.ROWS
        # For each tile, where its weights end.
        self.ends = np.cumsum(heights * (ends[self.tiles[:, 3]] - ends[self.tiles[:, 2]]))
        self.weights = np.empty(self.ends[-1] if len(self.ends) else 0, np.float32)
        kernel = np.array(convolution.kernel, np.float32, order="C")
        made_of = kernel, rows, wanted % c, above.flat, factors.astype(np.float32)
        shares = [self.tiles[run] for run in self.shares(workers())]
        with ThreadPoolExecutor(workers()) as pool:
            list(pool.map(lambda tiles: fill(layout, tiles, self.products, *made_of, self.weights), shares))

    def shares(self, count: int) -> list[slice]:
        """The tiles in runs of about equal work."""
        work = self.ends + np.arange(1, len(self.ends) + 1)  # a tile without products is work as well
        shares = [work[-1] * i / count for i in range(1, count)] if len(work) else []
        edges = [0, *(int(cut) for cut in np.searchsorted(work, shares)), len(work)]
        return [slice(*pair) for pair in itertools.pairwise(edges) if pair[0] < pair[1]]

    @property
    def bytes(self) -> int:
        """What the weights take."""
        return self.weights.nbytes

    @staticmethod
    def size(convolution: Convolution, above: Entries, wanted: np.ndarray) -> int:
        """About how many weights the step keeps."""
        kh, kw = convolution.kernel.shape[:2]
        h, w, _ = convolution.input_shape
        return int(len(above.flat) * kh * kw * (len(wanted) / (h * w) + loops.ROWS / 2))


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
        factors = np.ones(len(flat)) if factor is None else factor.reshape(-1)[flat]
        self.factors = factors.astype(np.float32)
