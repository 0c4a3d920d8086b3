"""What is read from source tensors before they are written: that they are finite, and how strong they are."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import torch

from growkernels.errors import GrowthError
from growkernels.executors.source import Source

_PIECE = 1 << 22
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_values(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, divisor: float = 1.0, allow_nonfinite: bool = False
) -> None:
    """Raise GrowthError if a finite value over the divisor does not fit `dtype`, or one is NaN or Inf and may not be."""
    if not tensor.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(tensor))
    if not (isfinite(low) and isfinite(high)):
        if not allow_nonfinite:
            raise _nonfinite(name, tensor)
        low, high = _finite_range(tensor)
    largest, limit = max(-low, high) / abs(divisor), torch.finfo(dtype).max
    if largest > limit:
        raise GrowthError(
            f"{name} reaches {largest:g} in the target, and {dtype} ends at {limit:g}; grow with --dtype bfloat16 or float32."
        )


def _finite_range(tensor: torch.Tensor) -> tuple[float, float]:
    low = high = 0.0
    for _, piece in _pieces(tensor):
        finite = piece[piece.isfinite()]
        if finite.numel():
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high


def _nonfinite(name: str, tensor: torch.Tensor) -> GrowthError:
    nan = inf = 0
    first = None
    for start, piece in _pieces(tensor):
        bad = ~piece.isfinite()
        if first is None and bad.any():
            first = start + int(bad.nonzero()[0])
        nan += int(piece.isnan().sum())
        inf += int(piece.isinf().sum())
    index = [int(i) for i in torch.unravel_index(torch.tensor(first), tensor.shape)]
    return GrowthError(
        f"{name} has {nan} NaN and {inf} Inf among {tensor.numel()} values, the first at {index}. Repair the "
        f"checkpoint, or let them pass with --allow-nonfinite."
    )


def check_duplicates(source: Source, duplicates: Mapping[str, str]) -> None:
    """Raise GrowthError unless each stored duplicate of a tied tensor equals the other tensor bit for bit.

    duplicates: name -> the tensor that the model's class ties it to.
    """
    for name, original in duplicates.items():
        a, b = source.tensor(name), source.tensor(original)
        if a.dtype == b.dtype and a.shape == b.shape:
            bits = _BITS[a.dtype.itemsize]
            if all(
                torch.equal(x.view(bits), y.view(bits)) for (_, x), (_, y) in zip(_pieces(a), _pieces(b), strict=True)
            ):
                continue
        raise GrowthError(
            f"{name} and {original} differ, but the config ties them. Remove the wrong one, or set "
            f"tie_word_embeddings to false."
        )


def _pieces(tensor: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    flat = tensor.reshape(-1)
    return list(zip(range(0, flat.numel(), _PIECE), flat.split(_PIECE), strict=True)) if flat.numel() else []
