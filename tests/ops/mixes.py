"""What mixes and inner products have to be, whoever makes them. Needs torch and NumPy and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from growkernels.ops.arithmetic import store
from growkernels.ops.expand import reference as expand_reference
from tests.ops.tensors import assert_same_bits


def mixes(outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor) -> list[Tensor]:
    """By the reference, in the dtypes of `outs`, on the CPU."""
    wide = any(t.dtype == torch.float64 for t in (*outs, *sources, coefficients))
    sums = [torch.empty(out.shape, dtype=torch.float64 if wide else torch.float32) for out in outs]
    expand_reference.mix_(sums, [source.cpu() for source in sources], coefficients.cpu())
    return [store(total.numpy(), out.dtype) for total, out in zip(sums, outs, strict=True)]


def check_mix(outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor, library: Any) -> None:
    """A mix by a library (`torch.ops.growkernels`) has the bits of the reference."""
    expected = mixes(outs, sources, coefficients)
    library.mix_(outs, sources, coefficients)
    for out, right in zip(outs, expected, strict=True):
        assert_same_bits(out.cpu(), right)


def check_inner_products(out: Tensor, left: Sequence[Tensor], right: Sequence[Tensor], library: Any) -> None:
    """Inner products that a library adds to `out` are within rounding."""
    start, first, second = out.cpu().double(), [t.cpu().double() for t in left], [t.cpu().double() for t in right]
    expected, magnitude = start.clone(), start.abs()
    expand_reference.inner_products_(expected, first, second)
    expand_reference.inner_products_(magnitude, [t.abs() for t in first], [t.abs() for t in second])
    library.inner_products_(out, left, right)
    # A lane adds up 32 products in float32 (float64 if a tensor is); the rest is float64, in the reference too. A sum of n
    # terms is off by n u / (1 - n u) of their absolute values at most, in any order.
    wide = torch.float64 in {t.dtype for t in (*left, *right)}
    unit = torch.finfo(torch.float64 if wide else torch.float32).eps / 2
    roundings, elements = 33 * unit, (2 * left[0].numel() + 2) * torch.finfo(torch.float64).eps / 2
    bound = (roundings / (1 - roundings) + elements / (1 - elements)) * magnitude
    stored = 0 if out.dtype == torch.float64 else torch.finfo(out.dtype).eps / 2 * (expected.abs() + bound)
    assert ((out.cpu().double() - expected).abs() <= bound + stored).all()
