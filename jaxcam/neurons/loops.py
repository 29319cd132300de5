"""The inner loops of the active pass, compiled.

The product of one pixel's small matrix takes a few microseconds, which is as long as it takes to ask for it from
Python, and longer where threads wait for one another to ask. So a thread asks for the products of many pixels at once.

A BLAS copies both factors into the order it likes before it multiplies, which for matrices this small takes about as
long as the product. Here the weights are written in that order to begin with, `ROWS` rows to a block, and the units
stand in the order it likes already: `tile` keeps ROWS × COLUMNS sums in the processor's registers. Nothing depends on
sizes: it is compiled once on a machine, and kept on disk.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

# Sums kept in registers at once: rows, and registers a row. AVX-512 has 32 registers of 16 numbers, others have 16 of 8
# or 32 of 4.
ROWS, _REGISTERS, _LANES = (4, 4, 16) if binding.get_host_cpu_features().get("avx512f") else (4, 2, 8)
COLUMNS = _REGISTERS * _LANES
# How many terms of a sum are added before the next tile: their signals stay in the fastest cache.
_TERMS = 64


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
    function = inspect.unwrap(function)  # as it is written, where a checker of types has wrapped it
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")
    except RuntimeError:  # nowhere to keep it: neither beside this file nor in the user's cache
        return numba.njit(function, nogil=True, error_model="numpy")


@intrinsic
def tile(context, weights, start, signal, row, column, sums, target, count):  # type: ignore[no-untyped-def]
    """ROWS rows of sums, COLUMNS of their columns: what is there, and so many terms more.

    Args:
        weights: blocks of ROWS numbers, one for each term.
        start: where the first is.
        signal: (n, b), from `row` and `column` on.
        sums: (m, b), from row `target` and `column` on.
        count: of terms.
    """

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(ir.FloatType(), _LANES)
        number = functools.partial(ir.Constant, ir.IntType(64))
        arrays = [context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 2, 5)]
        numbers, near, far = (array.data for array in arrays)
        near_row, far_row = (builder.extract_value(array.shape, 1) for array in arrays[1:])
        start, row, column, target, count = (values[i] for i in (1, 3, 4, 6, 7))

        def place(base, index):  # type: ignore[no-untyped-def]
            return builder.bitcast(builder.gep(base, [index]), vector.as_pointer())

        def corner(index, length):  # type: ignore[no-untyped-def]
            return builder.add(builder.mul(index, length), column)

        slots = {}
        for r, v in np.ndindex(ROWS, _REGISTERS):
            index = builder.add(corner(builder.add(target, number(r)), far_row), number(v * _LANES))
            slots[r, v] = cgutils.alloca_once(builder, vector), place(far, index)
            builder.store(builder.load(slots[r, v][1], align=4), slots[r, v][0])
        kind = ir.FunctionType(vector, [vector] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{_LANES}f32")
        nothing = ir.Constant(vector, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
        with cgutils.for_range(builder, count, intp=ir.IntType(64)) as loop:
            index = corner(builder.add(row, loop.index), near_row)
            terms = [
                builder.load(place(near, builder.add(index, number(v * _LANES))), align=4) for v in range(_REGISTERS)
            ]
            first = builder.add(start, builder.mul(loop.index, number(ROWS)))
            for r in range(ROWS):
                weight = builder.load(builder.gep(numbers, [builder.add(first, number(r))]))
                one = builder.insert_element(nothing, weight, ir.Constant(ir.IntType(32), 0))
                weight = builder.shuffle_vector(one, nothing, everywhere)
                for v in range(_REGISTERS):
                    slot = slots[r, v][0]
                    builder.store(builder.call(multiply_add, [weight, terms[v], builder.load(slot)]), slot)
        for slot, target_place in slots.values():
            builder.store(builder.load(slot), target_place, align=4)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(weights, whole, signal, whole, whole, sums, whole, whole), codegen


@_compiled
def _product(
    weights: np.ndarray, start: int, signal: np.ndarray, near: int, count: int, sums: np.ndarray, part: np.ndarray
) -> None:
    """Adds a matrix (m, count), in blocks of rows, times `count` rows of a signal (n, b) to sums (m, b)."""
    whole = len(sums) // ROWS * ROWS
    for done in range(0, count, _TERMS):
        terms, begin = min(_TERMS, count - done), start + done * ROWS
        for column in range(0, signal.shape[1], COLUMNS):
            for row in range(0, whole, ROWS):
                tile(weights, begin + row * count, signal, near + done, column, sums, row, terms)  # type: ignore[call-arg]
    if whole < len(sums):
        part[:] = 0
        for done in range(0, count, _TERMS):
            terms, begin = min(_TERMS, count - done), start + done * ROWS + whole * count
            for column in range(0, signal.shape[1], COLUMNS):
                tile(weights, begin, signal, near + done, column, part, 0, terms)  # type: ignore[call-arg]
        for row in range(whole, len(sums)):
            for b in range(signal.shape[1]):
                sums[row, b] += part[row - whole, b]


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
                    product, size = product + 1, size + -(-(last - first) // ROWS) * ROWS * count
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
        weights: where to; zeros. A product's matrix stands there in blocks of ROWS rows, column by column.
    """
    (_, w, c), (_, width, u) = layout.input, layout.output
    numbers = kernel.reshape(-1)
    for first, _, before, after, y, left in tiles:
        for ky, near, count, start in products[before:after]:
            sources = np.empty(count, np.int64)
            for x in range(left, min(left + layout.pixels, w)):
                for j in range(count):
                    entry = entries[near + j]
                    offset = x + layout.padding[1] - (entry // u) % width * layout.strides[1]
                    kx = offset // layout.dilation[1]
                    reached = offset % layout.dilation[1] == 0 and kx >= 0 and kx < layout.kernel[1]
                    sources[j] = (ky * layout.kernel[1] + kx) * c * u + entry % u if reached else -1
                for row in range(rows[y * w + x], rows[y * w + x + 1]):
                    shift, below = channels[row] * u, row - first
                    place = start + below // ROWS * ROWS * count + below % ROWS
                    for j in range(count):
                        if sources[j] >= 0:
                            weights[place + j * ROWS] = numbers[sources[j] + shift] * factors[near + j]


@_compiled
def send(
    tiles: np.ndarray,
    products: np.ndarray,
    weights: np.ndarray,
    signal: np.ndarray,
    known: np.ndarray,
    above: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
    factors: np.ndarray,
    clipped: bool,
    places: np.ndarray,
    result: np.ndarray,
) -> None:
    """Rows of some tiles from start to end, tile by tile while they are in the cache.

    Args:
        tiles, products, weights: see `plan` and `fill`.
        signal: (n, b) the entries; b is a multiple of COLUMNS.
        known: (m, b) what to add to, maybe the result itself; (0, b) for nothing.
        above, sources, targets, factors: rows added as they are, see `add`; targets ascend.
        clipped: whether negative sums become zero.
        places: where in the result each row goes; none at all for where it is.
        result: (m', b).
    """
    b, cursor, heights = signal.shape[1], np.searchsorted(targets, tiles[0, 0]), tiles[:, 1] - tiles[:, 0]
    part, moved = np.empty((ROWS, b), np.float32), np.empty((heights.max() if len(places) else 0, b), np.float32)
    for first, last, before, after, _, _ in tiles:
        sums = moved[: last - first] if len(places) else result[first:last]
        if len(known) == 0:
            sums[:] = 0
        elif len(places):
            sums[:] = known[first:last]
        for _, near, count, start in products[before:after]:
            _product(weights, start, signal, near, count, sums, part)
        while cursor < len(targets) and targets[cursor] < last:
            source, target, factor = above[sources[cursor]], sums[targets[cursor] - first], factors[cursor]
            for i in range(b):
                target[i] += source[i] * factor
            cursor += 1
        if clipped:
            for row in range(last - first):
                for i in range(b):
                    sums[row, i] = 0 if sums[row, i] < 0 else sums[row, i]
        if len(places):
            for row in range(last - first):
                result[places[first + row]] = sums[row]


@_compiled
def add(above: np.ndarray, sources: np.ndarray, targets: np.ndarray, factors: np.ndarray, sums: np.ndarray) -> None:
    """Adds rows of a signal (n, b), times factors, to rows of sums (m, b)."""
    for i in range(len(sources)):
        source, target, factor = above[sources[i]], sums[targets[i]], factors[i]
        for b in range(above.shape[1]):
            target[b] += source[b] * factor


@_compiled
def turn(values: np.ndarray, first: int, turned: np.ndarray) -> None:
    """Some columns of values (n, b'), from one on, as rows (b, n)."""
    for start in range(0, len(values), 64):
        stop = min(start + 64, len(values))
        for b in range(len(turned)):
            for i in range(start, stop):
                turned[b, i] = values[i, first + b]
