"""One block of a piece of `tile`: values, noise, and stores to all copies. Twin of csrc/cpu/tile_block.cpp."""

from __future__ import annotations

import triton
import triton.language as tl

from growkernels.kernels.dtype import narrow, widen
from growkernels.kernels.noise import normals_at, normals_of
from growkernels.kernels.table import number_of

# Where a piece's words are, see tile_pieces.py: two matrices (address, strides), blocks along columns, two axes (source,
# target, length, blocks of a group, copies), numbers, and the offsets of the axes' index tables.
SOURCE_MATRIX, TARGET_MATRIX, COLUMN_BLOCKS, ROW_AXIS, COLUMN_AXIS = (tl.constexpr(word) for word in (0, 3, 6, 7, 12))
_DIVISOR, _SHIFT, STD, _SQUARE, _FACTOR, _KEY, _FIELD, _WIDTH, CONSTANT = (tl.constexpr(word) for word in range(17, 26))
ROW_TABLES, COLUMN_TABLES, PIECE_WORDS = (tl.constexpr(word) for word in (26, 27, 28))


@triton.jit
def at(base, strides, rows, columns):
    """Pointers to the elements of some rows and columns."""
    row_stride, column_stride = strides
    return base + (rows * row_stride)[:, None] + (columns * column_stride)[None, :]


@triton.jit
def noise_std(words, MEASURED: tl.constexpr):
    """The standard deviation of the noise, float64: as given, or a float32 value made from what was measured."""
    if MEASURED:
        square = tl.load(tl.load(words + _SQUARE).to(tl.pointer_type(tl.float64)))
        std = tl.sqrt(square) * number_of(tl.load(words + _FACTOR), tl.float64)
        return std.to(tl.float32).to(tl.float64)
    else:
        return number_of(tl.load(words + STD), tl.float64)


@triton.jit
def shifted(value, words, COMPUTE: tl.constexpr):
    """`value + shift`; without a shift the value itself, whatever the sign of a zero."""
    shift = tl.load(words + _SHIFT)
    return tl.where((shift & 0x7FFFFFFFFFFFFFFF) != 0, value + number_of(shift, COMPUTE), value)


@triton.jit
def values(stored, words, SOURCE: tl.constexpr, COMPUTE: tl.constexpr, DIVIDE: tl.constexpr):
    """The noise-free values of source elements."""
    value = widen(stored, SOURCE, COMPUTE)
    divisor = number_of(tl.load(words + _DIVISOR), COMPUTE)
    if not DIVIDE:
        value = value * divisor
    elif COMPUTE == tl.float32:
        value = tl.div_rn(value, divisor)
    else:
        value = value / divisor
    return shifted(value, words, COMPUTE)


@triton.jit
def _kept(value, absent, row_copy, column_copy, copies, DIAGONAL: tl.constexpr):
    """What stands in a copy: the value, or what the diagonal structure leaves there."""
    if DIAGONAL:
        return tl.where(column_copy == row_copy % copies, value, absent)
    else:
        return value


@triton.jit
def write_clean(out, strides, rows, columns, inside, elements, absent, DIAGONAL: tl.constexpr):
    """Writes one block of elements to all its copies."""
    _, _, _, row, _, row_copies, row_step = rows
    _, _, _, column, _, copies, step = columns
    for i in range(row_copies):
        for j in range(copies):
            kept = _kept(elements, absent, i, j, copies, DIAGONAL)
            tl.store(at(out, strides, row + i * row_step, column + j * step), kept, inside)


@triton.jit
def _draw(words, rows, width, first, each, VECTOR: tl.constexpr, COLUMNS: tl.constexpr, QUADS: tl.constexpr):
    """Normals of the elements `row * width + column` for rows [R] and COLUMNS columns: those from `first` on, or `each`."""
    key, field = tl.load(words + _KEY), tl.load(words + _FIELD)
    if QUADS:
        quads = (rows * width + first)[:, None] // 4 + tl.arange(0, COLUMNS // VECTOR)[None, :] * (VECTOR // 4)
        return normals_of(quads, key, field, VECTOR)
    else:
        return normals_at((rows * width)[:, None] + each[None, :], key, field)


@triton.jit
def write_drawn(
    out,
    strides,
    rows,
    columns,
    inside,
    words,
    constant,
    std,
    TARGET: tl.constexpr,
    COMPUTE: tl.constexpr,
    VECTOR: tl.constexpr,
    COLUMNS: tl.constexpr,
    QUADS: tl.constexpr,
):
    """Writes `constant + std * z` to one block of new entries, normals counted over the whole target."""
    _, _, _, row, _, row_copies, row_step = rows
    _, first, _, column, _, copies, step = columns
    width = tl.load(words + _WIDTH)
    for i in range(row_copies):
        for j in range(copies):
            to_row, to_column = row + i * row_step, column + j * step
            z = _draw(words, to_row, width, first + j * step, to_column, VECTOR, COLUMNS, QUADS)
            elements = narrow(constant + std * z.to(COMPUTE), TARGET)
            tl.store(at(out, strides, to_row, to_column), elements, inside)


@triton.jit
def write_noisy(
    out,
    strides,
    rows,
    columns,
    inside,
    words,
    value,
    absent,
    std,
    TARGET: tl.constexpr,
    COMPUTE: tl.constexpr,
    TRIANGLE: tl.constexpr,
    DIAGONAL: tl.constexpr,
    VECTOR: tl.constexpr,
    COLUMNS: tl.constexpr,
    QUADS: tl.constexpr,
):
    """Writes one block with noise on its column copies: two by two, the last three of an odd number together."""
    _, _, _, row, _, row_copies, row_step = rows
    first, _, each, column, _, copies, step = columns
    width = tl.load(words + _WIDTH)
    pairs = (copies + 1) // 2
    for i in range(row_copies):
        target = row + i * row_step
        for pair in range(pairs - 2 if TRIANGLE else pairs):
            z = _draw(words, target * pairs + pair, width, first, each, VECTOR, COLUMNS, QUADS).to(COMPUTE)
            a, b = 2 * pair, 2 * pair + 1
            s_a = _kept(value, absent, i, a, copies, DIAGONAL)
            s_b = _kept(value, absent, i, b, copies, DIAGONAL)
            stored_a = narrow(s_a + std * z, TARGET)
            stored_b = narrow((s_a + s_b) - widen(stored_a, TARGET, COMPUTE), TARGET)
            tl.store(at(out, strides, target, column + a * step), stored_a, inside)
            tl.store(at(out, strides, target, column + b * step), stored_b, inside)
        if TRIANGLE:
            z1 = _draw(words, target * pairs + pairs - 2, width, first, each, VECTOR, COLUMNS, QUADS).to(COMPUTE)
            z2 = _draw(words, target * pairs + pairs - 1, width, first, each, VECTOR, COLUMNS, QUADS).to(COMPUTE)
            half = z1 * 0.5
            swing = z2 * tl.full((), 0.8660254037844386, tl.float64).to(COMPUTE)
            for corner in tl.static_range(3):
                bent = z1 if corner == 0 else (swing - half if corner == 1 else half * -1.0 - swing)
                j = copies - 3 + corner
                stored = narrow(_kept(value, absent, i, j, copies, DIAGONAL) + std * bent, TARGET)
                tl.store(at(out, strides, target, column + j * step), stored, inside)
