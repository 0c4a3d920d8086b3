"""`products_`, the dense products that `expand` is made of, by torch's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

import torch
from torch import Tensor

from growkernels.ops.raw_arguments import check_products


def products_(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
    """`outs[g] = sum of left[p] @ right[p]` over its pairs, as many for every out; with `add`, added to what it holds.

    left, right: matrices of one dtype and any strides. Accumulated in float32 (float64 of float64), rounded once where stored.
    """
    check_products(outs, left, right)
    terms = len(left) // len(outs)
    for g, out in enumerate(outs):
        pairs = zip(left[g * terms : (g + 1) * terms], right[g * terms : (g + 1) * terms], strict=True)
        wide = torch.float64 if torch.float64 in (out.dtype, left[0].dtype) else torch.float32
        if out.dtype == wide or (out.dtype == left[0].dtype and terms == 1 and not add):
            _accumulate(out, pairs, add)
        else:
            total = out.to(wide) if add else torch.empty_like(out, dtype=wide)
            _accumulate(total, pairs, add)
            out.copy_(total)


#: Share of cuBLAS's rate that Triton's products are taken to reach. An estimate: to be replaced by a measurement.
_TRITON_RATE = 0.8
_TILE = 128


def fill_together(shapes: Sequence[Sequence[int]], processors: int) -> bool:
    """Whether products of these shapes are faster all at once by Triton than one by one by cuBLAS.

    A product takes as many rounds of a GPU's processors as its tiles need, the last one with processors that are idle.
    """
    tiles = [ceil(rows / _TILE) * ceil(columns / _TILE) for rows, columns in shapes]
    return ceil(sum(tiles) / processors) < _TRITON_RATE * sum(ceil(each / processors) for each in tiles)


def _accumulate(total: Tensor, pairs: Iterable[tuple[Tensor, Tensor]], add: bool) -> None:
    for first, second in pairs:
        if first.dtype != total.dtype and (not first.is_cuda or total.dtype == torch.float64):
            # Only GPUs multiply 16-bit matrices with a wider result, which is float32.
            first, second = first.to(total.dtype), second.to(total.dtype)
        if first.dtype != total.dtype:
            product = torch.empty_like(total) if add else total
            torch.mm(first, second, out_dtype=total.dtype, out=product)
            if add:
                total.add_(product)
        elif add:
            total.addmm_(first, second)
        else:
            torch.mm(first, second, out=total)
        add = True
