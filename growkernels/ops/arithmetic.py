"""Loading, rounding and storing values for the eager references.

Arithmetic is in float32 (float64 if the source or the target is float64), every product, sum, quotient and square root
rounded once to nearest even; the store rounds once more to the target's dtype. PyTorch converts dtypes and moves data;
NumPy computes.
"""

from __future__ import annotations

import numpy as np
import torch

#: Elements worked on at a time: bounds the memory of every reference to some tens of megabytes.
CHUNK = 1 << 18


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
