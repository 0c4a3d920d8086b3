"""Descriptor tables: what one launch must know of many tensors, as 64-bit words in the memory of their device."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from growkernels.devices import is_capturing

#: Options of every launch: each product and sum is rounded once.
EXACT = {"enable_fp_fusion": False}
#: Words of a table that two launches carry as parameters.
_FEW_WORDS = 128


def warps(aligned: bool) -> int:
    """Warps of a program with 2048 elements.

    Without whole vectors every element has an address of its own: four warps would need all the registers there are.
    """
    return 4 if aligned else 8


def bits(number: float) -> int:
    """A float64 as the word that `number_of` reads."""
    return struct.unpack("<q", struct.pack("<d", number))[0]


def upload(words: Sequence[int] | np.ndarray, device: torch.device) -> torch.Tensor:
    """The words as an int64 tensor on the device; the host does not wait for it."""
    words = np.asarray(words, np.int64)
    if device.type == "cpu":
        return torch.from_numpy(words)
    if len(words) <= _FEW_WORDS or is_capturing():
        # As parameters of kernels: nothing waits for pinned memory, and a graph, which host memory would have to outlive,
        # keeps them.
        table = torch.zeros(len(words), dtype=torch.int64, device=device)
        torch._foreach_add_(table.unbind(), words.tolist())
        return table
    return torch.from_numpy(words).pin_memory().to(device, non_blocking=True)


class View(NamedTuple):
    """A tensor as few axes as possible, at least one, innermost first: address, sizes, strides in elements."""

    address: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Their number."""
        return prod(self.sizes)

    @property
    def flat(self) -> bool:
        """Whether the elements follow one another in memory."""
        return len(self.sizes) == 1 and (self.strides[0] == 1 or self.sizes[0] <= 1)

    def words(self) -> list[int]:
        """For `element_offset`."""
        return [len(self.sizes), *(word for axis in zip(self.sizes, self.strides, strict=True) for word in axis)]


def view_of(tensor: torch.Tensor) -> View:
    """The same elements in the same order with the axes merged that follow one another in memory."""
    if not tensor.numel():
        return View(tensor.data_ptr(), (0,), (1,))
    sizes: list[int] = []
    strides: list[int] = []
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride()), strict=True):
        if size == 1:
            continue
        if sizes and stride == sizes[-1] * strides[-1]:
            sizes[-1] *= size
        else:
            sizes.append(size)
            strides.append(stride)
    return View(tensor.data_ptr(), tuple(sizes) or (1,), tuple(strides) or (1,))


@triton.jit
def number_of(word, COMPUTE: tl.constexpr):
    """A float64, given as its bits, in the compute format."""
    return word.to(tl.float64, bitcast=True).to(COMPUTE)


@triton.jit
def find(firsts, count, program):
    """The last of `count` ascending words that is not above `program`; the first one is 0."""
    low = program * 0
    high = count + low
    while high - low > 1:
        middle = (low + high) // 2
        below = tl.load(firsts + middle) <= program
        low = tl.where(below, middle, low)
        high = tl.where(below, high, middle)
    return low


@triton.jit
def element_offset(view, e, FLAT: tl.constexpr):
    """Where elements `e` (int64, row-major) of a view lie, in elements from its first."""
    if FLAT:
        return e
    else:
        inner = (tl.load(view) - 1).to(tl.int32)
        offset = e * 0
        for axis in range(inner):
            size = tl.load(view + 1 + 2 * axis)
            offset += e % size * tl.load(view + 2 + 2 * axis)
            e = e // size
        return offset + e * tl.load(view + 2 + 2 * inner)
