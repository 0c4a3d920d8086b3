"""The copy floor: the same bytes moved by the fastest plain copy this machine offers, into memory that exists already."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import torch
from torch import Tensor

from benchmarks.clock import clock_of

#: Buffers of at most this size are copied again and again: no case needs a floor as large as itself.
_LARGEST = {"cpu": 256 << 20, "cuda": 2 << 30}
#: What a thread hands to memmove at a time.
_PIECE = 1 << 20

Copy = Callable[[Tensor, Tensor], None]


def torch_copy(target: Tensor, source: Tensor) -> None:
    """PyTorch's own copy: threaded on a CPU, a device copy on a GPU."""
    target.copy_(source)


def memmove_pieces(target: Tensor, source: Tensor) -> None:
    """The C library's copy on as many threads as torch uses, a piece at a time: through the caches."""
    _threaded_memmove(target, source, _PIECE)


def memmove_shares(target: Tensor, source: Tensor) -> None:
    """The same, each thread its whole share at once: the C library writes past the caches where that is large enough."""
    _threaded_memmove(target, source, source.numel())


def _threaded_memmove(target: Tensor, source: Tensor, piece: int) -> None:
    size, threads = source.numel(), torch.get_num_threads()

    def move(thread: int) -> None:
        start, stop = (size * k // threads for k in (thread, thread + 1))
        for at in range(start, stop, piece):
            ctypes.memmove(target.data_ptr() + at, source.data_ptr() + at, min(piece, stop - at))

    if size <= _PIECE:
        ctypes.memmove(target.data_ptr(), source.data_ptr(), size)
    else:
        list(_pool().map(move, range(threads)))


_POOLS: dict[int, ThreadPoolExecutor] = {}


def _pool() -> ThreadPoolExecutor:
    threads = torch.get_num_threads()
    if threads not in _POOLS:
        _POOLS[threads] = ThreadPoolExecutor(threads)
    return _POOLS[threads]


class Floor:
    """Moves `bytes` (half read, half written) with `copy`; its buffers are random bytes."""

    def __init__(self, bytes: int, device: torch.device, copy: Copy) -> None:
        self.copy = copy
        half = max(1, bytes // 2)
        size = min(half, _LARGEST[device.type])
        self.source = torch.randint(1, 256, (size,), dtype=torch.uint8, device=device)
        self.target = torch.zeros_like(self.source).add_(1)
        self.whole, self.rest = divmod(half, size)

    def run(self) -> Sequence[Tensor]:
        """Move the bytes once."""
        for _ in range(self.whole):
            self.copy(self.target, self.source)
        if self.rest:
            self.copy(self.target[: self.rest], self.source[: self.rest])
        return [self.target]

    def check(self, outputs: Sequence[Tensor]) -> None:
        """The target is the source."""
        assert torch.equal(outputs[0], self.source)


def fastest_copy(device: torch.device) -> tuple[Copy, dict[str, float]]:
    """The copy to measure against, and the bytes per second (read + written) of each candidate on the largest buffers."""
    candidates: list[Copy] = [torch_copy] if device.type == "cuda" else [torch_copy, memmove_pieces, memmove_shares]
    size, clock = 2 * _LARGEST[device.type], clock_of(device)
    floors = [Floor(size, device, copy) for copy in candidates]
    seconds: list[list[float]] = [[] for _ in floors]
    for _ in range(7):
        for floor, times in zip(floors, seconds, strict=True):
            times.append(clock(floor.run))
    rates = {copy.__name__: size / median(times[1:]) for copy, times in zip(candidates, seconds, strict=True)}
    return max(candidates, key=lambda copy: rates[copy.__name__]), rates
