"""How long something takes, on the host or on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

Run = Callable[[], Any]

#: What is written before a timed call on a GPU, in sizes of its L2 cache.
_FLUSH = 4
#: Seconds that a GPU waits before a timed call: Triton's launches take 100 us and more of the host, the flush 56.
_AHEAD = 1e-3
#: Cycles a second, at least as many as a GPU's clock has.
_CYCLES = 2e9


class Clock(Protocol):
    """Seconds of one call, `calls` of them timed together. What a call returns is freed unmeasured."""

    def __call__(self, run: Run, calls: int = 1) -> float: ...


class Wall:
    """Time of the host, from an idle device to an idle device."""

    def __init__(self, device: torch.device) -> None:
        self._synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def __call__(self, run: Run, calls: int = 1) -> float:
        self._synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            outputs = run()
        self._synchronize()
        seconds = time.perf_counter() - start
        del outputs
        return seconds / calls


class Events:
    """Time of a GPU between two events that it meets in the queue, on a cold cache.

    A buffer larger than the L2 cache is written first, so that nothing of the case is in the cache; then the GPU waits until
    the host has queued the call, whose launches would count as the GPU's time otherwise.
    """

    def __init__(self, device: torch.device) -> None:
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        self._scratch = torch.empty(_FLUSH * cache, dtype=torch.uint8, device=device)
        self._value = 0

    def __call__(self, run: Run, calls: int = 1) -> float:
        torch.cuda.synchronize()
        self._value = (self._value + 1) % 256
        self._scratch.fill_(self._value)
        torch.cuda._sleep(int(_AHEAD * _CYCLES))
        return _between_events(run, calls)


class Queued:
    """Time of a GPU for calls that are all queued before it begins: its own time, with the gaps between kernels."""

    def __call__(self, run: Run, calls: int = 1) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        host = time.perf_counter() - start
        torch.cuda.synchronize()
        torch.cuda._sleep(int(2 * host * _CYCLES))
        return _between_events(run, calls)


def _between_events(run: Run, calls: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        outputs = run()
    stop.record()
    stop.synchronize()
    del outputs
    return start.elapsed_time(stop) / 1e3 / calls


def clock_of(device: torch.device) -> Clock:
    """The clock for work that takes long enough: the GPU's own, or the host's."""
    return Events(device) if device.type == "cuda" else Wall(device)
