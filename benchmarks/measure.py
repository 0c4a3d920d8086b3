"""Runs a case: checks every provider, then times them in turns, so that a drift of the machine falls on all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import FLOOR, Case, Provider, Setting
from benchmarks.floor import Copy, Floor
from benchmarks.memory import peak_above
from benchmarks.results import CaseResult, Measurement


@dataclass(frozen=True)
class Effort:
    """Rounds of all providers: at least `least`, then more up to `most` while `seconds` are not over."""

    least: int = 5
    most: int = 31
    seconds: float = 15.0


QUICK = Effort(least=3, most=3, seconds=0.0)


def interleave(
    providers: Sequence[Callable[[int], float]], effort: Effort, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Seconds of each provider in each round, in the order A B C, A B C, ...; each is called with the round's number."""
    seconds: list[list[float]] = [[] for _ in providers]
    start = clock()
    for turn in range(effort.most):
        if turn >= effort.least and clock() - start > effort.seconds:
            break
        for provider, times in zip(providers, seconds, strict=True):
            times.append(provider(turn))
    return seconds


def run_case(case: Case, setting: Setting, copy: Copy, effort: Effort) -> CaseResult:
    """Build, check, measure memory, time. Raises AssertionError, naming case and provider, where outputs are wrong."""
    sets = [_with_floor(case, setting, copy) for _ in range(_buffer_sets(case, setting.device))]
    first = sets[0]
    extra = [_extra_memory(case, provider, setting.device) for provider in first]
    for others in sets[1:]:
        for provider in others:
            _checked(case, provider)
    timers = [_timer([providers[k] for providers in sets], case.calls, setting.device) for k in range(len(first))]
    for timer in timers:
        timer(0)
    seconds = interleave(timers, replace(effort, least=min(effort.least, case.rounds or effort.least)))
    measurements = {
        provider.name: Measurement(times, peak) for provider, times, peak in zip(first, seconds, extra, strict=True)
    }
    del sets, first, timers
    torch._dynamo.reset()
    gc.collect()
    return CaseResult(case.name, case.work.bytes, case.work.operations, case.calls, measurements)


def _with_floor(case: Case, setting: Setting, copy: Copy) -> list[Provider]:
    providers = case.build()
    if case.calls == 1:
        floor = Floor(case.work.bytes, setting.device, copy)
        providers.append(Provider(FLOOR, floor.run, floor.check, fresh=False))
    return providers


def _buffer_sets(case: Case, device: torch.device) -> int:
    """On a GPU enough sets of buffers that none is in the L2 cache when its turn comes; on a CPU the rivals' turns do that."""
    if device.type != "cuda" or case.calls > 1:
        return 1
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return max(1, min(16, ceil(4 * cache / case.work.bytes)))


def _checked(case: Case, provider: Provider) -> Any:
    outputs = provider.run()
    try:
        provider.check(outputs)
    except AssertionError as error:
        raise AssertionError(f"{case.name}, {provider.name}: {error}") from error
    return outputs


def _extra_memory(case: Case, provider: Provider, device: torch.device) -> int | None:
    """Peak memory beyond inputs and outputs; the first run, which compiles and checks, is not the one measured."""
    outputs = _checked(case, provider)
    if case.calls > 1 or provider.name == FLOOR:
        return None
    own = sum(t.nbytes for t in outputs if isinstance(t, Tensor)) if provider.fresh else 0
    del outputs
    peak = peak_above(provider.run, device)
    return None if peak is None else max(0, peak - own)


def _timer(providers: list[Provider], calls: int, device: torch.device) -> Callable[[int], float]:
    """Seconds of one call in round `turn`, on the buffer set of that round. What a call returns is freed unmeasured."""

    def cpu(turn: int) -> float:
        run = providers[turn % len(providers)].run
        start = time.perf_counter()
        for _ in range(calls):
            outputs = run()
        seconds = time.perf_counter() - start
        del outputs
        return seconds / calls

    def cuda(turn: int) -> float:
        run = providers[turn % len(providers)].run
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            outputs = run()
        stop.record()
        stop.synchronize()
        del outputs
        return start.elapsed_time(stop) / 1e3 / calls

    return cuda if device.type == "cuda" else cpu


def operation_rate(device: torch.device, normal: int) -> float:
    """Operations per second of the noise where memory does not matter: normals into a small tensor that stays in cache."""
    from growkernels import ops

    small = torch.empty(1 << 18, device=device)
    provider = Provider("normals", lambda: ops.normal_(small, 1, 0), lambda _: None)
    timer = _timer([provider], 20, device)
    return normal * small.numel() / sorted(timer(k) for k in range(8))[3]
