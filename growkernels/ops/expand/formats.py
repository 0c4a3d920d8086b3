"""What the arithmetic of `expand` is in, by the dtypes of its tensors and the rates of the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from growkernels.ops.expand.cost import Rates
from growkernels.ops.expand.packing import Expansion


class Formats(NamedTuple):
    """What arithmetic is in: mixes and sums in `wide`, the factors of products in `factor`, which may have fewer bits."""

    factor: torch.dtype
    wide: torch.dtype

    @classmethod
    def of(cls, expansion: Expansion, wide: torch.dtype, rates: Rates) -> Formats:
        """A GPU multiplies bfloat16 many times as fast as float32: what it is made of stays in it where all factors are.

        Not float16, whose range is less than float32's: what fits it may be grown from what does not.
        """
        factors = [t for t in (*expansion.weights, expansion.b, expansion.a) if t is not None]
        halves = rates.is_gpu and wide == torch.float32 and all(tensor.dtype == torch.bfloat16 for tensor in factors)
        return cls(torch.bfloat16 if halves else wide, wide)

    def rate(self, rates: Rates) -> int:
        """What products cost beside mixes: that of the factors' dtype."""
        halves = rates.bfloat16 if self.factor == torch.bfloat16 else None
        return rates.float32 if halves is None else halves


def wide_dtype(*groups: Sequence[Tensor]) -> torch.dtype:
    """float64 if a tensor is, else float32."""
    wide = any(tensor.dtype == torch.float64 for group in groups for tensor in group)
    return torch.float64 if wide else torch.float32
