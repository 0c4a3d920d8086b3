"""`tile` with noise, of a given size and of a given distance from the signal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import checks, rivals
from benchmarks.case import COMPILED, EAGER, NORMAL, OURS, PAPER, Case, Provider, Setting, Work, data, in_place, short
from benchmarks.case import untouched_never as touched
from growkernels import ops
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.tile.reference import tile_numbers

KEY, SNR_DB, STD = 0x9E3779B97F4A7C15, 10.0, 0.003
#: The provider of a case with SNR that is told the size it would measure.
STD_FORM = "ours in place, std given"


def cases(setting: Setting) -> Iterator[Case]:
    """x2 and x3 with a standard deviation; x2 at 10 dB, with its mean square measured in the call."""
    for dtype in (torch.float32, torch.bfloat16):
        elements = setting.side**2
        size = elements * dtype.itemsize
        for n in (2, 3):
            work = Work(bytes=size * (1 + n * n), operations=elements * (1 + n * ((n + 1) // 2) * NORMAL))
            yield Case(f"tile x{n} noise {short(dtype)}", work, partial(_build, setting, dtype, n))
        measured = Work(bytes=size * 6, operations=elements * (4 + 2 * NORMAL))
        yield Case(f"tile x2 10 dB {short(dtype)}", measured, partial(_build_snr, setting, dtype, 2))


def _build(setting: Setting, dtype: torch.dtype, n: int) -> list[Provider]:
    side = setting.side
    weight = data((side, side), dtype, setting.device)
    out = touched((n * side, n * side), dtype, setting.device)
    spec = tile_numbers(weight, n, n, False, STD, None, KEY).tile()
    compiled = rivals.compiled(rivals.tile_noisy)

    def ours(backend: str | None) -> list[Tensor]:
        ops.tile_(out, weight, n, n, noise_std=STD, key=KEY, backend=backend)
        return [out]

    def check(outputs: list[Tensor]) -> None:
        checks.follows_reference(outputs[0], weight, spec)

    def theirs(outputs: list[Tensor]) -> None:
        checks.noise_cancels(outputs[0], weight, n, n, STD)

    return [
        *in_place(setting, ours, check),
        Provider(OURS, lambda: [ops.tile(weight, n, n, noise_std=STD, key=KEY)], check),
        Provider(EAGER, lambda: [rivals.tile_noisy(weight, n, n, STD)], theirs),
        Provider(COMPILED, lambda: [compiled(weight, n, n, STD)], theirs),
        Provider(PAPER, lambda: [rivals.paper_tile_noisy(weight, n, n, STD)], theirs),
    ]


def _build_snr(setting: Setting, dtype: torch.dtype, n: int) -> list[Provider]:
    side = setting.side
    weight = data((side, side), dtype, setting.device)
    out = touched((n * side, n * side), dtype, setting.device)
    std = noise_reference.noise_std(float(checks.expected_mean_square([weight], [n])), SNR_DB)
    spec = tile_numbers(weight, n, n, False, std, None, KEY).tile()
    compiled = rivals.compiled(rivals.tile_snr)

    def ours(backend: str | None) -> list[Tensor]:
        ops.tile_(out, weight, n, n, snr_db=SNR_DB, key=KEY, backend=backend)
        return [out]

    def std_form() -> list[Tensor]:
        ops.tile_(out, weight, n, n, noise_std=std, key=KEY)
        return [out]

    def check(outputs: list[Tensor]) -> None:
        checks.follows_reference(outputs[0], weight, spec)

    def theirs(outputs: list[Tensor]) -> None:
        checks.noise_cancels(outputs[0], weight, n, n, std)

    return [
        *in_place(setting, ours, check),
        Provider(STD_FORM, std_form, check, fresh=False),
        Provider(OURS, lambda: [ops.tile(weight, n, n, snr_db=SNR_DB, key=KEY)], check),
        Provider(EAGER, lambda: [rivals.tile_snr(weight, n, n, SNR_DB)], theirs),
        Provider(COMPILED, lambda: [compiled(weight, n, n, SNR_DB)], theirs),
        Provider(PAPER, lambda: [rivals.paper_tile_snr(weight, n, n, SNR_DB)], theirs),
    ]
