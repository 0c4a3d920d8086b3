"""`replicate`: a stack of layers, copied by an index list."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import torch
from torch import Tensor

from benchmarks import checks, rivals
from benchmarks.case import COMPILED, EAGER, NORMAL, OURS, PAPER, Case, Provider, Setting, Work, data, in_place, short
from benchmarks.case import untouched_never as touched
from growkernels import ops
from growkernels.ops.replicate import reference as replicate_reference

LAYERS, ALPHA, STD, KEY = 4, 0.2, 0.02, 0x9E3779B97F4A7C15


def cases(setting: Setting) -> Iterator[Case]:
    """Four layers x2 and x4 in stack order, and x2 with the paper's noise on the copies."""
    for dtype in (torch.float32, torch.bfloat16):
        elements = setting.side**2
        size = elements * dtype.itemsize
        for n in (2, 4):
            work = Work(bytes=size * (1 + n), operations=0)
            yield Case(f"replicate x{n} {short(dtype)}", work, partial(_build, setting, dtype, n))
        noisy = Work(bytes=size * 3, operations=2 * elements * (4 + NORMAL))
        yield Case(f"replicate x2 noise {short(dtype)}", noisy, partial(_build_noisy, setting, dtype, 2))


def _layers(setting: Setting, dtype: torch.dtype, n: int) -> tuple[list[Tensor], list[Tensor], list[int]]:
    shape = setting.side // LAYERS, setting.side
    index = list(range(LAYERS)) * n
    blocks = [data(shape, dtype, setting.device) for _ in range(LAYERS)]
    return blocks, [touched(shape, dtype, setting.device) for _ in index], index


def _build(setting: Setting, dtype: torch.dtype, n: int) -> list[Provider]:
    blocks, outs, index = _layers(setting, dtype, n)
    compiled = rivals.compiled(rivals.replicate)

    def ours(backend: str | None) -> list[Tensor]:
        ops.replicate_(outs, blocks, index, backend=backend)
        return outs

    def check(outputs: list[Tensor]) -> None:
        checks.copies_are(outputs, blocks, index)

    return [
        *in_place(setting, ours, check),
        Provider(OURS, lambda: ops.replicate(blocks, index), check),
        Provider(EAGER, lambda: rivals.replicate(blocks, index), check),
        Provider(COMPILED, lambda: compiled(blocks, index), check),
        Provider(PAPER, lambda: rivals.paper_replicate(outs, blocks, index), check, fresh=False),
    ]


def _build_noisy(setting: Setting, dtype: torch.dtype, n: int) -> list[Provider]:
    blocks, outs, index = _layers(setting, dtype, n)
    compiled = rivals.compiled(rivals.replicate_noisy)

    def ours(backend: str | None) -> list[Tensor]:
        ops.replicate_(outs, blocks, index, noise_alpha=ALPHA, noise_std=STD, key=KEY, backend=backend)
        return outs

    @cache
    def expected() -> list[Tensor]:
        sources = [b.cpu() for b in blocks]
        if setting.kind == "cuda":
            return ops.replicate(sources, index, noise_alpha=ALPHA, noise_std=STD, key=KEY)
        # The reference counts normals over all outputs, so it makes the first few whole.
        few = [torch.empty(b.shape, dtype=dtype) for b in blocks[:2]]
        replicate_reference.replicate_(few, sources, [0, 1], [1.0, 1.0], ALPHA, STD, KEY)
        return few

    def check(outputs: list[Tensor]) -> None:
        few = expected()
        checks.copies_are(outputs[: len(few)], few, range(len(few)))

    def theirs(outputs: list[Tensor]) -> None:
        for out, i in zip(outputs, index, strict=True):
            noise = (out.double() - (1 - ALPHA) * blocks[i].double()) / ALPHA
            # Five standard errors, and the rounding of the stored values, which is not small against a fifth of noise.
            slack = 5 / (2 * out.numel()) ** 0.5 + 4 * torch.finfo(dtype).eps
            assert abs(float(noise.std()) / STD - 1) <= slack

    return [
        *in_place(setting, ours, check),
        Provider(OURS, lambda: ops.replicate(blocks, index, noise_alpha=ALPHA, noise_std=STD, key=KEY), check),
        Provider(EAGER, lambda: rivals.replicate_noisy(blocks, index, ALPHA, STD), theirs),
        Provider(COMPILED, lambda: compiled(blocks, index, ALPHA, STD), theirs),
    ]
