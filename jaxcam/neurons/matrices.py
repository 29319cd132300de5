"""The matrices of the active pass: which entries meet in one, and what stands in it.

Some neighboring pixels of a convolution's input have their rows in one tile, and for each row of the kernel one
product: a matrix times the active entries within reach. The weights are written in the order they are read in, as
`loops.py` says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function compiled once on a machine, and kept on disk; other threads go on while it runs."""
    function = inspect.unwrap(function)  # as it is written, where a checker of types has wrapped it
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")
    except RuntimeError:  # nowhere to keep it: neither beside this file nor in the user's cache
        return numba.njit(function, nogil=True, error_model="numpy")


class Layout(NamedTuple):
    """How a convolution is laid over its image, and its weights in memory.

    Attributes:
        input: (h, w, c).
        output: (h', w', u).
        kernel: rows and columns.
        strides, padding, dilation: of rows and columns; padding before the first.
        pixels: how many neighbors share a tile.
        rows: of a block.
        terms: entries of a strip.
        highest: rows of a tile at most.
    """

    input: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    pixels: int
    rows: int
    terms: int
    highest: int


@compiled
def plan(layout: Layout, rows: np.ndarray, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which products give which rows.

    Args:
        layout: the convolution's.
        rows: for each pixel of its input, where its rows start; one more at the end.
        entries: for each pixel of its output, where its entries start; one more at the end.

    Returns:
        Tiles (t, 6), each rows of some neighboring pixels: first row and last + 1, first product and last + 1, y, x;
        and products (n, 4): place in the kernel's rows, first entry, how many, where in the weights the matrix starts.
    """
    (h, w, _), (height, width, _) = layout.input, layout.output
    kh, reach = layout.kernel[0], (layout.kernel[1] - 1) * layout.dilation[1]
    count = 0
    for y in range(h):
        for left in range(0, w, layout.pixels):
            right = min(left + layout.pixels, w)
            count += -(-(rows[y * w + right] - rows[y * w + left]) // layout.highest)
    tiles, products = np.empty((count, 6), np.int64), np.empty((count * kh, 4), np.int64)
    tile = product = size = 0
    for y in range(h):
        for left in range(0, w, layout.pixels):
            right = min(left + layout.pixels, w)
            low = max(0, -(-(left + layout.padding[1] - reach) // layout.strides[1]))
            high = min(width - 1, (right - 1 + layout.padding[1]) // layout.strides[1])
            for first in range(rows[y * w + left], rows[y * w + right], layout.highest):
                last, before = min(first + layout.highest, rows[y * w + right]), product
                for ky in range(kh):
                    place = y + layout.padding[0] - ky * layout.dilation[0]
                    row = place // layout.strides[0]
                    if place % layout.strides[0] != 0 or row < 0 or row >= height or low > high:
                        continue
                    near = entries[row * width + low]
                    count = entries[row * width + high + 1] - near
                    if count > 0:
                        products[product] = np.array((ky, near, count, size))
                        product, size = product + 1, size + -(-(last - first) // layout.rows) * layout.rows * count
                tiles[tile] = np.array((first, last, before, product, y, left))
                tile += 1
    return tiles, products[:product]


@compiled
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
        weights: where to. A product's matrix stands there in strips of `terms` entries, these in blocks of `rows` rows,
            these entry by entry; the rows that fill up the last block are zero.
    """
    (_, w, c), (_, width, u) = layout.input, layout.output
    numbers, block = kernel.reshape(-1), layout.rows
    for first, last, before, after, y, left in tiles:
        height = -(-(last - first) // block) * block
        for ky, near, count, start in products[before:after]:
            sources, reached, x = np.empty(count, np.int64), np.empty(count, np.bool_), -1
            for row in range(first, first + height):
                while row < last and (x < 0 or row >= rows[y * w + x + 1]):
                    x = max(x + 1, left)
                    if row < rows[y * w + x + 1]:
                        for j in range(count):
                            entry = entries[near + j]
                            offset = x + layout.padding[1] - (entry // u) % width * layout.strides[1]
                            kx = offset // layout.dilation[1]
                            reached[j] = offset % layout.dilation[1] == 0 and kx >= 0 and kx < layout.kernel[1]
                            sources[j] = (ky * layout.kernel[1] + kx) * c * u + entry % u
                below = row - first
                for strip in range(0, count, layout.terms):
                    stop = min(strip + layout.terms, count)
                    place = start + strip * height + below // block * block * (stop - strip) + below % block
                    if row >= last:
                        for j in range(stop - strip):
                            weights[place + j * block] = 0
                        continue
                    shift = channels[row] * u
                    for j in range(strip, stop):
                        number = numbers[sources[j] + shift] * factors[near + j] if reached[j] else np.float32(0)
                        weights[place + (j - strip) * block] = number
