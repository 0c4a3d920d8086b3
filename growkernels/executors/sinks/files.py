"""Grown tensors into the weight files of a new checkpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

import torch

from growkernels.executors.device import CPU
from growkernels.executors.files.shards import MappedShard, Shard
from growkernels.plans import Rule

#: Bytes of one transfer from a device to a file: large against a transfer's own cost, small against a host's memory.
_PIECE = 64 << 20


class FileSink:
    """Writes tensors into mapped files, in the order of the shards: computed in place on the CPU, else copied from the device.

    Memory is one tensor on the device and two page-locked buffers, whatever the size of the checkpoint.
    """

    bucket = 0

    def __init__(self, folder: Path, shards: Sequence[Shard], device: torch.device, background: Executor) -> None:
        """background: one thread, which copies and starts the disk on what is done while the next tensor is computed."""
        self._folder, self._background = folder, background
        self._shards = {name: shard for shard in shards for name in shard.entries}
        self._open: tuple[Shard, MappedShard] | None = None
        self._places: dict[str, torch.Tensor] = {}
        self._copies = None if device == CPU else _DeviceCopies(device, background)

    def empty(self, rule: Rule, device: torch.device) -> torch.Tensor:
        """The tensor's place in its file, or memory of the device."""
        place = self._places[rule.target] = self._file(rule).tensor(rule.target)
        return place if self._copies is None else torch.empty_like(place, device=device)

    def done(self, rule: Rule, tensor: torch.Tensor) -> None:
        """Copy the tensor to its place if it is elsewhere, and have the disk start on it."""
        file = self._file(rule)
        place = self._places.pop(rule.target, None)
        if place is None:
            place = file.tensor(rule.target)
        if self._copies is not None:
            self._copies.start(tensor, place)
        elif tensor is not place:
            place.copy_(tensor)
        self._background.submit(file.write_back, rule.target)

    def finish(self) -> None:
        """Wait until every tensor is in its place."""
        if self._copies is not None:
            self._copies.finish()

    def _file(self, rule: Rule) -> MappedShard:
        shard = self._shards[rule.target]
        if self._open is None or self._open[0] is not shard:
            self._open = shard, MappedShard(self._folder, shard)
        return self._open[1]


class _DeviceCopies:
    """Copies from a device to files through two page-locked buffers: the device fills one while a thread empties the other."""

    def __init__(self, device: torch.device, background: Executor) -> None:
        self._device, self._background = device, background
        locked = device.type != "cpu"
        buffers = [torch.empty(_PIECE, dtype=torch.uint8, pin_memory=locked) for _ in range(2)]
        self._buffers: deque[tuple[torch.Tensor, Future[None] | None]] = deque((buffer, None) for buffer in buffers)

    def start(self, tensor: torch.Tensor, place: torch.Tensor) -> None:
        """Start copying a tensor of the device to its place in a file."""
        count = _PIECE // place.itemsize
        for piece, target in zip(tensor.reshape(-1).split(count), place.reshape(-1).split(count), strict=True):
            buffer, copied = self._buffers.popleft()
            if copied is not None:
                copied.result()
            staged = buffer[: target.nbytes].view(target.dtype)
            staged.copy_(piece, non_blocking=True)
            remote = piece.device.type != "cpu"
            arrival = torch.accelerator.current_stream(self._device).record_event() if remote else None
            self._buffers.append((buffer, self._background.submit(_copy, arrival, staged, target)))

    def finish(self) -> None:
        """Wait for every copy. Raises what one of them raised."""
        for _, copied in self._buffers:
            if copied is not None:
                copied.result()


def _copy(arrival: torch.Event | None, staged: torch.Tensor, target: torch.Tensor) -> None:
    if arrival is not None:
        arrival.synchronize()
    target.copy_(staged)
