"""`mean_square`: what the size of noise at a given distance from the signal costs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import checks, rivals
from benchmarks.case import COMPILED, EAGER, OURS, TRITON, Case, Provider, Setting, Work, data, short
from growkernels import ops


def cases(setting: Setting) -> Iterator[Case]:
    """One matrix; four in one call."""
    for dtype in (torch.float32, torch.bfloat16):
        for count in (1, 4):
            elements = setting.side**2 * count
            work = Work(bytes=elements * dtype.itemsize, operations=2 * elements)
            name = f"mean square{f' of {count}' if count > 1 else ''} {short(dtype)}"
            yield Case(name, work, partial(_build, setting, dtype, count))


def _build(setting: Setting, dtype: torch.dtype, count: int) -> list[Provider]:
    tensors = [data((setting.side, setting.side), dtype, setting.device) for _ in range(count)]
    expected = checks.expected_mean_square(tensors, [1.0] * count)
    compiled = rivals.compiled(rivals.mean_square)

    def ours(outputs: list[Tensor]) -> None:
        assert torch.equal(outputs[0].cpu(), expected)

    def theirs(outputs: list[Tensor]) -> None:
        # Each square is rounded to float32; the orders of the float64 sums differ by far less.
        bound = torch.finfo(torch.float32).eps / 2 + tensors[0].numel() * torch.finfo(torch.float64).eps
        assert ((outputs[0].cpu() / expected - 1).abs() <= bound).all()

    triton = Provider(TRITON, lambda: [ops.mean_square(tensors, backend="triton")], ours)
    return [
        Provider(OURS, lambda: [ops.mean_square(tensors)], ours),
        *([triton] if setting.kind == "cuda" else ()),
        Provider(EAGER, lambda: rivals.mean_square(tensors), theirs),
        Provider(COMPILED, lambda: compiled(tensors), theirs),
    ]
