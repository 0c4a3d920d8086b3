"""`tile` without noise: every block W / n, and the block-diagonal variant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks import checks, rivals
from benchmarks.case import COMPILED, EAGER, OURS, PAPER, Case, Provider, Setting, Work, data, in_place, short
from benchmarks.case import untouched_never as touched
from growkernels import ops


def cases(setting: Setting) -> Iterator[Case]:
    """x2, x3, x4, and diagonal x2; float32 and bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        elements = setting.side**2
        size = elements * dtype.itemsize
        for n in (2, 3, 4):
            work = Work(bytes=size * (1 + n * n), operations=elements)
            yield Case(f"tile x{n} {short(dtype)}", work, partial(_build, setting, dtype, n))
        diagonal = Work(bytes=size * 5, operations=0)
        yield Case(f"tile x2 diagonal {short(dtype)}", diagonal, partial(_build_diagonal, setting, dtype, 2))


def _build(setting: Setting, dtype: torch.dtype, n: int) -> list[Provider]:
    side = setting.side
    weight = data((side, side), dtype, setting.device)
    out = touched((n * side, n * side), dtype, setting.device)
    scaled = (weight.float() / n).to(dtype)
    compiled = rivals.compiled(rivals.tile)

    def check(outputs: list[torch.Tensor]) -> None:
        checks.blocks_are(outputs[0], scaled, None, n, n)

    def ours(backend: str | None) -> list[torch.Tensor]:
        ops.tile_(out, weight, n, n, backend=backend)
        return [out]

    return [
        *in_place(setting, ours, check),
        Provider(OURS, lambda: [ops.tile(weight, n, n)], check),
        Provider(EAGER, lambda: [rivals.tile(weight, n, n)], check),
        Provider(COMPILED, lambda: [compiled(weight, n, n)], check),
    ]


def _build_diagonal(setting: Setting, dtype: torch.dtype, n: int) -> list[Provider]:
    side = setting.side
    weight = data((side, side), dtype, setting.device)
    out = touched((n * side, n * side), dtype, setting.device)
    zero = torch.zeros_like(weight)
    compiled = rivals.compiled(rivals.tile_diagonal)

    def check(outputs: list[torch.Tensor]) -> None:
        checks.blocks_are(outputs[0], weight, zero, n, n)

    def ours(backend: str | None) -> list[torch.Tensor]:
        ops.tile_(out, weight, n, n, "diagonal", backend=backend)
        return [out]

    return [
        *in_place(setting, ours, check),
        Provider(OURS, lambda: [ops.tile(weight, n, n, "diagonal")], check),
        Provider(EAGER, lambda: [rivals.tile_diagonal(weight, n, n)], check),
        Provider(COMPILED, lambda: [compiled(weight, n, n)], check),
        Provider(PAPER, lambda: [rivals.paper_tile_diagonal(weight, n, n)], check),
    ]
