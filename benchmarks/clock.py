"""How long something takes, on the host or on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

Run = Callable[[], Any]

#: What is written before a timed call on a GPU, in sizes of its L2 cache.
_FLUSH = 4
#: Clock cycles, about 3 ms, for which a GPU spins while the host queues calls that are timed together.
_SPIN = 6_000_000


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
    """Time of a GPU between two events that it meets in the queue.

    One call: a buffer larger than the L2 cache is written first, so nothing of the case is in the cache, and the host queues
    the call meanwhile. Calls timed together: the GPU spins while the host queues them, so what is timed is the GPU's own time,
    with the gaps between kernels, unless the host needs longer than the spin.
    """

    def __init__(self, device: torch.device) -> None:
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        self._scratch = torch.empty(_FLUSH * cache, dtype=torch.uint8, device=device)
        self._value = 0

    def __call__(self, run: Run, calls: int = 1) -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        if calls == 1:
            self._value = (self._value + 1) % 256
            self._scratch.fill_(self._value)
        else:
            torch.cuda._sleep(_SPIN)
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
