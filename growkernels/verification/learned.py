"""Learned tensors against `B (sum_j w_j source_j) A^T` computed anew in float64, at some of their rows and columns."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch

from growkernels.plans import Learned, LearnedPart
from growkernels.verification.ulp import half_ulp

#: Rows and columns that are looked at; tensors of fewer elements than these make up are checked whole.
_ROWS, _COLUMNS = 16, 256


def learned_error(
    learned: Learned,
    weights: Sequence[torch.Tensor],
    grown: torch.Tensor,
    matrices: Mapping[str, np.ndarray],
    rows: Sequence[int],
    columns: Sequence[int],
) -> tuple[float, int, tuple[int, ...], float]:
    """Largest error of a grown tensor over its bound: the fraction, elements compared, its place, and what belongs there.

    A sum of products of n numbers each, rounded after every step in any order, is off by at most n v / (1 - n v) times the
    sum of the products' absolute values, v the unit roundoff of the arithmetic. Here n is the number of layers, rows and
    columns of the source that are summed over, and 6 for the products and conversions. Half an ulp is the store's.
    """
    shape = _matrix_shape(learned)
    wanted = torch.zeros(len(rows), len(columns), dtype=torch.float64)
    sizes = torch.zeros_like(wanted)
    if learned.weights:
        # No axis changes: each entry is a sum of its own.
        products = 0
        for weight, coefficient in zip(weights, learned.weights, strict=True):
            values = coefficient * weight.reshape(shape)[rows][:, columns].double()
            wanted, sizes = wanted + values, sizes + values.abs()
    else:
        b = _matrix_rows(learned.axes[0], rows, matrices)
        a = _matrix_rows(learned.axes[1], columns, matrices) if len(learned.axes) == 2 else torch.ones(1, 1).double()
        products = b.shape[1] + a.shape[1]
        for weight, coefficient in zip(weights, matrices[learned.mix][learned.row].tolist(), strict=True):
            values = weight.double().reshape(weight.shape[0], -1)
            wanted += coefficient * (b @ values @ a.t())
            sizes += abs(coefficient) * (b.abs() @ values.abs() @ a.abs().t())
    wide = weights[0].dtype == torch.float64
    count = (len(weights) + products + 6) * torch.finfo(torch.float64 if wide else torch.float32).eps / 2
    stored = grown.reshape(shape)[rows][:, columns]
    found = stored.double()
    bound = count / (1 - count) * sizes + half_ulp(found, stored.dtype)
    gap = (found - wanted).abs()
    # What is not finite where it should be is an error without bound; a source's own NaN is let through on request.
    fraction = torch.where((gap == 0) | ~wanted.isfinite(), 0.0, (gap / bound).nan_to_num(torch.inf))
    row, column = divmod(int(fraction.argmax()), len(columns))
    flat = rows[row] * shape[1] + columns[column]
    place = tuple(int(index) for index in np.unravel_index(flat, learned.shape))
    return float(fraction.max()), found.numel(), place, float(wanted[row, column])


def learned_places(learned: Learned, chooser: random.Random) -> tuple[list[int], list[int]]:
    """Rows and columns of a learned tensor to look at: all of a small one."""
    shape = _matrix_shape(learned)
    if shape[0] * shape[1] <= _ROWS * _COLUMNS:
        return list(range(shape[0])), list(range(shape[1]))
    return _some(shape[0], _ROWS, chooser), _some(shape[1], _COLUMNS, chooser)


def _matrix_shape(learned: Learned) -> tuple[int, int]:
    """Rows and columns: a vector is one column, the last axis of more are the columns."""
    if len(learned.shape) < 2:
        return prod(learned.shape), 1
    return prod(learned.shape[:-1]), learned.shape[-1]


def _some(size: int, count: int, chooser: random.Random) -> list[int]:
    """Both ends and random indices between them."""
    if size <= count:
        return list(range(size))
    return [0, *sorted(chooser.sample(range(1, size - 1), count - 2)), size - 1]


def _matrix_rows(
    axis: Sequence[LearnedPart], indices: Sequence[int], matrices: Mapping[str, np.ndarray]
) -> torch.Tensor:
    """Rows of the matrix of a whole axis, float64 [indices, source size]."""
    found = torch.zeros(len(indices), sum(part.size for part in axis), dtype=torch.float64)
    first = new_first = 0
    for part in axis:
        for row, index in enumerate(indices):
            inside = index - new_first
            if not 0 <= inside < part.new_size:
                continue
            if part.matrix is None:
                found[row, first + inside] = 1
            else:
                unit, place = divmod(inside, part.block)
                values = torch.from_numpy(matrices[part.matrix][unit].astype(np.float64))
                found[row, first + place : first + part.size : part.block] = values
        first, new_first = first + part.size, new_first + part.new_size
    return found
