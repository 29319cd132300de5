"""The inner loops of the active pass, compiled.

The product of one pixel's small matrix takes a few microseconds, which is as long as it takes to ask for it from
Python, and longer where threads wait for one another to ask. So a thread asks for the products of many pixels at once.

A BLAS copies both factors into the order it likes before it multiplies, which for matrices this small takes about as
long as the product. Here both stand in that order to begin with. Units go in groups of `COLUMNS`, and a signal is (g,
n, COLUMNS): the entries of one pixel are one piece of memory. Weights are written in the order they are read in:
`_TERMS` entries at a time, whose signals stay in the fastest cache, `ROWS` rows to a block; `tile` keeps ROWS ×
COLUMNS sums in the processor's registers.

The guided rule leaves many entries zero for all units of a group, the deeper it goes the more: from deep layers of
ResNet50 a third of them. Each signal comes with a list of the others, and only these are multiplied.

Nothing depends on sizes: all is compiled once on a machine, and kept on disk.
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
# Numbers that a processor reads at once: a line of the cache.
_LINE = 16
# How many terms of a sum are added before the next tile: their signals stay in the fastest cache.
_TERMS = int(__import__('os').environ.get('TT','64'))
FE = bool(__import__('os').environ.get('FE','1')=='1')
_AHEAD = int(__import__('os').environ.get('AH','512'))
_AHEAD2 = int(__import__('os').environ.get('AH2','1'))
# Rows of a tile at most: their sums stay in the second cache.
_HIGHEST = 128


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


def _whole(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


def _pointers(context: Any, builder: Any, signature: Any, values: Any) -> list[Any]:
    """The arguments of an intrinsic, arrays as pointers to their first number."""
    return [
        context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, values, strict=True)
    ]


_VECTOR = ir.VectorType(ir.FloatType(), _LANES)


def _vectors(builder: Any, data: Any, index: Any, rows: int = 1) -> list[Any]:
    """Pointers to the registers of some rows of COLUMNS numbers, from an index on."""
    return [
        builder.bitcast(builder.gep(data, [builder.add(index, _whole(i * _LANES))]), _VECTOR.as_pointer())
        for i in range(rows * _REGISTERS)
    ]


def _spread(builder: Any, number: Any) -> Any:
    """A number in all lanes of a register."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
    return builder.shuffle_vector(builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0)), nothing, everywhere)


def _multiply_add(builder: Any, *factors_and_term: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{_LANES}f32")
    return builder.call(function, factors_and_term)


def _prefetch(builder: Any, data: Any, index: Any) -> None:
    """Has a number brought near, which is going to be read soon."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [builder.bitcast(builder.gep(data, [index]), byte), flag(0), flag(3), flag(1)])


@intrinsic
def tile(context, fresh, weights, start, signal, base, entries, first, last, sums, target, ahead):  # type: ignore[no-untyped-def]
    """ROWS rows of COLUMNS sums: what is there, and a term for each of some entries.

    Args:
        fresh: whether nothing is there yet.
        weights: blocks of ROWS numbers, one for each entry.
        start: where that of entry 0 is, or would be.
        signal: rows of COLUMNS numbers, one for each entry.
        base: where that of entry 0 is.
        entries: from `first` to `last`, those that have a term.
        sums: rows of COLUMNS numbers.
        target: where the first row is.
        ahead: where in the signal to read next, after this.
    """

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        values = _pointers(context, builder, signature, values)
        fresh, weights, start, signal, base, entries, first, last, sums, target, ahead = values
        places = _vectors(builder, sums, target, ROWS)
        slots = [cgutils.alloca_once(builder, _VECTOR) for _ in places]
        with builder.if_else(cgutils.is_not_null(builder, fresh)) as (empty, full):
            with empty:
                for slot in slots:
                    builder.store(ir.Constant(_VECTOR, [0.0] * _LANES), slot)
            with full:
                for slot, there in zip(slots, places, strict=True):
                    builder.store(builder.load(there, align=4), slot)
        with cgutils.for_range_slice(builder, first, last, _whole(1), intp=ir.IntType(64)) as (index, _):
            entry = builder.sext(builder.load(builder.gep(entries, [index])), ir.IntType(64))
            row = builder.add(base, builder.mul(entry, _whole(COLUMNS)))
            terms = [builder.load(there, align=4) for there in _vectors(builder, signal, row)]
            block = builder.add(start, builder.mul(entry, _whole(ROWS)))
            if _AHEAD:
                _prefetch(builder, weights, builder.add(block, _whole(_AHEAD)))
            if _AHEAD2:
                _prefetch(builder, signal, builder.add(ahead, builder.mul(builder.sub(index, first), _whole(_LINE))))
            for r in range(ROWS):
                weight = _spread(builder, builder.load(builder.gep(weights, [builder.add(block, _whole(r))])))
                for v, term in enumerate(terms):
                    slot = slots[r * _REGISTERS + v]
                    builder.store(_multiply_add(builder, weight, term, builder.load(slot)), slot)
        for slot, there in zip(slots, places, strict=True):
            builder.store(builder.load(slot), there, align=4)
        return context.get_dummy_value()

    at = types.int64
    return types.void(types.boolean, weights, at, signal, at, entries, at, at, sums, at, at), codegen


@intrinsic
def add_row(context, source, start, factor, sums, target):  # type: ignore[no-untyped-def]
    """Adds a row of COLUMNS numbers, times a factor, to a row of sums."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        source, start, factor, sums, target = _pointers(context, builder, signature, values)
        factor = _spread(builder, factor)
        for one, other in zip(_vectors(builder, source, start), _vectors(builder, sums, target), strict=True):
            total = _multiply_add(builder, factor, builder.load(one, align=4), builder.load(other, align=4))
            builder.store(total, other, align=4)
        return context.get_dummy_value()

    at = types.int64
    return types.void(source, at, types.float32, sums, at), codegen


@intrinsic
def fetch_row(context, source, start):  # type: ignore[no-untyped-def]
    """Has a row of COLUMNS numbers brought near, which is going to be read soon."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        source, start = _pointers(context, builder, signature, values)
        for i in range(0, COLUMNS, _LINE):
            _prefetch(builder, source, builder.add(start, _whole(i)))
        return context.get_dummy_value()

    return types.void(source, types.int64), codegen


@intrinsic
def finish_writing(context):  # type: ignore[no-untyped-def]
    """Waits for what was written past the caches."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def multiply_row(context, source, start, factors, first, sums, target):  # type: ignore[no-untyped-def]
    """Adds a row of COLUMNS numbers, each times one of a row of factors, to a row of sums."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        source, start, factors, first, sums, target = _pointers(context, builder, signature, values)
        rows = (_vectors(builder, *row) for row in ((source, start), (factors, first), (sums, target)))
        for one, factor, there in zip(*rows, strict=True):
            total = _multiply_add(builder, *(builder.load(place, align=4) for place in (one, factor, there)))
            builder.store(total, there, align=4)
        return context.get_dummy_value()

    at = types.int64
    return types.void(source, at, factors, at, sums, at), codegen


@intrinsic
def settle_row(context, sums, start, clipped, result, target, past):  # type: ignore[no-untyped-def]
    """Writes a row of COLUMNS sums, negative ones as zero if they are clipped; says whether any is not zero.

    Args:
        sums: rows of COLUMNS numbers.
        start: where the row is.
        clipped: whether negative sums become zero.
        result: rows of COLUMNS numbers; those to be written past the caches start with a line of them.
        target: where the row goes.
        past: whether it is written past the caches, into which it would be read first.
    """

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        sums, start, clipped, result, target, past = _pointers(context, builder, signature, values)
        zero, bits = ir.Constant(_VECTOR, [0.0] * _LANES), ir.VectorType(ir.IntType(32), _LANES)
        kept, any_bit = builder.not_(builder.trunc(clipped, ir.IntType(1))), ir.Constant(bits, [0] * _LANES)
        for one, other in zip(_vectors(builder, sums, start), _vectors(builder, result, target), strict=True):
            value = builder.load(one, align=4)
            # A NaN is not negative: it stays, to be seen.
            clip = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)
            value = builder.select(kept, value, clip)
            with builder.if_else(cgutils.is_not_null(builder, past)) as (beside, through):
                with beside:
                    stored = builder.store(value, other, align=_LANES * 4)
                    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
                with through:
                    builder.store(value, other, align=4)
            any_bit = builder.or_(any_bit, builder.bitcast(value, bits))
        kind = ir.FunctionType(ir.IntType(32), [bits])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.or.v{_LANES}i32")
        found = builder.icmp_unsigned("!=", builder.call(function, [any_bit]), ir.IntType(32)(0))
        return builder.zext(found, context.get_value_type(types.boolean))

    at = types.int64
    return types.boolean(sums, at, types.boolean, result, at, types.boolean), codegen


@_compiled
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
            count += -(-(rows[y * w + right] - rows[y * w + left]) // _HIGHEST)
    tiles, products = np.empty((count, 6), np.int64), np.empty((count * kh, 4), np.int64)
    tile = product = size = 0
    for y in range(h):
        for left in range(0, w, layout.pixels):
            right = min(left + layout.pixels, w)
            low = max(0, -(-(left + layout.padding[1] - reach) // layout.strides[1]))
            high = min(width - 1, (right - 1 + layout.padding[1]) // layout.strides[1])
            for first in range(rows[y * w + left], rows[y * w + right], _HIGHEST):
                last, before = min(first + _HIGHEST, rows[y * w + right]), product
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
    return tiles, products[:product]


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
        weights: where to. A product's matrix stands there in strips of _TERMS entries, these in blocks of ROWS rows,
            these entry by entry; the rows that fill up the last block are zero.
    """
    (_, w, c), (_, width, u) = layout.input, layout.output
    numbers = kernel.reshape(-1)
    for first, last, before, after, y, left in tiles:
        height = -(-(last - first) // ROWS) * ROWS
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
                for strip in range(0, count, _TERMS):
                    stop = min(strip + _TERMS, count)
                    place = start + strip * height + below // ROWS * ROWS * (stop - strip) + below % ROWS
                    if row >= last:
                        for j in range(stop - strip):
                            weights[place + j * ROWS] = 0
                        continue
                    shift = channels[row] * u
                    for j in range(strip, stop):
                        number = numbers[sources[j] + shift] * factors[near + j] if reached[j] else np.float32(0)
                        weights[place + (j - strip) * ROWS] = number


@_compiled
def send(
    tiles: np.ndarray,
    products: np.ndarray,
    weights: np.ndarray,
    signal: np.ndarray,
    entries: np.ndarray,
    starts: np.ndarray,
    known: np.ndarray,
    above: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
    factors: np.ndarray,
    clipped: bool,
    places: np.ndarray,
    past: bool,
    result: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Rows of some tiles from start to end, tile by tile while they are in the cache.

    Args:
        tiles, products, weights: see `plan` and `fill`.
        signal: (g, n, COLUMNS) the entries.
        entries, starts: which of them count, see `listed`.
        known: (g, m, COLUMNS) what to add to, maybe the result itself; (g, 0, COLUMNS) for nothing.
        above, sources, targets, factors: rows added as they are, see `add`; targets ascend.
        clipped: whether negative sums become zero.
        places: where in the result each row goes; none at all for where it is.
        past: whether the result is written past the caches: it is larger than these, and starts with a line of them.
        result: (g, m', COLUMNS).
        seen: (g, m') whether anything in a row of the result is not zero.
    """
    (groups, n), m = signal.shape[:2], result.shape[1]
    height = -(-(tiles[:, 1] - tiles[:, 0]).max() // ROWS) * ROWS
    sums, near, listed = np.empty(groups * height * COLUMNS, np.float32), signal.reshape(-1), entries.reshape(-1)
    more, beside, settled = known.reshape(-1), above.reshape(-1), result.reshape(-1)
    begin = np.searchsorted(targets, tiles[0, 0])
    for first, last, before, after, _, _ in tiles:
        padded = -(-(last - first) // ROWS) * ROWS
        for product in range(before, after):
            _, start_of, count, start = products[product]
            following = products[min(product + 1, len(products) - 1), 1]
            for strip in range(start_of, start_of + count, _TERMS):
                stop = min(strip + _TERMS, start_of + count)
                upcoming = stop if stop < start_of + count else following
                block, fresh = start + (strip - start_of) * padded - strip * ROWS, product == before and strip == start_of
                for group in range(groups):
                    low, high = starts[group, strip] + group * n, starts[group, stop] + group * n
                    base, target = group * n * COLUMNS, group * height * COLUMNS
                    ahead = base + upcoming * COLUMNS
                    for row in range(0, padded, ROWS):
                        if fresh and FE:
                            for i in range(row, min(row + ROWS, last - first)):
                                if len(more):
                                    fetch_row(more, (group * known.shape[1] + first + i) * COLUMNS)  # type: ignore[call-arg]
                                if begin + i < len(sources):
                                    source = group * above.shape[1] + sources[begin + i]
                                    fetch_row(beside, source * COLUMNS)  # type: ignore[call-arg]
                        where = block + row * (stop - strip)
                        tile(fresh, weights, where, near, base, listed, low, high, sums, target + row * COLUMNS, ahead)  # type: ignore[call-arg]
                        ahead += (high - low) * _LINE
        if before == after:
            sums[:] = 0
        end = begin
        while end < len(targets) and targets[end] < last:
            end += 1
        for group in range(groups):
            for i in range(begin, end):
                source, row = group * above.shape[1] + sources[i], group * height + targets[i] - first
                add_row(beside, source * COLUMNS, factors[i], sums, row * COLUMNS)  # type: ignore[call-arg]
            for i in range(last - first):
                row, place = group * height + i, places[first + i] if len(places) else first + i
                if len(more):
                    where = group * known.shape[1] + first + i
                    add_row(more, where * COLUMNS, np.float32(1), sums, row * COLUMNS)  # type: ignore[call-arg]
                where = (group * m + place) * COLUMNS
                seen[group, place] = settle_row(sums, row * COLUMNS, clipped, settled, where, past)  # type: ignore[call-arg]
        begin = end
    finish_writing()  # type: ignore[call-arg]


@_compiled
def listed(seen: np.ndarray, entries: np.ndarray, starts: np.ndarray) -> None:
    """Lists the entries of a group that count.

    Args:
        seen: (n,) which.
        entries: (n,) where to, ascending.
        starts: (n + 1,) for each entry, how many before it count.
    """
    count = 0
    for i in range(len(seen)):
        starts[i] = count
        entries[count] = i
        count += seen[i]
    starts[len(seen)] = count


@_compiled
def seed(
    layout: Layout,
    slopes: np.ndarray,
    kernel: np.ndarray,
    wanted: np.ndarray,
    first: int,
    last: int,
    clipped: bool,
    result: np.ndarray,
    seen: np.ndarray,
) -> None:
    """What units of a layer send back to some entries of its input: the first step, one slice of the kernel each.

    Args:
        layout: the convolution's.
        slopes: (g, h'·w', COLUMNS) the cotangents of the convolution's output, each unit's own channel.
        kernel: (g, kh·kw·c, COLUMNS) each unit's slice.
        wanted: flat index in the input (h, w, c) of each entry, ascending.
        first, last: which entries.
        clipped: whether what is negative becomes zero.
        result: (g, n, COLUMNS).
        seen: (g, n) whether anything in a row of the result is not zero.
    """
    (_, w, c), (height, width, _), (kh, kw) = layout.input, layout.output, layout.kernel
    row, settled, near, weights = np.empty(COLUMNS, np.float32), result.reshape(-1), slopes.reshape(-1), kernel.reshape(-1)
    places, slices = np.empty(kh * kw, np.int64), np.empty(kh * kw, np.int64)
    pixel, count = -1, 0
    for i in range(first, last):
        if wanted[i] // c != pixel:
            pixel, count = wanted[i] // c, 0
            for ky in range(kh):
                y = pixel // w + layout.padding[0] - ky * layout.dilation[0]
                for kx in range(kw):
                    x = pixel % w + layout.padding[1] - kx * layout.dilation[1]
                    above, beside = y // layout.strides[0], x // layout.strides[1]
                    inside = above >= 0 and above < height and beside >= 0 and beside < width
                    if inside and y % layout.strides[0] == 0 and x % layout.strides[1] == 0:
                        places[count], slices[count] = above * width + beside, (ky * kw + kx) * c
                        count += 1
        for group in range(len(slopes)):
            row[:] = 0
            for j in range(count):
                source, factor = group * height * width + places[j], group * kernel.shape[1] + slices[j] + wanted[i] % c
                multiply_row(near, source * COLUMNS, weights, factor * COLUMNS, row, 0)  # type: ignore[call-arg]
            where = (group * result.shape[1] + i) * COLUMNS
            seen[group, i] = settle_row(row, 0, clipped, settled, where, False)  # type: ignore[call-arg]


@_compiled
def settle(
    values: np.ndarray,
    sources: np.ndarray,
    starts: np.ndarray,
    first: int,
    last: int,
    clipped: bool,
    result: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Brings the cotangents of a value to the entries of what was rectified, which are sums of some of them.

    Args:
        values: (g, m, COLUMNS).
        sources: of all entries, one after another.
        starts: for each entry, where its sources start; one more at the end.
        first, last: which entries.
        clipped: whether negative sums become zero.
        result: (g, n, COLUMNS).
        seen: (g, n) whether anything in a row of the result is not zero.
    """
    row, near, settled = np.empty(COLUMNS, np.float32), values.reshape(-1), result.reshape(-1)
    for group in range(len(values)):
        for i in range(first, last):
            row[:] = 0
            for j in range(starts[i], starts[i + 1]):
                source = group * values.shape[1] + sources[j]
                add_row(near, source * COLUMNS, np.float32(1), row, 0)  # type: ignore[call-arg]
            where = (group * result.shape[1] + i) * COLUMNS
            seen[group, i] = settle_row(row, 0, clipped, settled, where, False)  # type: ignore[call-arg]


@_compiled
def add(above: np.ndarray, sources: np.ndarray, targets: np.ndarray, factors: np.ndarray, sums: np.ndarray) -> None:
    """Adds rows of a group's signal (n, COLUMNS), times factors, to rows of sums (m, COLUMNS)."""
    source, target = above.reshape(-1), sums.reshape(-1)
    for i in range(len(sources)):
        add_row(source, sources[i] * COLUMNS, factors[i], target, targets[i] * COLUMNS)  # type: ignore[call-arg]


@_compiled
def turn(signal: np.ndarray, unit: int, first: int, last: int, turned: np.ndarray) -> None:
    """Entries from `first` to `last` of a signal (g, n, COLUMNS), from one unit on, as rows (b, n)."""
    for start in range(first, last, 64):
        stop = min(start + 64, last)
        for b in range(len(turned)):
            group, column = divmod(unit + b, COLUMNS)
            for i in range(start, stop):
                turned[b, i] = signal[group, i, column]
