"""`tile` x2 of sources that do not sit well in memory, each beside a well-placed source of the same size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isqrt

import torch
from torch import Tensor

from benchmarks import checks, rivals
from benchmarks.case import EAGER, OURS, Case, Provider, Setting, Work, data, in_place, short
from benchmarks.case import untouched_never as touched
from growkernels import ops

#: The provider that grows the same number of elements from a square, aligned, contiguous source.
ALIGNED = "ours in place, aligned source"
#: Placements by name: the source's shape from the main side, and how it lies.
KINDS = ("prime", "transposed", "offset", "every second column")


def cases(setting: Setting) -> Iterator[Case]:
    """Prime numbers of rows and columns; a transposed source; one off alignment; one with gaps."""
    for kind in KINDS:
        for dtype in (torch.float32, torch.bfloat16):
            rows, cols = _shape(kind, setting.side)
            work = Work(bytes=rows * cols * dtype.itemsize * 5, operations=rows * cols)
            yield Case(f"tile x2 {kind} {short(dtype)}", work, partial(_build, setting, dtype, kind))


def _shape(kind: str, side: int) -> tuple[int, int]:
    return (_prime(side, -1), _prime(side, 1)) if kind == "prime" else (side, side)


def _prime(near: int, step: int) -> int:
    """The next prime below or above."""
    number = near + step
    while any(number % divisor == 0 for divisor in range(2, isqrt(number) + 1)):
        number += step
    return number


def _placed(weight: Tensor, kind: str) -> Tensor:
    rows, cols = weight.shape
    if kind == "transposed":
        return weight.t().contiguous().t()
    if kind == "offset":
        flat = torch.empty(weight.numel() + 1, dtype=weight.dtype, device=weight.device)
        flat[1:] = weight.reshape(-1)
        return flat[1:].view(rows, cols)
    if kind == "every second column":
        wide = torch.empty(rows, 2 * cols, dtype=weight.dtype, device=weight.device)
        wide[:, ::2] = weight
        return wide[:, ::2]
    return weight


def _build(setting: Setting, dtype: torch.dtype, kind: str) -> list[Provider]:
    rows, cols = _shape(kind, setting.side)
    weight = data((rows, cols), dtype, setting.device)
    placed = _placed(weight, kind)
    out = touched((2 * rows, 2 * cols), dtype, setting.device)
    square = data((setting.side, setting.side), dtype, setting.device)
    square_out = touched((2 * setting.side, 2 * setting.side), dtype, setting.device)

    def ours(backend: str | None) -> list[Tensor]:
        ops.tile_(out, placed, 2, 2, backend=backend)
        return [out]

    def aligned() -> list[Tensor]:
        ops.tile_(square_out, square, 2, 2)
        return [square_out]

    def check(outputs: list[Tensor]) -> None:
        checks.blocks_are(outputs[0], weight / 2, None, 2, 2)

    def check_aligned(outputs: list[Tensor]) -> None:
        checks.blocks_are(outputs[0], square / 2, None, 2, 2)

    return [
        *in_place(setting, ours, check),
        Provider(ALIGNED, aligned, check_aligned, fresh=False),
        Provider(OURS, lambda: [ops.tile(placed, 2, 2)], check),
        Provider(EAGER, lambda: [rivals.tile(placed, 2, 2)], check),
    ]
