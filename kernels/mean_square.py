"""The mean square that sets the size of noise, in one fixed order of additions. Twin of csrc/cuda/mean_square.cu.

Blocks of 4096 consecutive elements are summed in 32 interleaved lanes, each in order, which are then halved together; the
block sums are summed by the same scheme until one is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from growkernels.kernels.dtype import FORMATS, compute_format, pointer, widen
from growkernels.kernels.table import EXACT, View, bits, element_offset, find, number_of, upload, view_of

_SUM_BLOCK = 4096
_LANES = tl.constexpr(32)
_STEPS = tl.constexpr(128)
#: Blocks that a program sums side by side.
_BLOCKS = 16
# Words of a tensor: address, elements, divisor, where its block sums go, what they are divided by, where its axes are.
_WORDS = tl.constexpr(6)


@triton.jit
def _halved(lanes, BLOCKS: tl.constexpr):
    """The lanes [BLOCKS, 32] added up, the upper half to the lower one each time: [BLOCKS]."""
    for log in tl.static_range(5):
        upper_lower = tl.permute(tl.reshape(lanes, (BLOCKS, 2, _LANES >> (log + 1))), (0, 2, 1))
        lower, upper = tl.split(upper_lower)
        lanes = lower + upper
    return tl.reshape(lanes, (BLOCKS,))


@triton.jit(do_not_specialize=["count"])
def sums_kernel(
    table,
    count,
    sums,
    FORMAT: tl.constexpr,
    COMPUTE: tl.constexpr,
    SQUARE: tl.constexpr,
    FLAT: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Block sums of one tensor, or of the squares of `x / divisor`; an empty tensor has one, 0.

    Table: the first program of each of `count` tensors, their words, their axes.
    """
    program = tl.program_id(0)
    tensor = find(table, count, program)
    words = table + count + tensor * _WORDS
    base = pointer(tl.load(words), FORMAT, False)
    elements, divisor = tl.load(words + 1), number_of(tl.load(words + 2), COMPUTE)
    view = table + tl.load(words + 5)
    block = (program - tl.load(table + tensor)) * BLOCKS + tl.arange(0, BLOCKS)
    first = (block * (_LANES * _STEPS))[:, None] + tl.arange(0, _LANES)[None, :]
    lanes = tl.zeros((BLOCKS, _LANES), tl.float64)
    for step in tl.range(0, _STEPS, loop_unroll_factor=8):
        e = first + step * _LANES
        offset = e if FLAT else element_offset(view, e, FLAT)
        # Outside there is +0, which changes no sum of squares.
        x = tl.load(base + offset, e < elements, other=0)
        if SQUARE:
            x = widen(x, FORMAT, COMPUTE)
            x = (tl.div_rn(x, divisor) if COMPUTE == tl.float32 else x / divisor).to(tl.float64)
            x = x * x
        lanes += x
    share = number_of(tl.load(words + 4), tl.float64)
    inside = (block == 0) | (block * (_LANES * _STEPS) < elements)
    tl.store(sums + tl.load(words + 3) + block, _halved(lanes, BLOCKS) / share, inside)


def mean_square(tensors: Sequence[torch.Tensor], divisors: Sequence[float]) -> torch.Tensor:
    """Mean of `(source / divisor) ** 2` of each tensor: float64 [len(tensors)], 0 for an empty tensor.

    tensors: any shapes, strides and supported dtypes, on one device. The quotient is rounded to the compute dtype, products
    and sums to float64.
    """
    counts = [tensor.numel() for tensor in tensors]
    values, sums = list(tensors), None
    while sums is None or len(sums) > len(tensors):
        square = sums is None
        blocks = [max(1, triton.cdiv(value.numel(), _SUM_BLOCK)) for value in values]
        last = max(blocks) == 1
        shares = [max(count, 1) if last else 1 for count in counts]
        sums = torch.empty(sum(blocks), dtype=torch.float64, device=tensors[0].device)
        _sum(values, divisors if square else [1.0] * len(values), shares, sums, square)
        values = list(sums.split(blocks))
    return sums


def _sum(
    values: Sequence[torch.Tensor],
    divisors: Sequence[float],
    shares: Sequence[int],
    sums: torch.Tensor,
    square: bool,
) -> None:
    """Block sums of every tensor, divided by its share, end to end into `sums`; a launch for each dtype and kind of view."""
    launches: dict[tuple[torch.dtype, bool], list[tuple[View, list[int]]]] = defaultdict(list)
    first = 0
    for value, divisor, share in zip(values, divisors, shares, strict=True):
        view, elements = view_of(value), value.numel()
        launches[value.dtype, view.flat].append((view, [view.address, elements, bits(divisor), first, bits(share)]))
        first += max(1, triton.cdiv(elements, _SUM_BLOCK))
    for (dtype, flat), same in launches.items():
        programs = 0
        firsts: list[int] = []
        words: list[int] = []
        axes: list[int] = []
        for view, numbers in same:
            firsts.append(programs)
            programs += max(1, triton.cdiv(numbers[1], _SUM_BLOCK * _BLOCKS))
            words += [*numbers, len(same) * (1 + _WORDS.value) + len(axes)]
            axes += view.words()
        table = upload([*firsts, *words, *axes], sums.device)
        sums_kernel[(programs,)](
            table,
            len(same),
            sums,
            FORMATS[dtype],
            compute_format(dtype, dtype),
            square,
            flat,
            _BLOCKS,
            **EXACT,
        )
