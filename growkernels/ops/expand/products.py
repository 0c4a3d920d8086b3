"""`products_`, the dense products that `expand` is made of, by torch's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil

import torch
from torch import Tensor

from growkernels.ops.raw_arguments import check_products


def products_(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
    """`outs[g] = sum of left[p] @ right[p]` over its pairs, as many for every out; with `add`, added to what it holds.

    left, right: matrices of one dtype and any strides. Accumulated in float32 (float64 of float64), rounded once where stored.
    """
    check_products(outs, left, right)
    with sums_in_float32(outs[0].device):
        _products(outs, left, right, add)


def _products(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
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


_TILE = 128
#: A product whose tiles fill at most this share of a GPU's processors leaves the others idle, unless other products run
#: beside it. An estimate: to be replaced by a measurement.
_FILLED = 0.5


def goes_together(shape: Sequence[int], processors: int) -> bool:
    """Whether a product of this shape goes to the kernel that computes many at once, rather than to cuBLAS by itself.

    It follows from the product's own shape: what else is in the call must not change its bits.
    """
    rows, columns = shape
    return ceil(rows / _TILE) * ceil(columns / _TILE) <= _FILLED * processors


@contextmanager
def sums_in_float32(device: torch.device) -> Iterator[None]:
    """cuBLAS may add up the parts of a 16-bit product in 16 bits where it splits the inner axis; here it may not."""
    if device.type != "cuda":
        yield
        return
    flags = torch.backends.cuda.matmul
    names = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")
    before = [getattr(flags, name) for name in names]
    try:
        for name in names:
            setattr(flags, name, False)
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(flags, name, value)


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
