"""Means over an axis of a source, with the same bits on every device: sums of pairs of entries, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Entries along the axis that are summed as a tree before they are added to the sum so far, at most; and their number in all.
_CHUNK, _MOST = 1024, 1 << 22


def mean_along(weight: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean over all entries of some axes, which are kept with one entry each.

    weight: any shape, strides and supported dtype. Every addition is of two tensors, element by element, so that no device
    orders them in its own way. Returns float64 for float64 and float32 for all others. Memory: a few times 8 bytes for each
    entry of the mean, or 100 MB.
    """
    result = torch.float64 if weight.dtype == torch.float64 else torch.float32
    for axis in axes:
        total = weight.new_zeros((), dtype=torch.float64)
        others = weight.numel() // max(weight.shape[axis], 1)
        for chunk in weight.split(max(1, min(_CHUNK, _MOST // max(others, 1))), axis):
            total = total + _tree(chunk.double(), axis)
        weight = total / max(weight.shape[axis], 1)
    return weight.to(result)


def _tree(values: Tensor, axis: int) -> Tensor:
    count = values.shape[axis]
    while count > 1:
        half = count // 2
        paired = values.narrow(axis, 0, half) + values.narrow(axis, half, half)
        values = torch.cat([paired, values.narrow(axis, 2 * half, 1)], axis) if count % 2 else paired
        count = half + count % 2
    return values
