"""`tile`: the width rule. Every source element is read once and written to all its copies. Twin of csrc/cuda/tile.cu."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from growkernels.kernels.dtype import FORMATS, compute_format, narrow, pointer, vector
from growkernels.kernels.table import EXACT, find, number_of, upload, warps
from growkernels.kernels.tile_block import (
    COLUMN_AXIS,
    COLUMN_BLOCKS,
    COLUMN_TABLES,
    CONSTANT,
    PIECE_WORDS,
    ROW_AXIS,
    ROW_TABLES,
    SOURCE_MATRIX,
    STD,
    TARGET_MATRIX,
    at,
    noise_std,
    shifted,
    values,
    write_clean,
    write_drawn,
    write_noisy,
)
from growkernels.kernels.tile_pieces import Piece, TileJob, Variant, pieces


@triton.jit
def _axis(words, tables, block, BLOCK: tl.constexpr, SCATTERED: tl.constexpr, WHOLE: tl.constexpr):
    """A block of one axis: its first source and target index, both for every visit, which visits there are, copies, step.

    Copy c of a visit is `c * step` behind its first one.
    """
    source = tl.multiple_of(tl.load(words), WHOLE)
    target = tl.multiple_of(tl.load(words + 1), WHOLE)
    length = tl.multiple_of(tl.load(words + 2), WHOLE)
    group_blocks, copies = tl.load(words + 3).to(tl.int32), tl.load(words + 4).to(tl.int32)
    i = tl.arange(0, BLOCK)
    if SCATTERED:
        i += block.to(tl.int64) * BLOCK
        inside = i < length
        step = tl.load(tables + 2 * length + i, inside)
        return source, target, tl.load(tables + i, inside), tl.load(tables + length + i, inside), inside, copies, step
    else:
        group = (block // group_blocks).to(tl.int64)
        first = (block % group_blocks).to(tl.int64) * BLOCK
        source += group * length + first
        target += group * copies * length + first
        return source, target, source + i, target + i, first + i < length, copies, length


@triton.jit
def _strides(words, ALONG: tl.constexpr, VECTOR: tl.constexpr):
    """Of a matrix: of rows, and of columns."""
    if ALONG == "columns":
        return tl.multiple_of(tl.load(words + 1), VECTOR), 1
    elif ALONG == "rows":
        return 1, tl.multiple_of(tl.load(words + 2), VECTOR)
    else:
        return tl.load(words + 1), tl.load(words + 2)


@triton.jit(do_not_specialize=["count"])
def tile_kernel(
    table,
    count,
    SOURCE: tl.constexpr,
    TARGET: tl.constexpr,
    COMPUTE: tl.constexpr,
    KIND: tl.constexpr,
    TRIANGLE: tl.constexpr,
    DIAGONAL: tl.constexpr,
    DIVIDE: tl.constexpr,
    MEASURED: tl.constexpr,
    ALONG: tl.constexpr,
    QUADS: tl.constexpr,
    SCATTERED_ROWS: tl.constexpr,
    SCATTERED_COLUMNS: tl.constexpr,
    VECTOR: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """A program takes ROWS by COLUMNS visits of one piece. Table: first program of each of `count` pieces, their words."""
    ALIGNED: tl.constexpr = ALONG != "neither"
    piece = find(table, count, tl.program_id(0))
    block = (tl.program_id(0) - tl.load(table + piece)).to(tl.int32)
    words = table + count + piece * PIECE_WORDS
    column_blocks = tl.load(words + COLUMN_BLOCKS).to(tl.int32)
    row_tables, column_tables = table + tl.load(words + ROW_TABLES), table + tl.load(words + COLUMN_TABLES)
    row_block, column_block = block // column_blocks, block % column_blocks
    rows = _axis(words + ROW_AXIS, row_tables, row_block, ROWS, SCATTERED_ROWS, VECTOR if ALONG == "rows" else 1)
    columns = _axis(
        words + COLUMN_AXIS,
        column_tables,
        column_block,
        COLUMNS,
        SCATTERED_COLUMNS,
        VECTOR if ALONG == "columns" else 1,
    )
    inside = rows[4][:, None] & columns[4][None, :]
    out = pointer(tl.load(words + TARGET_MATRIX), TARGET, ALIGNED)
    strides = _strides(words + TARGET_MATRIX, ALONG, VECTOR)
    if KIND == "fill" or KIND == "draw":
        constant = number_of(tl.load(words + CONSTANT), COMPUTE)
    else:
        weight = pointer(tl.load(words + SOURCE_MATRIX), SOURCE, ALIGNED)
        stored = tl.load(at(weight, _strides(words + SOURCE_MATRIX, ALONG, VECTOR), rows[2], columns[2]), inside)
        if KIND != "move":
            value = values(stored, words, SOURCE, COMPUTE, DIVIDE)
            absent = shifted(tl.full((), 0, COMPUTE), words, COMPUTE)
    if KIND == "move":
        write_clean(out, strides, rows, columns, inside, stored, stored, False)
    elif KIND == "fill":
        elements = narrow(tl.full((ROWS, COLUMNS), 0, COMPUTE) + constant, TARGET)
        write_clean(out, strides, rows, columns, inside, elements, elements, False)
    elif KIND == "draw":
        std = number_of(tl.load(words + STD), COMPUTE)
        write_drawn(out, strides, rows, columns, inside, words, constant, std, TARGET, COMPUTE, VECTOR, COLUMNS, QUADS)
    elif KIND == "scale":
        write_clean(out, strides, rows, columns, inside, narrow(value, TARGET), narrow(absent, TARGET), DIAGONAL)
    else:
        std = noise_std(words, MEASURED)
        # What is measured may be zero: then there is no noise, and no rounding of pairs.
        if not MEASURED or std != 0:
            write_noisy(
                out,
                strides,
                rows,
                columns,
                inside,
                words,
                value,
                absent,
                std.to(COMPUTE),
                TARGET,
                COMPUTE,
                TRIANGLE,
                DIAGONAL,
                VECTOR,
                COLUMNS,
                QUADS,
            )
        else:
            write_clean(out, strides, rows, columns, inside, narrow(value, TARGET), narrow(absent, TARGET), DIAGONAL)


def tile(jobs: Sequence[TileJob]) -> None:
    """Write every target by its rule: one launch for all pieces of one variant."""
    launches: dict[Variant, list[Piece]] = defaultdict(list)
    for job in jobs:
        for piece in pieces(job):
            launches[piece.variant].append(piece)
    for variant, same in launches.items():
        _launch(variant, same, jobs[0].out.device)


def _launch(variant: Variant, same: list[Piece], device: torch.device) -> None:
    programs = 0
    firsts, words, arrays = [], [], {}
    end = len(same) * (1 + PIECE_WORDS.value)
    for piece in same:
        firsts.append(programs)
        programs += piece.programs
        words += piece.words
        for array in piece.tables:
            if array is not None and id(array) not in arrays:
                arrays[id(array)] = end, array.ravel()
                end += array.size
            words.append(0 if array is None else arrays[id(array)][0])
    table = upload(np.concatenate([np.array(firsts + words), *(array for _, array in arrays.values())]), device)
    tile_kernel[(programs,)](
        table,
        len(same),
        FORMATS[variant.source],
        FORMATS[variant.target],
        compute_format(variant.source, variant.target),
        variant.kind,
        variant.triangle,
        variant.diagonal,
        variant.divide,
        variant.measured,
        variant.along,
        variant.quads,
        variant.scattered_rows,
        variant.scattered_columns,
        vector(variant.source, variant.target),
        variant.rows,
        variant.columns,
        num_warps=warps(variant.along != "neither"),
        **EXACT,
    )
