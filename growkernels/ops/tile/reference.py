"""The eager reference of `tile`: what a rule means, plain and slow, on any slice of a grown tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch

from growkernels.ops.arithmetic import CHUNK, compute_dtype, load, store
from growkernels.ops.noise.reference import (
    NEW_BOTH_FIELD,
    NEW_COLUMN_FIELD,
    NEW_ROW_FIELD,
    WIDTH_FIELD,
    mean_square,
    z,
)
from growkernels.ops.noise.reference import (
    noise_std as std_of_signal,
)
from growkernels.ops.tile.numbers import RuleNumbers
from growkernels.rules.index import IndexVector
from growkernels.rules.pieces import is_plain
from growkernels.rules.tile import Tile


def tile_rule_slice(
    weight: torch.Tensor, tile: Tile, shape: tuple[int, ...], rows: range, cols: range, dtype: torch.dtype
) -> torch.Tensor:
    """Any slice of a grown tensor, `target[rows][:, cols]`, in memory bounded by the slice (and one row of the source per row).

    weight: source [..., O, I], any strides, all but its last axis together the rows; or [I], one row. tile: its rule, with the
    input axis last. shape: of the whole target, [rows, columns] or [columns]. dtype: of the target. Returns
    [len(rows), len(cols)]. Shared noise is that of a window of the tensor in which all that share it stand side by side.
    """
    if tile.noise is not None and tile.noise.share is not None:
        return _shared_slice(weight, tile, rows, cols, dtype)
    if any(axis.repeats_new for axis in tile.axes):
        return _repeated_slice(weight, tile, rows, cols, dtype)
    weight = weight.detach().reshape(1, -1) if weight.ndim < 2 else weight.detach()
    total = (1, prod(shape)) if len(shape) < 2 else tuple(shape)
    *first, last = tile.axes
    row_axis = first[0] if first else IndexVector.identity(1)
    if len(first) > 1 or (first and tile.sum_axis == 0) or not is_plain(tile):
        raise ValueError(f"{tile} is no rule of a matrix [output, input] or of a vector")
    row_source, row_copy = row_axis.indices(), row_axis.copy_ids()
    column_source, column_copy = last.indices(), last.copy_ids()
    if (len(row_source), len(column_source)) != total:
        raise ValueError(
            f"the index vectors give {(len(row_source), len(column_source))}, the target's shape is {total}"
        )
    n_in, noise_std = tile.n_in, tile.noise.std if tile.noise else None
    row, column = np.asarray(rows, np.int64)[:, None], np.asarray(cols, np.int64)[None, :]
    i, j, i_copy, j_copy = row_source[row], column_source[column], row_copy[row], column_copy[column]
    compute = compute_dtype(weight.dtype, dtype)
    old = (i >= 0) & (j >= 0)
    picked = torch.zeros(old.shape, dtype=weight.dtype)
    if old.any():
        i_old, j_old = torch.from_numpy(np.maximum(i, 0)), torch.from_numpy(np.maximum(j, 0))
        # Not by NumPy's unravel_index, which gives wrong numbers for more than 8192 in a column (2.4).
        picked = weight[(*torch.unravel_index(i_old, weight.shape[:-1]), j_old)]
    source = load(picked, compute)
    with np.errstate(all="ignore"):
        scaled = source / compute(tile.divisor)

        def value(copy: np.ndarray) -> np.ndarray:
            """The noise-free value in the given input copy."""
            kept = np.where((copy == i_copy % n_in) | (not tile.diagonal), scaled, compute(0))
            return kept + compute(tile.shift) if tile.shift else kept

        if noise_std and n_in > 1:
            sigma = compute(noise_std)
            result = _noisy(value, sigma, tile.key, n_in, row, j, j_copy, weight.shape[-1], dtype, compute)
        elif tile.divisor == 1 and not tile.shift and not tile.diagonal and dtype == weight.dtype:
            result = picked
        else:
            result = store(value(j_copy), dtype)
    fields = NEW_COLUMN_FIELD, NEW_ROW_FIELD, NEW_BOTH_FIELD
    quadrants = (i >= 0) & (j < 0), (i < 0) & (j >= 0), (i < 0) & (j < 0)
    for field, quadrant, fill in zip(fields, quadrants, tile.fill, strict=True):
        if quadrant.any():
            filled = np.full(old.shape, compute(fill.mean))
            if fill.std:
                filled = filled + compute(fill.std) * z(tile.key, field, row * total[1] + column).astype(compute)
            result = torch.where(torch.from_numpy(quadrant), store(filled, dtype), result)
    return result


def _shared_slice(weight: torch.Tensor, tile: Tile, rows: range, cols: range, dtype: torch.dtype) -> torch.Tensor:
    """A slice of a tensor that shares its noise with others: of the one in which all of them stand side by side."""
    assert tile.noise is not None and tile.noise.share is not None
    number, width, joined = tile.noise.share[0], tile.axes[-1].size, tile.joined()
    height = joined.shape[0] if number is None else max(rows.stop, 1)
    parts = []
    while rows:
        block, top = divmod(rows.start, height)
        count = min(len(rows), height - top)
        first = cols.start + (block if number is None else number) * width
        window = range(first, first + len(cols))
        parts.append(tile_rule_slice(weight, joined, joined.shape, range(top, top + count), window, dtype))
        rows = rows[count:]
    return torch.cat(parts) if parts else torch.empty((0, len(cols)), dtype=dtype)


def _repeated_slice(weight: torch.Tensor, tile: Tile, rows: range, cols: range, dtype: torch.dtype) -> torch.Tensor:
    """A slice of a tensor in which new entries are copies of one draw: the draws, then the copies that are asked for."""
    once = tile.drawn_once()
    *first, last = tile.axes
    row, column = (
        first[0].draws()[rows.start : rows.stop] if first else np.zeros(1, np.int64),
        last.draws()[cols.start : cols.stop],
    )
    if not row.size or not column.size:
        return torch.empty((len(rows), len(cols)), dtype=dtype)
    top, left = range(row.min(), row.max() + 1), range(column.min(), column.max() + 1)
    drawn = tile_rule_slice(weight, once, once.shape, top, left, dtype)
    return drawn[torch.from_numpy(row - top.start)][:, torch.from_numpy(column - left.start)]


def _noisy(
    value: Callable[[np.ndarray], np.ndarray],
    sigma: np.floating,
    key: int,
    n_in: int,
    row: np.ndarray,
    j: np.ndarray,
    copy: np.ndarray,
    source_columns: int,
    dtype: torch.dtype,
    compute: type[np.floating],
) -> torch.Tensor:
    """Noise on the input copies: pairs (+z, -z) rounded jointly; for odd n_in the last three share two normals."""
    m = (n_in + 1) // 2

    def draw(pair: np.ndarray) -> np.ndarray:
        e = (row * m + pair) * source_columns + np.maximum(j, 0)
        return z(key, WIDTH_FIELD, e).astype(compute)

    first = copy - copy % 2
    s_a, s_b = value(first), value(first + 1)
    a = store(s_a + sigma * draw(copy // 2), dtype)
    b = store((s_a + s_b) - load(a, compute), dtype)
    result = torch.where(torch.from_numpy(copy % 2 == 0), a, b)
    if n_in % 2:
        z1, z2 = draw(np.full_like(copy, m - 2)), draw(np.full_like(copy, m - 1))
        half, swing = compute(0.5) * z1, compute(np.sqrt(3.0) / 2) * z2
        corner = copy - (n_in - 3)
        bent = np.choose(np.clip(corner, 0, 2), [z1, swing - half, -half - swing])
        triangle = store(value(copy) + sigma * bent, dtype)
        result = torch.where(torch.from_numpy(corner >= 0), triangle, result)
    return result


def tile_rules_(outs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], tiles: Sequence[Tile]) -> None:
    """Write every target by its rule, in matrix form; a few rows at a time."""
    for out, weight, tile in zip(outs, weights, tiles, strict=True):
        target = out.unsqueeze(0) if out.ndim == 1 else out
        rows, cols = target.shape
        step = max(1, CHUNK // max(1, cols))
        for top in range(0, rows, step):
            for left in range(0, cols, CHUNK):
                band, strip = range(top, min(top + step, rows)), range(left, min(left + CHUNK, cols))
                part = tile_rule_slice(weight, tile, tuple(out.shape), band, strip, out.dtype)
                target[band.start : band.stop, strip.start : strip.stop].copy_(part)


def tile_numbers(
    weight: torch.Tensor, n_out: int, n_in: int, diagonal: bool, noise_std: float, snr_db: float | None, key: int
) -> RuleNumbers:
    """The general rule that `tile` stands for; measures the noise if `snr_db` asks for it."""
    if weight.ndim == 1:
        return RuleNumbers((0, 1, 1, 1), (0, weight.shape[0], n_out, 1))
    divisor = 1.0 if diagonal else float(n_in)
    if snr_db is not None:
        noise_std = std_of_signal(float(mean_square([weight], [divisor])), snr_db)
    rows, cols = (0, weight.shape[0], n_out, 1), (0, weight.shape[1], n_in, 1)
    return RuleNumbers(rows, cols, divisor, 0.0, diagonal, noise_std, key)
