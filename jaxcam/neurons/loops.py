"""The inner loops of the active pass, compiled.

The product of one pixel's small matrix takes a few microseconds, which is as long as it takes to ask for it from
Python, and longer where threads wait for one another to ask. So a thread asks for the products of many pixels at once.

A BLAS copies both factors into the order it likes before it multiplies, which for matrices this small takes about as
long as the product. Here both stand in that order to begin with. Units go in groups of COLUMNS, and a signal is (g, n,
COLUMNS): the entries of a pixel are one piece of memory. Weights (`matrices.py`) stand in strips of TERMS entries,
whose signals stay in the fastest cache, and these in blocks of ROWS rows: `tile` keeps ROWS × COLUMNS sums in the
processor's registers. What comes next is fetched meanwhile.

The guided rule leaves many entries zero for all units of a group, the further down the more: a third of them below the
last stage of ResNet50. A signal comes with a list of the others (`listed`), and only these are multiplied.

Nothing depends on sizes: all is compiled once on a machine, and kept on disk, as of the date of this file. That is why
the instructions (`tile` and the functions of one row) and the loops around them are one file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from jaxcam.neurons.matrices import Layout, compiled

# Sums kept in registers at once: rows, and registers a row. AVX-512 has 32 registers of 16 numbers, others have 16 of 8
# or 32 of 4.
ROWS, _REGISTERS, _LANES = (4, 4, 16) if binding.get_host_cpu_features().get("avx512f") else (4, 2, 8)
COLUMNS = _REGISTERS * _LANES
# How many terms of a sum are added before the next tile: their signals stay in the fastest cache.
TERMS = 64
# Rows of a tile at most: their sums stay in the second cache.
HIGHEST = 128
# Numbers that a processor reads at once, a line of the cache; and how far ahead weights are fetched.
_LINE, _AHEAD = 16, 512

_INTEGER = ir.IntType(64)
_VECTOR = ir.VectorType(ir.FloatType(), _LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * _LANES)


def _instruction(*kinds: Any, returns: Any = types.void) -> Callable[[Callable[..., Any]], Any]:
    """A few of the processor's instructions as a function for compiled loops; arrays come as pointers to their data.

    Args:
        kinds: the types of the arguments; None for an array of any type, contiguous.
        returns: the type of the result.
    """

    def decorate(write: Callable[..., Any]) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointers = [
                context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            return write(builder, *pointers) or context.get_dummy_value()

        def typed(context: Any, *given: Any) -> Any:
            return returns(*(kind or found for kind, found in zip(kinds, given, strict=True))), codegen

        typed.__name__ = write.__name__
        typed.__signature__ = inspect.signature(write)  # type: ignore[attr-defined]
        return intrinsic(typed)

    return decorate


def _row(builder: Any, data: Any, start: Any, rows: int = 1) -> list[Any]:
    """Pointers to the registers of rows of COLUMNS numbers."""
    places = (builder.gep(data, [builder.add(start, _INTEGER(i * _LANES))]) for i in range(rows * _REGISTERS))
    return [builder.bitcast(place, _VECTOR.as_pointer()) for place in places]


def _load(builder: Any, place: Any) -> Any:
    return builder.load(place, align=4)


def _spread(builder: Any, number: Any) -> Any:
    """A number in all lanes of a register."""
    nothing, first = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)(0)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
    return builder.shuffle_vector(builder.insert_element(nothing, number, first), nothing, everywhere)


def _multiply_add(builder: Any, *factors_and_term: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{_LANES}f32"), factors_and_term
    )


def _fetch(builder: Any, data: Any, index: Any) -> None:
    """Has a number brought into the fastest cache, which is going to be read soon."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [builder.bitcast(builder.gep(data, [index]), byte), flag(0), flag(3), flag(1)])


_AT = types.int64


@_instruction(types.boolean, None, _AT, None, _AT, None, _AT, _AT, None, _AT, _AT)
def tile(
    builder: Any,
    fresh: Any,
    weights: Any,
    block: Any,
    signal: Any,
    base: Any,
    entries: Any,
    first: Any,
    last: Any,
    sums: Any,
    target: Any,
    ahead: Any,
) -> None:
    """ROWS rows of COLUMNS sums: what is there, and a term for each of some entries.

    Args:
        fresh: whether nothing is there yet.
        weights: ROWS numbers for each entry.
        block: where those of entry 0 are, or would be.
        signal: a row of COLUMNS numbers for each entry.
        base: where that of entry 0 is.
        entries: from `first` to `last`, those that have a term.
        sums: rows of COLUMNS numbers.
        target: where the first row is.
        ahead: where in the signal it goes on, after this.
    """
    places = _row(builder, sums, target, ROWS)
    slots = [cgutils.alloca_once(builder, _VECTOR) for _ in places]
    with builder.if_else(cgutils.is_not_null(builder, fresh)) as (empty, full):
        with empty:
            for slot in slots:
                builder.store(_ZERO, slot)
        with full:
            for slot, there in zip(slots, places, strict=True):
                builder.store(_load(builder, there), slot)
    with cgutils.for_range_slice(builder, first, last, _INTEGER(1), intp=_INTEGER) as (index, _):
        entry = builder.sext(builder.load(builder.gep(entries, [index])), _INTEGER)
        start = builder.add(base, builder.mul(entry, _INTEGER(COLUMNS)))
        terms = [_load(builder, there) for there in _row(builder, signal, start)]
        own = builder.add(block, builder.mul(entry, _INTEGER(ROWS)))
        _fetch(builder, weights, builder.add(own, _INTEGER(_AHEAD)))
        _fetch(builder, signal, builder.add(ahead, builder.mul(builder.sub(index, first), _INTEGER(_LINE))))
        for r in range(ROWS):
            weight = _spread(builder, builder.load(builder.gep(weights, [builder.add(own, _INTEGER(r))])))
            for slot, term in zip(slots[r * _REGISTERS :], terms, strict=False):
                builder.store(_multiply_add(builder, weight, term, builder.load(slot)), slot)
    for slot, there in zip(slots, places, strict=True):
        builder.store(builder.load(slot), there, align=4)


@_instruction(None, _AT, types.float32, None, _AT)
def add_row(builder: Any, source: Any, start: Any, factor: Any, sums: Any, target: Any) -> None:
    """Adds a row of COLUMNS numbers, times a factor, to a row of sums."""
    factor = _spread(builder, factor)
    for one, there in zip(_row(builder, source, start), _row(builder, sums, target), strict=True):
        total = _multiply_add(builder, factor, _load(builder, one), _load(builder, there))
        builder.store(total, there, align=4)


@_instruction(None, _AT, None, _AT, None, _AT)
def multiply_row(builder: Any, source: Any, start: Any, factors: Any, first: Any, sums: Any, target: Any) -> None:
    """Adds a row of COLUMNS numbers, each times one of a row of factors, to a row of sums."""
    for places in zip(
        *(_row(builder, *row) for row in ((source, start), (factors, first), (sums, target))), strict=True
    ):
        total = _multiply_add(builder, *(_load(builder, place) for place in places))
        builder.store(total, places[-1], align=4)


@_instruction(None, _AT)
def fetch_row(builder: Any, source: Any, start: Any) -> None:
    """Has a row of COLUMNS numbers brought into the fastest cache, which is going to be read soon."""
    for i in range(0, COLUMNS, _LINE):
        _fetch(builder, source, builder.add(start, _INTEGER(i)))


@_instruction(None, _AT, types.boolean, None, _AT, types.boolean, returns=types.boolean)
def settle_row(builder: Any, sums: Any, start: Any, clipped: Any, result: Any, target: Any, past: Any) -> Any:
    """Writes a row of COLUMNS sums; says whether any is not zero.

    Args:
        sums: rows of COLUMNS numbers.
        start: where the row is.
        clipped: whether negative sums become zero.
        result: rows of COLUMNS numbers.
        target: where the row goes.
        past: whether it is written past the caches, into which it would be read first; then it starts with a line.
    """
    bits = ir.VectorType(ir.IntType(32), _LANES)
    kept, any_bit = builder.not_(builder.trunc(clipped, ir.IntType(1))), ir.Constant(bits, [0] * _LANES)
    for one, there in zip(_row(builder, sums, start), _row(builder, result, target), strict=True):
        value = _load(builder, one)
        # A NaN is not negative: it stays, to be seen.
        clip = builder.select(builder.fcmp_ordered("<", value, _ZERO), _ZERO, value)
        value = builder.select(kept, value, clip)
        with builder.if_else(cgutils.is_not_null(builder, past)) as (beside, through):
            with beside:
                stored = builder.store(value, there, align=_LANES * 4)
                stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
            with through:
                builder.store(value, there, align=4)
        any_bit = builder.or_(any_bit, builder.bitcast(value, bits))
    kind = ir.FunctionType(ir.IntType(32), [bits])
    reduced = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.or.v{_LANES}i32")
    found = builder.icmp_unsigned("!=", builder.call(reduced, [any_bit]), ir.IntType(32)(0))
    return builder.zext(found, ir.IntType(8))


@_instruction()
def finish_writing(builder: Any) -> None:
    """Waits for what was written past the caches."""
    builder.fence("seq_cst")


@compiled
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
    (groups, n), m, others = signal.shape[:2], result.shape[1], above.shape[1]
    height = -(-(tiles[:, 1] - tiles[:, 0]).max() // ROWS) * ROWS
    sums, near, listed = np.empty(groups * height * COLUMNS, np.float32), signal.reshape(-1), entries.reshape(-1)
    more, beside, settled = known.reshape(-1), above.reshape(-1), result.reshape(-1)
    begin = np.searchsorted(targets, tiles[0, 0])
    for first, last, before, after, _, _ in tiles:
        padded, end = -(-(last - first) // ROWS) * ROWS, begin
        while end < len(targets) and targets[end] < last:
            end += 1
        if before == after:
            sums[:] = 0
        for product in range(before, after):
            _, low, count, start = products[product]
            following = products[min(product + 1, len(products) - 1), 1]
            for strip in range(low, low + count, TERMS):
                stop = min(strip + TERMS, low + count)
                block, fresh = start + (strip - low) * padded - strip * ROWS, product == before and strip == low
                for group in range(groups):
                    base, target = group * n * COLUMNS, group * height * COLUMNS
                    head, tail = starts[group, strip] + group * n, starts[group, stop] + group * n
                    ahead = base + (stop if stop < low + count else following) * COLUMNS
                    for row in range(0, padded, ROWS):
                        if fresh:
                            # What is added at the end comes from far away.
                            for i in range(row, min(row + ROWS, last - first)):
                                if len(more):
                                    fetch_row(more, (group * known.shape[1] + first + i) * COLUMNS)
                                if begin + i < end:
                                    fetch_row(beside, (group * others + sources[begin + i]) * COLUMNS)
                        own = block + row * (stop - strip)
                        tile(fresh, weights, own, near, base, listed, head, tail, sums, target + row * COLUMNS, ahead)
                        ahead += (tail - head) * _LINE
        for group in range(groups):
            top = group * height
            for i in range(begin, end):
                source = (group * others + sources[i]) * COLUMNS
                add_row(beside, source, factors[i], sums, (top + targets[i] - first) * COLUMNS)
            for i in range(last - first):
                row, place = (top + i) * COLUMNS, places[first + i] if len(places) else first + i
                if len(more):
                    add_row(more, (group * known.shape[1] + first + i) * COLUMNS, np.float32(1), sums, row)
                where = (group * m + place) * COLUMNS
                seen[group, place] = settle_row(sums, row, clipped, settled, where, past)
        begin = end
    finish_writing()


@compiled
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


@compiled
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
    near, weights, settled, row = (
        slopes.reshape(-1),
        kernel.reshape(-1),
        result.reshape(-1),
        np.empty(COLUMNS, np.float32),
    )
    places, slices = np.empty(kh * kw, np.int64), np.empty(kh * kw, np.int64)
    pixel, count = -1, 0
    for i in range(first, last):
        if wanted[i] // c != pixel:
            pixel, count = wanted[i] // c, 0
            for ky, kx in np.ndindex(kh, kw):
                y = pixel // w + layout.padding[0] - ky * layout.dilation[0]
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
                multiply_row(near, source * COLUMNS, weights, factor * COLUMNS, row, 0)
            where = (group * result.shape[1] + i) * COLUMNS
            seen[group, i] = settle_row(row, 0, clipped, settled, where, False)


@compiled
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
    near, settled, row = values.reshape(-1), result.reshape(-1), np.empty(COLUMNS, np.float32)
    for group in range(len(values)):
        for i in range(first, last):
            row[:] = 0
            for source in sources[starts[i] : starts[i + 1]]:
                add_row(near, (group * values.shape[1] + source) * COLUMNS, np.float32(1), row, 0)
            where = (group * result.shape[1] + i) * COLUMNS
            seen[group, i] = settle_row(row, 0, clipped, settled, where, False)


@compiled
def add(above: np.ndarray, sources: np.ndarray, targets: np.ndarray, factors: np.ndarray, sums: np.ndarray) -> None:
    """Adds rows of a group's signal (n, COLUMNS), times factors, to rows of sums (m, COLUMNS)."""
    near, far = above.reshape(-1), sums.reshape(-1)
    for i in range(len(sources)):
        add_row(near, sources[i] * COLUMNS, factors[i], far, targets[i] * COLUMNS)


@compiled
def columns(numbers: np.ndarray, units: np.ndarray, first: int, last: int, groups: np.ndarray) -> None:
    """Brings rows from `first` to `last` of numbers (n, u) into groups (g, n, COLUMNS): a column for each unit."""
    for i in range(first, last):
        for b in range(len(groups) * COLUMNS):
            groups[b // COLUMNS, i, b % COLUMNS] = numbers[i, units[b]] if b < len(units) else np.float32(0)


@compiled
def turn(signal: np.ndarray, unit: int, first: int, last: int, turned: np.ndarray) -> None:
    """Entries from `first` to `last` of a signal (g, n, COLUMNS), from one unit on, as rows (b, n)."""
    for start in range(first, last, 64):
        stop = min(start + 64, last)
        for b in range(len(turned)):
            group, column = divmod(unit + b, COLUMNS)
            for i in range(start, stop):
                turned[b, i] = signal[group, i, column]
