"""Width rules as the pieces that launches of the tile kernel work through: plain Python. Twin of csrc/cuda/tile_pieces.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from growkernels.kernels.axis import Run, closed, scattered
from growkernels.kernels.dtype import vector
from growkernels.kernels.noise import NEW_BOTH_FIELD, NEW_COLUMN_FIELD, NEW_ROW_FIELD, WIDTH_FIELD, signed
from growkernels.kernels.table import bits

if TYPE_CHECKING:
    from growkernels.ops.spec import TileSpec

#: Rows and columns of visits that a program takes: the first shape that needs the fewest programs. The last one comes first
#: where memory runs along columns of the matrix.
SHAPES = ((8, 256), (1, 2048), (32, 64), (128, 16), (256, 8))
#: What a piece does: moves bits; computes; computes and adds noise; writes a constant; writes a constant plus normals.
Kind = Literal["move", "scale", "noise", "fill", "draw"]
#: Along which axis both matrices lie in whole vectors of 16 bytes.
Along = Literal["columns", "rows", "neither"]
#: Index tables cost a scattered element about as much as three such programs.
_SCATTERED_COST = 3


class Measured(NamedTuple):
    """Noise whose standard deviation is float32(sqrt(square) * factor); square: float64 on the tensors' device."""

    square: torch.Tensor
    factor: float


class TileJob(NamedTuple):
    """One target and how it is written. out, weight: matrices on one device; `measured` takes the place of `noise_std`."""

    out: torch.Tensor
    weight: torch.Tensor
    spec: TileSpec
    measured: Measured | None = None


class Variant(NamedTuple):
    """What the kernel is compiled for."""

    source: torch.dtype
    target: torch.dtype
    kind: Kind
    triangle: bool
    diagonal: bool
    divide: bool
    measured: bool
    along: Along
    quads: bool
    scattered: bool
    rows: int
    columns: int


class Piece(NamedTuple):
    """One run of rows by one run of columns. `words` are what the kernel reads, see its `_WORDS`."""

    variant: Variant
    programs: int
    words: list[int]
    tables: tuple[np.ndarray | None, np.ndarray | None]


def pieces(job: TileJob) -> list[Piece]:
    """The pieces that together write every element of the job's target once."""
    out, weight, spec = job.out, job.weight, job.spec
    rows, columns = spec.rows, spec.cols
    noisy = bool(spec.noise_std or job.measured) and spec.n_in > 1
    drawn = noisy or any(std for _, std in spec.fill)
    if not drawn and not spec.diagonal and out.stride(0) < out.stride(1) and out.shape[0] > 1:
        # Noise runs along rows; without it the axes may change places so that writes run along memory.
        out, weight, rows, columns = out.t(), weight.t(), columns, rows
    swapped = out is not job.out
    shapes = SHAPES if out.stride(1) <= out.stride(0) else SHAPES[::-1]
    shape, row_runs, column_runs = _cheapest(rows, columns, shapes)
    found = []
    for row_run in row_runs:
        for column_run in column_runs:
            new = (column_run.new, row_run.new) if swapped else (row_run.new, column_run.new)
            found.append(_piece(job, out, weight, row_run, column_run, new, noisy, shape))
    return found


def _cheapest(
    rows: Sequence[int], columns: Sequence[int], shapes: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], list[Run], list[Run]]:
    """A program's shape and the runs of both axes; index tables where closed runs are too short to fill programs."""

    def programs(shape: tuple[int, int], row_runs: list[Run], column_runs: list[Run]) -> int:
        return sum(run.blocks(shape[0]) for run in row_runs) * sum(run.blocks(shape[1]) for run in column_runs)

    runs = closed(rows), closed(columns)
    shape = min(shapes, key=lambda s: programs(s, *runs))
    visits = sum(rows[1::4]) * sum(columns[1::4])
    if programs(shape, *runs) > _SCATTERED_COST * (1 + visits // (SHAPES[0][0] * SHAPES[0][1])):
        tables = scattered(rows), scattered(columns)
        table_shape = min(shapes, key=lambda s: programs(s, *tables))
        if programs(shape, *runs) > _SCATTERED_COST * programs(table_shape, *tables):
            return table_shape, *tables
    return shape, *runs


def _piece(
    job: TileJob,
    out: torch.Tensor,
    weight: torch.Tensor,
    row_run: Run,
    column_run: Run,
    new: tuple[bool, bool],
    noisy: bool,
    shape: tuple[int, int],
) -> Piece:
    """`new`: whether the entries' rows and columns are new, as the spec counts them."""
    spec = job.spec
    double = torch.float64 in (out.dtype, weight.dtype)
    divisor = float(np.float64(spec.divisor) if double else np.float32(spec.divisor))
    # By a power of two the product with the inverse is the quotient, to the bit, and much quicker.
    mantissa, exponent = frexp(divisor)
    divide = abs(mantissa) != 0.5 or abs(exponent) >= 100
    constant, std, field, width = 0.0, spec.noise_std, WIDTH_FIELD, weight.shape[1]
    if any(new):
        place = 2 if all(new) else int(new[0])
        constant, std = spec.fill[place]
        field, width = (NEW_COLUMN_FIELD, NEW_ROW_FIELD, NEW_BOTH_FIELD)[place], out.shape[1]
        kind: Kind = "draw" if std else "fill"
    elif noisy and column_run.copies > 1:
        kind = "noise"
    else:
        plain = spec.divisor == 1 and not spec.shift and not spec.diagonal
        kind = "move" if plain and out.dtype == weight.dtype else "scale"
    computes = kind in ("scale", "noise")
    measured = job.measured if kind == "noise" else None
    is_scattered = row_run.scattered is not None
    # Where the rows and columns of the noise begin: in fours, a program needs no normal that its neighbor makes too.
    fours = width, column_run.target if kind == "draw" else column_run.source, column_run.length
    variant = Variant(
        source=weight.dtype,
        target=out.dtype,
        kind=kind,
        triangle=kind == "noise" and column_run.copies % 2 == 1,
        diagonal=computes and spec.diagonal,
        divide=computes and divide,
        measured=measured is not None,
        along="neither" if is_scattered else _along(out, weight, row_run, column_run),
        quads=kind in ("noise", "draw") and not is_scattered and not any(n % 4 for n in fours),
        scattered=is_scattered,
        rows=shape[0],
        columns=shape[1],
    )
    column_blocks = column_run.blocks(shape[1])
    words = [
        weight.data_ptr(),
        *_strides(weight),
        out.data_ptr(),
        *_strides(out),
        column_blocks,
        *_axis_words(row_run, shape[0]),
        *_axis_words(column_run, shape[1]),
        bits(divisor if divide else 1 / divisor),
        bits(spec.shift),
        bits(std),
        measured.square.data_ptr() if measured else 0,
        bits(measured.factor if measured else 0.0),
        signed(spec.key),
        field,
        width,
        bits(constant),
    ]
    return Piece(variant, row_run.blocks(shape[0]) * column_blocks, words, (row_run.scattered, column_run.scattered))


def _strides(matrix: torch.Tensor) -> tuple[int, int]:
    """In elements; 0 between the rows of a single one."""
    return matrix.stride(0) if matrix.shape[0] > 1 else 0, matrix.stride(1)


def _axis_words(run: Run, block: int) -> list[int]:
    return [run.source, run.target, run.length, run.blocks(block) // run.groups, run.copies]


def _along(out: torch.Tensor, weight: torch.Tensor, rows: Run, columns: Run) -> Along:
    whole = vector(weight.dtype, out.dtype)
    tensors = (out,) if rows.new or columns.new else (out, weight)
    if any(tensor.data_ptr() % 16 for tensor in tensors):
        return "neither"
    strides = [_strides(tensor) for tensor in tensors]
    for along, run, ahead in (("columns", columns, 1), ("rows", rows, 0)):
        in_vectors = all(n % whole == 0 for n in (max(run.source, 0), run.target, run.length))
        if in_vectors and all(stride[ahead] == 1 and stride[1 - ahead] % whole == 0 for stride in strides):
            return along
    return "neither"
