"""The eager reference: what the ops mean, plain and slow, in NumPy arithmetic on any slice of a grown tensor.

Arithmetic is in float32 (float64 if the source or the target is float64), every product, sum, quotient and square root
rounded once to nearest even; the store rounds once more to the target's dtype. PyTorch converts dtypes and moves data;
NumPy computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch

from growkernels.ops.noise_reference import COPY_FIELD, NEW_BOTH_FIELD, NEW_COLUMN_FIELD, NEW_ROW_FIELD, WIDTH_FIELD, z
from growkernels.ops.spec import TileSpec

#: Elements worked on at a time: bounds the memory of every function here to some tens of megabytes.
CHUNK = 1 << 18
_LANES, _BLOCK = 32, 4096


def compute_dtype(source: torch.dtype, target: torch.dtype) -> type[np.floating]:
    """float64 if either tensor is float64, else float32."""
    return np.float64 if torch.float64 in (source, target) else np.float32


def load(tensor: torch.Tensor, dtype: type[np.floating]) -> np.ndarray:
    """The values as a NumPy array of the compute dtype: exact."""
    return tensor.detach().cpu().to(torch.float64 if dtype is np.float64 else torch.float32).numpy()


def store(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """The values rounded once, to nearest even, to the target's dtype; NaN stays NaN."""
    if values.dtype == np.float64 and dtype in (torch.bfloat16, torch.float16):
        # The way down from float64 leads through float32. Rounding to odd there keeps the second rounding right: toward
        # zero, then the last bit set if anything was lost.
        with np.errstate(over="ignore"):
            near = values.astype(np.float32)
        near = np.where(np.abs(near) > np.abs(values), np.nextafter(near, np.float32(0)), near)
        lost = (near != values) & ~np.isnan(values)
        values = (near.view(np.uint32) | lost.astype(np.uint32)).view(np.float32)
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


def _expand(flat: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Source index (-1 for NEW) and copy number of every target index of an axis given as flat segments."""
    indices, ids = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start, length, copies, groups in np.asarray(flat, np.int64).reshape(-1, 4):
        if start < 0:
            indices.append(np.full(length, -1))
            ids.append(np.zeros(length, np.int64))
        else:
            shape = groups, copies, length // groups
            indices.append(np.broadcast_to(np.arange(start, start + length).reshape(groups, 1, -1), shape).reshape(-1))
            ids.append(np.broadcast_to(np.arange(copies).reshape(1, -1, 1), shape).reshape(-1))
    return np.concatenate(indices), np.concatenate(ids)


def tile_rule_slice(
    weight: torch.Tensor, spec: TileSpec, shape: tuple[int, ...], rows: range, cols: range, dtype: torch.dtype
) -> torch.Tensor:
    """Any slice of a grown tensor, `target[rows][:, cols]`, in memory bounded by the slice (and one row of the source per row).

    weight: source [O, I], any strides, or [I] (one row); shape: of the whole target, [rows, columns] or [columns];
    dtype: of the target. Returns [len(rows), len(cols)].
    """
    weight = weight.detach().reshape(1, -1) if weight.ndim < 2 else weight.detach()
    total = (1, prod(shape)) if len(shape) < 2 else tuple(shape)
    row_source, row_copy = _expand(spec.rows)
    column_source, column_copy = _expand(spec.cols)
    if (len(row_source), len(column_source)) != total:
        raise ValueError(
            f"the index vectors give {(len(row_source), len(column_source))}, the target's shape is {total}"
        )
    n_in = spec.n_in
    row, column = np.asarray(rows, np.int64)[:, None], np.asarray(cols, np.int64)[None, :]
    i, j, i_copy, j_copy = row_source[row], column_source[column], row_copy[row], column_copy[column]
    compute = compute_dtype(weight.dtype, dtype)
    old = (i >= 0) & (j >= 0)
    index = torch.from_numpy(np.maximum(i, 0)), torch.from_numpy(np.maximum(j, 0))
    picked = weight[index] if old.any() else torch.zeros(old.shape, dtype=weight.dtype)
    source = load(picked, compute)
    with np.errstate(all="ignore"):
        scaled = source / compute(spec.divisor)

        def value(copy: np.ndarray) -> np.ndarray:
            """The noise-free value in the given input copy."""
            kept = np.where((copy == i_copy % n_in) | (not spec.diagonal), scaled, compute(0))
            return kept + compute(spec.shift) if spec.shift else kept

        if spec.noise_std and n_in > 1:
            result = _noisy(value, spec, n_in, row, j, j_copy, weight.shape[1], dtype, compute)
        elif spec.divisor == 1 and not spec.shift and not spec.diagonal and dtype == weight.dtype:
            result = picked
        else:
            result = store(value(j_copy), dtype)
    fields = NEW_COLUMN_FIELD, NEW_ROW_FIELD, NEW_BOTH_FIELD
    quadrants = (i >= 0) & (j < 0), (i < 0) & (j >= 0), (i < 0) & (j < 0)
    for field, quadrant, (constant, std) in zip(fields, quadrants, spec.fill, strict=True):
        if quadrant.any():
            filled = np.full(old.shape, compute(constant))
            if std:
                filled = filled + compute(std) * z(spec.key, field, row * total[1] + column).astype(compute)
            result = torch.where(torch.from_numpy(quadrant), store(filled, dtype), result)
    return result


def _noisy(
    value: Callable[[np.ndarray], np.ndarray],
    spec: TileSpec,
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
    sigma = compute(spec.noise_std)

    def draw(pair: np.ndarray) -> np.ndarray:
        e = (row * m + pair) * source_columns + np.maximum(j, 0)
        return z(spec.key, WIDTH_FIELD, e).astype(compute)

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


def tile_rules_(outs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], specs: Sequence[TileSpec]) -> None:
    """Write every target by its rule; a few rows at a time."""
    for out, weight, spec in zip(outs, weights, specs, strict=True):
        target = out.unsqueeze(0) if out.ndim == 1 else out
        rows, cols = target.shape
        step = max(1, CHUNK // max(1, cols))
        for top in range(0, rows, step):
            for left in range(0, cols, CHUNK):
                band, strip = range(top, min(top + step, rows)), range(left, min(left + CHUNK, cols))
                part = tile_rule_slice(weight, spec, tuple(out.shape), band, strip, out.dtype)
                target[band.start : band.stop, strip.start : strip.stop].copy_(part)


def replicate_(
    outs: Sequence[torch.Tensor],
    blocks: Sequence[torch.Tensor],
    index: Sequence[int],
    scale: Sequence[float],
    noise_alpha: float,
    noise_std: float,
    key: int,
) -> None:
    """`outs[k] = (1 - a) * (scale[k] * blocks[index[k]]) + a * (std * z)`; without noise `scale[k] * blocks[index[k]]`."""
    start = 0
    for k, out in enumerate(outs):
        block = blocks[index[k]]
        if scale[k] == 1 and not noise_alpha and block.dtype == out.dtype:
            out.copy_(block)
            start += out.numel()
            continue
        compute = compute_dtype(block.dtype, out.dtype)
        with np.errstate(all="ignore"):
            values = compute(scale[k]) * load(block, compute)
            if noise_alpha:
                e = start + np.arange(out.numel(), dtype=np.int64).reshape(tuple(out.shape))
                normal = z(key, COPY_FIELD, e).astype(compute).reshape(tuple(out.shape))
                noise = compute(noise_alpha) * (compute(noise_std) * normal)
                values = compute(1.0 - noise_alpha) * values + noise
        out.copy_(store(np.asarray(values, compute), out.dtype))
        start += out.numel()


def _lane_sums(values: np.ndarray) -> np.ndarray:
    """Sum of every block of 4096 float64 values: 32 interleaved lanes, each in order, then halved together."""
    blocks = np.pad(values, (0, -len(values) % _BLOCK)).reshape(-1, _BLOCK // _LANES, _LANES)
    lanes = np.zeros((len(blocks), _LANES))
    for step in range(_BLOCK // _LANES):
        lanes = lanes + blocks[:, step]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def mean_square(tensors: Sequence[torch.Tensor], divisors: Sequence[float]) -> torch.Tensor:
    """Mean of `(source / divisor) ** 2` of each tensor in one fixed order; float64 [len(tensors)], 0 for an empty tensor.

    The quotient is rounded to the compute dtype, squares and sums to float64. Blocks of 4096 consecutive elements in
    logical row-major order are summed in 32 lanes; the block sums are summed by the same scheme until one is left.
    """
    means = []
    for tensor, divisor in zip(tensors, divisors, strict=True):
        compute = compute_dtype(tensor.dtype, tensor.dtype)
        flat = tensor.detach().reshape(-1)
        sums = [np.empty(0)]
        with np.errstate(all="ignore"):
            for piece in flat.split(64 * _BLOCK):
                x = (load(piece, compute) / compute(divisor)).astype(np.float64)
                sums.append(_lane_sums(x * x))
            partial = np.concatenate(sums)
            while len(partial) > 1:
                partial = _lane_sums(partial)
        means.append(partial[0] / flat.numel() if flat.numel() else 0.0)
    return torch.tensor(means, dtype=torch.float64)


def noise_std(square: float, snr_db: float) -> float:
    """The standard deviation, a float32 value, of noise `snr_db` decibels below a signal of the given mean square."""
    return float(np.float32(np.sqrt(np.float64(square)) * 10.0 ** (-snr_db / 20)))


def normal_(out: torch.Tensor, key: int, field: int, start: int) -> None:
    """Fill `out` with `z(key, field, start + row-major index)`, rounded once to its dtype."""
    e = start + np.arange(out.numel(), dtype=np.int64)
    out.copy_(store(z(key, field, e), out.dtype).reshape(out.shape))
