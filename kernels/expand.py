"""The parts of `expand` that memory bounds: mixes of layers, and inner products of all pairs. Twin of csrc/cuda/expand.cu.

Tensors of one shape are walked as matrices, in the order of the first one's memory: BLOCK elements at a time, in blocks that
are numbered row by row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from growkernels.kernels.dtype import FORMATS, narrow, vector, widen
from growkernels.kernels.table import EXACT, upload

# Words of a tensor: address and strides, that between rows in vectors, as is the number of columns.
_TENSOR_WORDS = tl.constexpr(3)
#: Elements of a block of a mix, eight of each thread; and outs of a program: with sums of four in registers a processor of
#: sm_90 holds six programs, with sums of eight three.
_MIX_BLOCK, _OUTS = 1024, 4
#: The same for inner products: four elements of each thread; tensors of either list, all pairs of which a program sums; and
#: blocks whose products a lane adds up in the compute format.
_PAIR_BLOCK, _PAIR_VECTOR, _SIDE, _STEPS = 512, 4, 4, 32


@triton.jit
def _places(block, rows, columns, e, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Rows and columns of the elements `e` of a block, and which of them there are."""
    across = tl.cdiv(columns, COLUMNS)
    row = block // across * (BLOCK // COLUMNS) + e // COLUMNS
    column = block % across * COLUMNS + e % COLUMNS
    return row, column, (row < rows) & (column < columns)


@triton.jit
def _at(words, row, column, FORMAT: tl.constexpr, UNIT: tl.constexpr, VECTOR: tl.constexpr):
    """Pointers to elements of the tensors with these words; rows and columns on the last axis."""
    row_stride = tl.load(words + 1)
    base = tl.load(words).to(tl.pointer_type(tl.uint16 if FORMAT == tl.bfloat16 else FORMAT))
    if VECTOR > 1:
        # A thread then takes as many elements of every tensor, whatever the format: none goes from one thread to another.
        ALIGNED: tl.constexpr = min(16, VECTOR * FORMAT.primitive_bitwidth // 8)
        base = tl.multiple_of(base, (ALIGNED, ALIGNED) if len(base.shape) == 2 else (ALIGNED, ALIGNED, ALIGNED))
        row_stride *= VECTOR
    column_stride = 1 if UNIT else tl.load(words + 2)
    return base + row_stride * row + column_stride * column


@triton.jit
def _sizes(table, VECTOR: tl.constexpr):
    """Rows and columns."""
    return tl.load(table), tl.load(table + 1) * VECTOR


@triton.jit(do_not_specialize=["count", "terms"])
def mix_kernel(
    table,
    coefficients,
    count,
    terms,
    SOURCE: tl.constexpr,
    TARGET: tl.constexpr,
    COMPUTE: tl.constexpr,
    UNIT: tl.constexpr,
    VECTOR: tl.constexpr,
    OUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program writes one block of OUTS of the `count` outs; the programs of a block follow one another, which L2 sees.

    Table: rows, columns in vectors, the words of the outs, those of the sources, each out's row of the coefficients.
    """
    chunks = tl.cdiv(count, OUTS)
    rows, columns = _sizes(table, VECTOR)
    block = (tl.program_id(0) // chunks).to(tl.int64)
    row, column, inside = _places(block, rows, columns, tl.arange(0, BLOCK)[None, :], COLUMNS, BLOCK)
    out = (tl.program_id(0) % chunks * OUTS + tl.arange(0, OUTS))[:, None]
    wanted = out < count
    out = tl.minimum(out, count - 1)
    outs = table + 2
    source = outs + count * _TENSOR_WORDS + tl.arange(0, 1)[:, None]
    factor = coefficients + tl.load(outs + (count + terms) * _TENSOR_WORDS + out) * terms
    x = tl.load(_at(source, row, column, SOURCE, UNIT, VECTOR), inside)
    total = tl.load(factor) * widen(x, SOURCE, COMPUTE)
    for k in tl.range(1, terms, loop_unroll_factor=4):
        x = tl.load(_at(source + k * _TENSOR_WORDS, row, column, SOURCE, UNIT, VECTOR), inside)
        total = total + tl.load(factor + k) * widen(x, SOURCE, COMPUTE)
    at = _at(outs + out * _TENSOR_WORDS, row, column, TARGET, UNIT, VECTOR)
    tl.store(at, narrow(total, TARGET), inside & wanted)


@triton.jit(do_not_specialize=["lefts", "rights", "shares"])
def pair_sums_kernel(
    table,
    sums,
    lefts,
    rights,
    shares,
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    COMPUTE: tl.constexpr,
    UNIT: tl.constexpr,
    VECTOR: tl.constexpr,
    LEFTS: tl.constexpr,
    RIGHTS: tl.constexpr,
    STEPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sums of products over one of `shares` of the elements, STEPS blocks, of LEFTS by RIGHTS pairs: `sums` [pairs, shares].

    Table: rows, columns in vectors, the words of the `lefts` left tensors, those of the `rights` right ones.
    """
    down, across = tl.cdiv(lefts, LEFTS), tl.cdiv(rights, RIGHTS)
    share, chunk = tl.program_id(0) // (down * across), tl.program_id(0) % (down * across)
    rows, columns = _sizes(table, VECTOR)
    left = (chunk // across * LEFTS + tl.arange(0, LEFTS))[:, None, None]
    right = (chunk % across * RIGHTS + tl.arange(0, RIGHTS))[None, :, None]
    wanted = (left < lefts) & (right < rights)
    left, right = tl.minimum(left, lefts - 1), tl.minimum(right, rights - 1)
    left_words = table + 2 + left * _TENSOR_WORDS
    right_words = table + 2 + (lefts + right) * _TENSOR_WORDS
    e = tl.arange(0, BLOCK)[None, None, :]
    total = tl.zeros((LEFTS, RIGHTS, BLOCK), COMPUTE)
    blocks = tl.cdiv(rows, BLOCK // COLUMNS) * tl.cdiv(columns, COLUMNS)
    first = share.to(tl.int64) * STEPS
    for block in range(first, min(first + STEPS, blocks)):
        row, column, inside = _places(block, rows, columns, e, COLUMNS, BLOCK)
        x = tl.load(_at(left_words, row, column, LEFT, UNIT, VECTOR), inside, other=0)
        y = tl.load(_at(right_words, row, column, RIGHT, UNIT, VECTOR), inside, other=0)
        total += widen(x, LEFT, COMPUTE) * widen(y, RIGHT, COMPUTE)
    at = sums + (left.to(tl.int64) * rights + right) * shares + share
    tl.store(at, tl.sum(total.to(tl.float64), 2, keep_dims=True), wanted)


@triton.jit(do_not_specialize=["rights", "shares"])
def add_sums_kernel(table, sums, rights, shares, FORMAT: tl.constexpr, BLOCK: tl.constexpr):
    """Adds the sums of one pair's shares to its entry. Table: the words of the entries' matrix."""
    pair = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, shares, BLOCK):
        share = first + tl.arange(0, BLOCK)
        total += tl.load(sums + pair.to(tl.int64) * shares + share, share < shares, other=0)
    offset = pair // rights * tl.load(table + 1) + pair % rights * tl.load(table + 2)
    at = tl.load(table).to(tl.pointer_type(tl.uint16 if FORMAT == tl.bfloat16 else FORMAT)) + offset
    tl.store(at, narrow(widen(tl.load(at), FORMAT, tl.float64) + tl.sum(total, 0), FORMAT))


class _Matrices(NamedTuple):
    """Tensors of one shape as matrices, or the parts of them that are. places: address and strides of each."""

    rows: int
    columns: int
    places: list[tuple[int, int, int]]

    @property
    def unit(self) -> bool:
        """Whether the elements of a row follow one another in all of them."""
        return all(place[2] == 1 for place in self.places)

    def aligned(self, items: Sequence[int], whole: int) -> bool:
        """Whether rows are whole vectors of so many elements, 16 bytes at most; items: bytes of an element of each tensor."""
        addresses = zip(self.places, items, strict=True)
        return (
            self.unit
            and not self.columns % whole
            and not any(address % min(16, whole * item) or stride % whole for (address, stride, _), item in addresses)
        )

    def words(self, whole: int) -> list[int]:
        """For `_sizes` and `_at`."""
        words = [self.rows, self.columns // whole]
        for address, row_stride, column_stride in self.places:
            words += [address, row_stride // whole, column_stride]
        return words

    def width(self, block: int) -> int:
        """Columns of a block of so many elements: of those that need the fewest blocks the widest."""
        return min((block, 256, 64, 16), key=lambda width: self.blocks(block, width))

    def blocks(self, block: int, width: int) -> int:
        """Blocks of so many elements and columns."""
        return triton.cdiv(self.rows, block // width) * triton.cdiv(self.columns, width)


def _matrices(tensors: Sequence[Tensor]) -> Iterator[_Matrices]:
    """Tensors of one shape with axes merged that follow one another in all; one part for each index of axes beyond two."""
    first = tensors[0].stride()
    order = sorted(range(tensors[0].ndim), key=lambda axis: -first[axis])
    sizes: list[int] = []
    strides: list[tuple[int, ...]] = []
    for axis in order:
        size, steps = tensors[0].shape[axis], tuple(tensor.stride(axis) for tensor in tensors)
        if size == 1:
            continue
        if sizes and strides[-1] == tuple(size * step for step in steps):
            sizes[-1], strides[-1] = sizes[-1] * size, steps
        else:
            sizes, strides = [*sizes, size], [*strides, steps]
    while len(sizes) < 2:
        sizes, strides = [1, *sizes], [(0 if sizes else 1,) * len(tensors), *strides]
    outer = len(sizes) - 2
    for index in product(*map(range, sizes[:outer])):
        offsets = [
            sum(i * step for i, step in zip(index, steps, strict=True)) for steps in zip(*strides[:outer], strict=True)
        ]
        offsets = offsets or [0] * len(tensors)
        addresses = [t.data_ptr() + offset * t.element_size() for t, offset in zip(tensors, offsets, strict=True)]
        yield _Matrices(sizes[-2], sizes[-1], list(zip(addresses, strides[-2], strides[-1], strict=True)))


def _one_dtype(tensors: Sequence[Tensor], compute: torch.dtype) -> Sequence[Tensor]:
    """As they are if they agree, else in the compute format, which takes none of their bits."""
    agree = len({tensor.dtype for tensor in tensors}) == 1
    return tensors if agree else [tensor.to(compute) for tensor in tensors]


def _compute_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def _power_of_2(count: int, largest: int) -> int:
    return min(triton.next_power_of_2(count), largest)


def mix_(outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor) -> None:
    """`outs[l] = sum_k coefficients[l, k] sources[k]`, in that order, every product and sum rounded, then the store.

    Tensors of one shape, any strides and supported dtypes, on one device; in float32, or float64 if a tensor is. One launch for
    all outs of one dtype.
    """
    compute = _compute_dtype(*outs, *sources, coefficients)
    sources = _one_dtype(sources, compute)
    factors = coefficients.to(compute).contiguous()
    same: dict[torch.dtype, list[int]] = defaultdict(list)
    for row, out in enumerate(outs):
        same[out.dtype].append(row)
    for dtype, of_dtype in same.items():
        tensors = [*(outs[row] for row in of_dtype), *sources]
        for matrices in _matrices(tensors) if outs[0].numel() else ():
            _mix(matrices, tensors, of_dtype, factors, (sources[0].dtype, dtype, compute))


def _mix(
    matrices: _Matrices,
    tensors: Sequence[Tensor],
    rows: Sequence[int],
    factors: Tensor,
    dtypes: tuple[torch.dtype, torch.dtype, torch.dtype],
) -> None:
    items = [tensor.element_size() for tensor in tensors]
    whole, width = vector(tensors[-1].dtype, tensors[0].dtype), matrices.width(_MIX_BLOCK)
    whole = whole if matrices.aligned(items, whole) else 1
    together = _power_of_2(len(rows), _OUTS)
    programs = matrices.blocks(_MIX_BLOCK, width) * triton.cdiv(len(rows), together)
    mix_kernel[(programs,)](
        upload([*matrices.words(whole), *rows], factors.device),
        factors,
        len(rows),
        factors.shape[1],
        *(FORMATS[dtype] for dtype in dtypes),
        matrices.unit,
        whole,
        together,
        width,
        _MIX_BLOCK,
        **EXACT,
    )


def inner_products_(out: Tensor, left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    """`out[l, k] += <left[l], right[k]>`, the order of the sums set by the shape and strides alone.

    left, right: tensors of one shape, any strides and supported dtypes; out: [left, right], any supported dtype. Products, and
    sums of 32 of them, in float32, or float64 if a tensor of the lists is; all other sums in float64.
    """
    compute = _compute_dtype(*left, *right)
    left, right = _one_dtype(left, compute), _one_dtype(right, compute)
    tensors = [*left, *right]
    for matrices in _matrices(tensors) if left[0].numel() else ():
        _inner_products(out, matrices, tensors, len(left), compute)


def _inner_products(
    out: Tensor, matrices: _Matrices, tensors: Sequence[Tensor], lefts: int, compute: torch.dtype
) -> None:
    rights = len(tensors) - lefts
    items = [tensor.element_size() for tensor in tensors]
    whole, width = _PAIR_VECTOR if matrices.aligned(items, _PAIR_VECTOR) else 1, matrices.width(_PAIR_BLOCK)
    shares = triton.cdiv(matrices.blocks(_PAIR_BLOCK, width), _STEPS)
    sides = _power_of_2(lefts, _SIDE), _power_of_2(rights, _SIDE)
    sums = torch.empty(lefts * rights * shares, dtype=torch.float64, device=out.device)
    programs = shares * triton.cdiv(lefts, sides[0]) * triton.cdiv(rights, sides[1])
    pair_sums_kernel[(programs,)](
        upload(matrices.words(whole), out.device),
        sums,
        lefts,
        rights,
        shares,
        *(FORMATS[dtype] for dtype in (tensors[0].dtype, tensors[-1].dtype, compute)),
        matrices.unit,
        whole,
        *sides,
        _STEPS,
        width,
        _PAIR_BLOCK,
        enable_fp_fusion=True,
    )
    entries = upload([out.data_ptr(), *out.stride()], out.device)
    add_sums_kernel[(lefts * rights,)](entries, sums, rights, shares, FORMATS[out.dtype], 1024, **EXACT)
