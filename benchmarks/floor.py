"""The copy floor: the same bytes moved by the fastest plain copy this machine offers, into memory that exists already."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import torch
from torch import Tensor

from benchmarks.clock import clock_of
from growkernels import ops

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


def streamed(target: Tensor, source: Tensor) -> None:
    """By `replicate_`, past the caches: where the C library takes them for larger than a copy is, nothing else does that.

    On an Intel Xeon whose third cache has 260 MB, 84 MB for each thread were copied at 18 GB/s by the C library, at 37 by this.
    """
    words = source.numel() // 4 * 4
    ops.replicate_([target[:words].view(torch.float32)], [source[:words].view(torch.float32)], [0])
    target[words:].copy_(source[words:])


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


def copies(device: torch.device) -> tuple[Copy, ...]:
    """Every plain copy there is."""
    return (torch_copy,) if device.type == "cuda" else (torch_copy, memmove_pieces, memmove_shares, streamed)


def fastest_floor(bytes: int, device: torch.device) -> Floor:
    """The floor by the copy that is fastest at this size; some are fast on large buffers alone."""
    floor, clock = Floor(bytes, device, torch_copy), clock_of(device)

    def seconds(copy: Copy) -> float:
        floor.copy = copy
        return median(clock(floor.run) for _ in range(3))

    candidates = copies(device)
    floor.copy = min(candidates, key=seconds) if len(candidates) > 1 else candidates[0]
    return floor


def copy_rates(device: torch.device) -> dict[str, float]:
    """Bytes per second (read + written) of each copy on the largest buffers."""
    size, clock = 2 * _LARGEST[device.type], clock_of(device)
    floors = [Floor(size, device, copy) for copy in copies(device)]
    seconds: list[list[float]] = [[] for _ in floors]
    for _ in range(7):
        for floor, times in zip(floors, seconds, strict=True):
            times.append(clock(floor.run))
    return {f.copy.__name__: size / median(times[1:]) for f, times in zip(floors, seconds, strict=True)}
