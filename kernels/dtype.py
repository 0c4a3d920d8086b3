"""Stored floating-point formats: exact loads, stores rounded once to nearest even, NaN kept. Twin of csrc/common/dtype.h.

bfloat16 crosses a kernel as 16-bit integers: Triton's interpreter truncates and computes garbage in it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton import knobs

#: The kernel's name of a tensor's dtype.
FORMATS = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float64: tl.float64,
}
# One instruction of the GPU for two elements; by integers it takes about eight for each, a quarter of a noisy element's.
_HARDWARE_ROUNDS = tl.constexpr(not knobs.runtime.interpret)


def compute_format(source: torch.dtype, target: torch.dtype) -> tl.dtype:
    """What arithmetic is in: float64 if either tensor is float64, else float32."""
    return tl.float64 if torch.float64 in (source, target) else tl.float32


def vector(*dtypes: torch.dtype) -> int:
    """Elements that a thread of an aligned kernel reads and writes side by side: 16 bytes of the narrowest, at least 4."""
    return max(4, 16 // min(dtype.itemsize for dtype in dtypes))


@triton.jit
def pointer(address, FORMAT: tl.constexpr, ALIGNED: tl.constexpr):
    """An address (int64) as a pointer to elements of a format as they are stored, `ALIGNED` to 16 bytes."""
    base = address.to(tl.pointer_type(tl.uint16 if FORMAT == tl.bfloat16 else FORMAT))
    # A hint holds for the result of an operation, not for that of a function: it would be lost at the caller's.
    if ALIGNED:
        base = tl.multiple_of(base, 16)
    return base


@triton.jit
def widen(stored, FORMAT: tl.constexpr, COMPUTE: tl.constexpr):
    """Stored elements as values of the compute format: exact."""
    if FORMAT == tl.bfloat16:
        stored = (stored.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return stored.to(COMPUTE)


@triton.jit
def odd_float(value):
    """float64 rounded to odd in float32: toward zero, the last bit set if anything was lost.

    A second rounding to fewer bits is then correct.
    """
    near = value.to(tl.float32)
    bits = near.to(tl.uint32, bitcast=True)
    wide = near.to(tl.float64).to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF
    exact = value.to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF
    number = exact <= 0x7FF0000000000000
    bits -= (number & (wide > exact)).to(tl.uint32)
    bits |= (number & (wide != exact)).to(tl.uint32)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def narrow(value, FORMAT: tl.constexpr):
    """Values of the compute format (float32 or float64) as elements to store: rounded once, to nearest even."""
    if (FORMAT == tl.bfloat16 or FORMAT == tl.float16) and value.dtype == tl.float64:
        value = odd_float(value)
    if FORMAT == tl.bfloat16:
        if _HARDWARE_ROUNDS:
            return value.to(tl.bfloat16).to(tl.uint16, bitcast=True)
        else:
            bits = value.to(tl.uint32, bitcast=True)
            rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            nan = (bits >> 16) | 0x40
            return tl.where((bits & 0x7FFFFFFF) > 0x7F800000, nan, rounded).to(tl.uint16)
    else:
        return value.to(FORMAT)
