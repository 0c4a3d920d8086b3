"""Runs a case: checks every provider, then times them in turns, so that a drift of the machine falls on all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.case import COMPILED, EAGER, FLOOR, PAPER, Case, Provider, Setting
from benchmarks.clock import Clock, Queued, Wall, clock_of
from benchmarks.floor import fastest_floor
from benchmarks.memory import peak_above
from benchmarks.results import CaseResult, Measurement
from benchmarks.traffic import Traffic

#: Of calls that are timed together, the share that a GPU's queue of about a thousand launches takes before it begins.
_QUEUED = 10


#: How the reasons of what was left out for lack of time begin: no failures.
NOT_RUN = "not run: "


@dataclass(frozen=True)
class Effort:
    """Rounds of all providers: at least `least`, then more up to `most` while `seconds` are not over.

    `compiles`: whether there is time for torch.compile, whose first call takes longer than all rounds.
    """

    least: int = 5
    most: int = 31
    seconds: float = 15.0
    compiles: bool = True


QUICK = Effort(least=3, most=3, seconds=0.0)


def interleave(
    providers: Sequence[Callable[[], float]], effort: Effort, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Seconds of each provider in each round, in the order A B C, A B C, ..."""
    seconds: list[list[float]] = [[] for _ in providers]
    start = clock()
    for turn in range(effort.most):
        if turn >= effort.least and clock() - start > effort.seconds:
            break
        for provider, times in zip(providers, seconds, strict=True):
            times.append(provider())
    return seconds


def run_case(case: Case, setting: Setting, effort: Effort) -> CaseResult:
    """Build, check, measure memory, time. A provider that fails or is wrong is not timed: the result says why."""
    device, failures = setting.device, {}
    tried: dict[str, tuple[Provider, Measurement]] = {}
    for provider in _with_floor(case, setting):
        if provider.name == COMPILED and not effort.compiles:
            failures[COMPILED] = f"{NOT_RUN}the minutes for the suite were over"
            continue
        try:
            tried[provider.name] = provider, _try(provider, case.calls, device)
        except Exception as error:
            failures[provider.name] = f"{type(error).__name__}: {error}"
    clock: Clock = clock_of(device) if case.calls == 1 else Wall(device)
    timers = [partial(clock, provider.run, case.calls) for provider, _ in tried.values()]
    for timer in timers:
        timer()
    seconds = interleave(timers, replace(effort, least=min(effort.least, case.rounds or effort.least)))
    measurements = {
        name: replace(found, seconds=times, device_seconds=_device_seconds(provider, case.calls, device))
        for (name, (provider, found)), times in zip(tried.items(), seconds, strict=True)
    }
    del tried, timers
    torch._dynamo.reset()
    gc.collect()
    return CaseResult(case.name, case.work.bytes, case.work.operations, case.calls, measurements, failures)


def _with_floor(case: Case, setting: Setting) -> list[Provider]:
    providers = case.build()
    if case.calls == 1:
        floor = fastest_floor(case.work.bytes, setting.device)
        providers.append(Provider(FLOOR, floor.run, floor.check, fresh=False))
    return providers


def _try(provider: Provider, calls: int, device: torch.device) -> Measurement:
    """The first run, which compiles; then, into poisoned memory, one that is checked; then one whose memory is measured."""
    counts = provider.name in (EAGER, PAPER)
    start = time.perf_counter()
    with (
        FlopCounterMode(display=False) if counts else nullcontext() as products,
        Traffic() if counts else nullcontext() as traffic,
    ):
        outputs = provider.run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    first = time.perf_counter() - start
    if not provider.fresh and _poison(outputs):
        outputs = provider.run()
    provider.check(outputs)
    own = sum(t.nbytes for t in outputs if isinstance(t, Tensor)) if provider.fresh and outputs is not None else 0
    del outputs
    measured = calls == 1 and provider.name != FLOOR
    peak = peak_above(provider.run, device) if measured else None
    extra = None if peak is None else max(0, peak - own)
    if not counts:
        return Measurement([], extra, first_seconds=first)
    return Measurement([], extra, traffic.bytes, first, operations=products.get_total_flops())


def _poison(outputs: Any) -> bool:
    """NaN into outputs that an earlier provider may have filled with the right values."""
    tensors = [t for t in outputs or () if isinstance(t, Tensor) and t.is_floating_point()]
    for tensor in tensors:
        tensor.fill_(torch.nan)
    return bool(tensors)


def _device_seconds(provider: Provider, calls: int, device: torch.device) -> float | None:
    """Of one call among many, the GPU's own time: what is left when the host is ahead."""
    if calls == 1 or device.type != "cuda":
        return None
    clock = Queued()
    return sorted(clock(provider.run, max(1, calls // _QUEUED)) for _ in range(3))[1]


def operation_rate(device: torch.device, normal: int) -> float:
    """Operations per second of the noise where memory does not matter: normals into a tensor that stays in cache."""
    from growkernels import ops

    small = torch.empty(1 << (23 if device.type == "cuda" else 18), device=device)
    clock = Queued() if device.type == "cuda" else Wall(device)
    return normal * small.numel() / sorted(clock(lambda: ops.normal_(small, 1, 0), 20) for _ in range(8))[3]
