"""Sums of dense products of many matrices in one launch, on tensor cores: what `expand` does between mixes.

Tiles of all outs are numbered one after the other and programs walk through them. The operands of all pairs of an out stream
through one pipeline of asynchronous copies to shared memory, 16 bytes each, by plain addresses: tensor map descriptors would
need one for every operand of every layer, made on each call, and refuse strides that are no multiple of 16 bytes.

The blocks of an out, and with them the order of its sums, follow from its own matrices and the GPU alone (product_blocks.py):
results have the same bits in every run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from growkernels import devices
from growkernels.kernels.dtype import _HARDWARE_ROUNDS, FORMATS, narrow, pointer, widen
from growkernels.kernels.product_blocks import Blocks, blocks_of
from growkernels.kernels.table import find, upload

# Words of an out: rows, columns, the size that is summed over, where its pairs are, address, strides. Words of a pair: address
# and strides of the left matrix, then of the right one. Strides of aligned matrices are in vectors of 16 bytes.
_OUT_WORDS, _PAIR_WORDS = tl.constexpr(7), tl.constexpr(6)
#: Rows of tiles that are worked on together: their operands are then found in L2.
_BAND = tl.constexpr(8)


@triton.jit
def _block(
    matrix,
    rows,
    columns,
    height,
    width,
    FORMAT: tl.constexpr,
    ALONG: tl.constexpr,
    ALIGNED: tl.constexpr,
    EVEN: tl.constexpr,
):
    """A block of an operand as tensor cores take it; zeros outside. matrix: address and strides."""
    address, row_stride, column_stride = matrix
    if FORMAT == tl.bfloat16 and not _HARDWARE_ROUNDS:
        base = pointer(address, FORMAT, ALIGNED)
    else:
        base = address.to(tl.pointer_type(FORMAT))
        if ALIGNED:
            base = tl.multiple_of(base, 16)
    if ALIGNED:
        row_stride *= 128 // FORMAT.primitive_bitwidth
        column_stride *= 128 // FORMAT.primitive_bitwidth
    row_offset = rows if ALONG == "rows" else rows * row_stride
    column_offset = columns if ALONG == "columns" else columns * column_stride
    at = base + row_offset[:, None] + column_offset[None, :]
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    stored = tl.load(at) if EVEN else tl.load(at, inside, other=0)
    if FORMAT == tl.bfloat16 and not _HARDWARE_ROUNDS:
        stored = widen(stored, FORMAT, tl.float32)
    return stored


@triton.jit
def _matrix(words):
    """Address and strides."""
    return tl.load(words), tl.load(words + 1), tl.load(words + 2)


@triton.jit
def _size(word, VECTOR: tl.constexpr):
    """A size that is a multiple of VECTOR."""
    return tl.multiple_of(tl.load(word), VECTOR)


@triton.jit(do_not_specialize=["count", "tiles", "pairs"])
def products_kernel(
    table,
    count,
    tiles,
    pairs,
    FORMAT: tl.constexpr,
    TARGET: tl.constexpr,
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    OUT: tl.constexpr,
    ALIGNED: tl.constexpr,
    EVEN: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    """Writes tiles of sums of `pairs` products, or adds to what is there.

    LEFT, RIGHT, OUT: along which axis they lie in memory. Table: the first tile of each of `count` outs, their words, pairs.
    """
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        number = find(table, count, tile)
        words = table + count + number * _OUT_WORDS
        # Whole vectors along the axes on which aligned matrices lie; the out lies along its columns.
        VECTOR: tl.constexpr = 128 // FORMAT.primitive_bitwidth if ALIGNED else 1
        OUT_VECTOR: tl.constexpr = 128 // TARGET.primitive_bitwidth if ALIGNED else 1
        height = _size(words, VECTOR if LEFT == "rows" else 1)
        width = _size(words + 1, max(VECTOR, OUT_VECTOR) if RIGHT == "columns" else OUT_VECTOR)
        depth = _size(words + 2, VECTOR if LEFT == "columns" or RIGHT == "rows" else 1)
        down, across = tl.cdiv(height, ROWS).to(tl.int32), tl.cdiv(width, COLUMNS).to(tl.int32)
        within = (tile - tl.load(table + number)).to(tl.int32)
        above = within // (_BAND * across) * _BAND
        within %= _BAND * across
        band = min(down - above, _BAND)
        rows = (above + within % band).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        columns = (within // band).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)

        pair = table + tl.load(words + 3)
        left, right = _matrix(pair), _matrix(pair + 3)
        steps = tl.cdiv(depth, INNER).to(tl.int32)
        step = steps * 0
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for _ in range(steps * pairs):
            if step == steps:
                step = steps * 0
                pair += _PAIR_WORDS
                left, right = _matrix(pair), _matrix(pair + 3)
            inner = step.to(tl.int64) * INNER + tl.arange(0, INNER)
            a = _block(left, rows, inner, height, depth, FORMAT, LEFT, ALIGNED, EVEN)
            b = _block(right, inner, columns, depth, width, FORMAT, RIGHT, ALIGNED, EVEN)
            total = tl.dot(a, b, total, input_precision="ieee")
            step += 1

        address, row_stride, column_stride = _matrix(words + 4)
        if ALIGNED:
            row_stride *= 128 // TARGET.primitive_bitwidth
        column_offset = columns if OUT == "columns" else columns * column_stride
        at = pointer(address, TARGET, ALIGNED) + (rows * row_stride)[:, None] + column_offset[None, :]
        inside = (rows < height)[:, None] & (columns < width)[None, :]
        if ADD:
            total += widen(tl.load(at, inside), TARGET, tl.float32)
        tl.store(at, narrow(total, TARGET), inside)


#: Along which axis a matrix lies in memory.
Along = Literal["columns", "rows", "neither"]


class _Variant(NamedTuple):
    """What the kernel is compiled for."""

    format: torch.dtype
    target: torch.dtype
    left: Along
    right: Along
    out: Along
    aligned: bool
    even: bool
    add: bool
    blocks: Blocks


class _Product(NamedTuple):
    """One out and its pairs."""

    out: Tensor
    left: Sequence[Tensor]
    right: Sequence[Tensor]

    def turned(self) -> _Product:
        """The transpose of it."""
        return _Product(self.out.t(), [matrix.t() for matrix in self.right], [matrix.t() for matrix in self.left])


class _Form(NamedTuple):
    """What products have in common whose matrices differ in their addresses alone, as layers do.

    turned: whether their transposes are made, so that the out's memory runs along its columns if along an axis at all;
    strides: of the out, and of both matrices of every pair, as the kernel reads them.
    """

    variant: _Variant
    sizes: tuple[int, int, int]
    turned: bool
    out_strides: list[int]
    pair_strides: list[tuple[list[int], list[int]]]


def products_(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
    """`outs[g] = sum of left[p] @ right[p]` over its pairs, as many for every out; with `add`, added to what it holds.

    Matrices of any strides on one device: left and right of one dtype, bfloat16, float16 or float32; outs of any of these.
    Products and sums in float32, in one fixed order, rounded once where stored. One launch for all outs of one variant.
    """
    pairs = len(left) // len(outs)
    generation = devices.capability(outs[0].device)[0]
    alike: dict[tuple[object, ...], list[_Product]] = defaultdict(list)
    for g, out in enumerate(outs):
        if out.numel():
            product = _Product(out, left[g * pairs : (g + 1) * pairs], right[g * pairs : (g + 1) * pairs])
            matrices = out, *product.left, *product.right
            alike[out.dtype, *((m.shape, m.stride(), m.data_ptr() % 16) for m in matrices)].append(product)
    launches: dict[_Variant, list[tuple[_Form, list[_Product]]]] = defaultdict(list)
    for products in alike.values():
        form = _form(products[0], add, generation)
        launches[form.variant].append((form, products))
    for variant, forms in launches.items():
        _launch(variant, forms)


def _form(product: _Product, add: bool, generation: int) -> _Form:
    turned = product.out.shape[0] > 1 and product.out.stride(0) < product.out.stride(1)
    out, left, right = product.turned() if turned else product
    rows, columns = out.shape
    sizes = (rows, columns, left[0].shape[1])
    along = _along([out]), _along(left), _along(right)
    aligned = all(_aligned(m, a) for a, matrices in zip(along, ([out], left, right), strict=True) for m in matrices)
    blocks = blocks_of(rows, columns, len(left), left[0].dtype, out.dtype, aligned, add, generation)
    even = not any(size % block for size, block in zip(sizes, blocks[:3], strict=True))
    variant = _Variant(left[0].dtype, out.dtype, along[1], along[2], along[0], aligned, even, add, blocks)
    strides = [(_strides(a, aligned), _strides(b, aligned)) for a, b in zip(left, right, strict=True)]
    return _Form(variant, sizes, turned, _strides(out, aligned), strides)


def _along(matrices: Sequence[Tensor]) -> Along:
    if all(matrix.stride(1) == 1 or matrix.shape[1] == 1 for matrix in matrices):
        return "columns"
    if all(matrix.stride(0) == 1 or matrix.shape[0] == 1 for matrix in matrices):
        return "rows"
    return "neither"


def _aligned(matrix: Tensor, along: Along) -> bool:
    """Whether a matrix is whole vectors of 16 bytes."""
    axis = 0 if along == "rows" else 1
    whole = 16 // matrix.element_size()
    places = matrix.shape[axis], _strides(matrix, False)[1 - axis]
    return along != "neither" and matrix.data_ptr() % 16 == 0 and not any(place % whole for place in places)


def _strides(matrix: Tensor, aligned: bool) -> list[int]:
    """In elements, or in vectors; 0 along an axis of one."""
    unit = 16 // matrix.element_size() if aligned else 1
    return [stride // unit if size > 1 else 0 for size, stride in zip(matrix.shape, matrix.stride(), strict=True)]


def _launch(variant: _Variant, forms: list[tuple[_Form, list[_Product]]]) -> None:
    blocks, count = variant.blocks, sum(len(products) for _, products in forms)
    # Programs take equal shares of the tiles in turn: the longest sums first, so that short ones fill up the end.
    forms.sort(key=lambda form: -form[0].sizes[2])
    tiles = 0
    firsts: list[int] = []
    out_words: list[int] = []
    pair_words: list[int] = []
    for form, products in forms:
        height, width, _ = form.sizes
        tiles_of_one = triton.cdiv(height, blocks.rows) * triton.cdiv(width, blocks.columns)
        for out, left, right in products:
            firsts.append(tiles)
            tiles += tiles_of_one
            where = count * (1 + _OUT_WORDS.value) + len(pair_words)
            out_words += [*form.sizes, where, out.data_ptr(), *form.out_strides]
            pairs = zip(right, left, strict=True) if form.turned else zip(left, right, strict=True)
            for (first, second), (first_strides, second_strides) in zip(pairs, form.pair_strides, strict=True):
                pair_words += [first.data_ptr(), *first_strides, second.data_ptr(), *second_strides]
    device = forms[0][1][0].out.device
    products_kernel[(min(tiles, devices.processors(device) * blocks.resident),)](
        upload([*firsts, *out_words, *pair_words], device),
        count,
        tiles,
        len(forms[0][0].pair_strides),
        FORMATS[variant.format],
        FORMATS[variant.target],
        variant.left,
        variant.right,
        variant.out,
        variant.aligned,
        variant.even,
        variant.add,
        blocks.rows,
        blocks.columns,
        blocks.inner,
        num_warps=blocks.warps,
        num_stages=blocks.stages,
        maxnreg=blocks.registers,
        # Each product and its sum are rounded once, which float32 takes half the instructions for.
        enable_fp_fusion=True,
    )
