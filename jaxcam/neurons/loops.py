"""The inner loops of the active pass, compiled.

The product of one pixel's small matrix takes a few microseconds, which is as long as it takes to ask for it from
Python, and longer where threads wait for one another to ask. So a thread asks for the products of many pixels at once;
these are done, one after another, by the BLAS that scipy brings. Nothing here depends on sizes: it is compiled once on
a machine, and kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np


class Layout(NamedTuple):
    """How a convolution is laid over its image, and how many neighboring pixels of that share a product."""

    input: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    pixels: int


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")
    except RuntimeError:  # nowhere to keep it: neither beside this file nor in the user's cache
        return numba.njit(function, nogil=True, error_model="numpy")


@_compiled
def plan(layout: Layout, rows: np.ndarray, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which products give which rows.

    Args:
        layout: the convolution's.
        rows: for each pixel of its input, where its rows start; one more at the end.
        entries: for each pixel of its output, where its entries start; one more at the end.

    Returns:
        Tiles (t, 6), each some neighboring pixels: first row and last + 1, first product and last + 1, y, x; and
        products (n, 4): place in the kernel's rows, first entry, how many, where in the weights the matrix starts.
    """
    (h, w, _), (height, width, _) = layout.input, layout.output
    kh, reach = layout.kernel[0], (layout.kernel[1] - 1) * layout.dilation[1]
    tiles = np.empty((h * (-(-w // layout.pixels)), 6), np.int64)
    products = np.empty((len(tiles) * kh, 4), np.int64)
    tile = product = size = 0
    for y in range(h):
        for left in range(0, w, layout.pixels):
            right = min(left + layout.pixels, w)
            first, last = rows[y * w + left], rows[y * w + right]
            if first == last:
                continue
            before = product
            low = max(0, -(-(left + layout.padding[1] - reach) // layout.strides[1]))
            high = min(width - 1, (right - 1 + layout.padding[1]) // layout.strides[1])
            for ky in range(kh):
                place = y + layout.padding[0] - ky * layout.dilation[0]
                row = place // layout.strides[0]
                if place % layout.strides[0] != 0 or row < 0 or row >= height or low > high:
                    continue
                near = entries[row * width + low]
                count = entries[row * width + high + 1] - near
                if count > 0:
                    products[product] = np.array((ky, near, count, size))
                    product, size = product + 1, size + (last - first) * count
            tiles[tile] = np.array((first, last, before, product, y, left))
            tile += 1
    return tiles[:tile], products[:product]


@_compiled
def fill(
    layout: Layout,
    tiles: np.ndarray,
    products: np.ndarray,
    kernel: np.ndarray,
    rows: np.ndarray,
    channels: np.ndarray,
    entries: np.ndarray,
    factors: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Writes the matrices of some tiles: for a row and an entry, the kernel's number between them times a factor.

    Args:
        layout, tiles, products: see `plan`.
        kernel: (kh, kw, c, u).
        rows: see `plan`.
        channels: of each row.
        entries: flat index of each entry in the output (h', w', u).
        factors: of each entry.
        weights: where to.
    """
    (_, w, c), (_, width, u) = layout.input, layout.output
    numbers = kernel.reshape(-1)
    for first, last, before, after, y, left in tiles:
        for ky, near, count, start in products[before:after]:
            matrix = weights[start : start + (last - first) * count].reshape(last - first, count)
            sources = np.empty(count, np.int64)
            for x in range(left, min(left + layout.pixels, w)):
                for j in range(count):
                    entry = entries[near + j]
                    offset = x + layout.padding[1] - (entry // u) % width * layout.strides[1]
                    kx = offset // layout.dilation[1]
                    reached = offset % layout.dilation[1] == 0 and kx >= 0 and kx < layout.kernel[1]
                    sources[j] = (ky * layout.kernel[1] + kx) * c * u + entry % u if reached else -1
                for row in range(rows[y * w + x], rows[y * w + x + 1]):
                    shift = channels[row] * u
                    for j in range(count):
                        reached = sources[j] >= 0
                        number = numbers[sources[j] + shift] if reached else np.float32(0)
                        matrix[row - first, j] = number * factors[near + j]


@_compiled
def multiply(
    tiles: np.ndarray,
    products: np.ndarray,
    weights: np.ndarray,
    signal: np.ndarray,
    part: np.ndarray,
    added: bool,
    sums: np.ndarray,
) -> None:
    """The rows of some tiles.

    Args:
        tiles, products, weights: see `plan` and `fill`.
        signal: (n, b) the entries.
        part: (m, b) memory for the rows of one tile.
        added: whether to add to what is there.
        sums: (m', b) the tiles' rows.
    """
    base = tiles[0, 0]
    for first, last, before, after, _, _ in tiles:
        here, empty = sums[first - base : last - base], not added
        for _, near, count, start in products[before:after]:
            matrix = weights[start : start + (last - first) * count].reshape(last - first, count)
            if empty:
                np.dot(matrix, signal[near : near + count], here)
                empty = False
                continue
            product = part[: last - first]
            np.dot(matrix, signal[near : near + count], product)
            for row in range(last - first):
                for b in range(signal.shape[1]):
                    here[row, b] += product[row, b]
        if empty:
            here[:] = 0


@_compiled
def add(
    signal: np.ndarray, sources: np.ndarray, targets: np.ndarray, factors: np.ndarray, base: int, sums: np.ndarray
) -> None:
    """Adds rows of a signal (n, b), times factors, to rows of sums (m, b), of which the first is row `base`."""
    for i in range(len(sources)):
        source, target, factor = signal[sources[i]], sums[targets[i] - base], factors[i]
        for b in range(signal.shape[1]):
            target[b] += source[b] * factor


@_compiled
def turn(values: np.ndarray, first: int, turned: np.ndarray) -> None:
    """Some columns of values (n, b'), from one on, as rows (b, n)."""
    for start in range(0, len(values), 64):
        stop = min(start + 64, len(values))
        for b in range(len(turned)):
            for i in range(start, stop):
                turned[b, i] = values[i, first + b]
