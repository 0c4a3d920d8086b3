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
    from growkernels.ops.tile.numbers import RuleNumbers

#: Rows and columns of visits that a program takes: the first shape that needs the fewest programs. The last one comes first
#: where memory runs along columns of the matrix.
SHAPES = ((8, 256), (1, 2048), (32, 64), (128, 16), (256, 8))
#: What a piece does: moves bits; computes; computes and adds noise; writes a constant; writes a constant plus normals.
Kind = Literal["move", "scale", "noise", "fill", "draw"]
#: Along which axis both matrices lie in whole vectors of 16 bytes.
Along = Literal["columns", "rows", "neither"]
#: Index tables take the place of closed runs where those are more than this, or on average shorter than this along rows and
#: columns: a piece takes the host 30 us, and runs that short leave most of a program empty.
_MOST_RUNS, _SHORT_ROWS, _SHORT_COLUMNS = 64, 8, 64


class Measured(NamedTuple):
    """Noise whose standard deviation is float32(sqrt(square) * factor); square: float64 on the tensors' device."""

    square: torch.Tensor
    factor: float


class TileJob(NamedTuple):
    """One target and how it is written. out, weight: matrices on one device; `measured` takes the place of `noise_std`."""

    out: torch.Tensor
    weight: torch.Tensor
    spec: RuleNumbers
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
    scattered_rows: bool
    scattered_columns: bool
    rows: int
    columns: int


class Piece(NamedTuple):
    """One run of rows by one run of columns. `words` are what the kernel reads, see tile_block.py."""

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
    row_runs, column_runs = _runs(rows, _SHORT_ROWS), _runs(columns, _SHORT_COLUMNS)
    shapes = SHAPES if out.stride(1) <= out.stride(0) else SHAPES[::-1]
    shape = min(shapes, key=lambda s: sum(r.blocks(s[0]) for r in row_runs) * sum(c.blocks(s[1]) for c in column_runs))
    found = []
    for row_run in row_runs:
        for column_run in column_runs:
            new = (column_run.new, row_run.new) if swapped else (row_run.new, column_run.new)
            found.append(_piece(job, out, weight, row_run, column_run, new, noisy, shape))
    return found


def _runs(flat: Sequence[int], short: int) -> list[Run]:
    runs = closed(flat)
    groups = sum(run.groups for run in runs)
    if len(runs) > _MOST_RUNS or (groups > 1 and sum(flat[1::4]) < short * groups):
        return scattered(flat)
    return runs


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
        along=_along(out, weight, row_run, column_run),
        quads=kind in ("noise", "draw") and column_run.scattered is None and not any(n % 4 for n in fours),
        scattered_rows=row_run.scattered is not None,
        scattered_columns=column_run.scattered is not None,
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
    ways: tuple[tuple[Along, Run, int], ...] = (("columns", columns, 1), ("rows", rows, 0))
    for along, run, ahead in ways:
        in_vectors = run.scattered is None and not any(n % whole for n in (max(run.source, 0), run.target, run.length))
        if in_vectors and all(stride[ahead] == 1 and stride[1 - ahead] % whole == 0 for stride in strides):
            return along
    return "neither"
