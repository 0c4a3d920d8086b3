"""Spacing of stored numbers."""

from __future__ import annotations

import torch


def half_ulp(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The largest error that rounding to each value (float64, representable in `dtype`) can have made; float64."""
    info = torch.finfo(dtype)
    _, exponent = torch.frexp(values)
    half = torch.ldexp(torch.full_like(values, info.eps / 4), exponent)
    # Below the normal range, zero included, the spacing stays the same.
    return torch.where(values.abs() < info.smallest_normal, info.smallest_normal * info.eps / 2, half)
