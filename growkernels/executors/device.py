"""Devices that tensors are grown on, and the way there and back for a checkpoint's tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from concurrent.futures import Executor, Future

import torch

from growkernels import devices
from growkernels.errors import GrowthError
from growkernels.executors.memory import check_memory
from growkernels.executors.rules import Tensors
from growkernels.ops.backends import ops_of
from growkernels.ops.backends.registry import refusal

CPU = torch.device("cpu")
#: Bytes that travel at once from a device to a file: large against a transfer's own cost, small against a host's memory.
_PIECE = 64 << 20


def open_device(name: str | torch.device) -> torch.device:
    """The device of a name such as "cpu", "cuda" or "cuda:1". Raises GrowthError that says which there are."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise GrowthError(f"device {name!r} is not understood; expected {_available()}.") from error
    if device.type == "cpu":
        return CPU
    if device.type != "cuda" and refusal(None, device.type):
        raise GrowthError(f"device {name!r} cannot grow tensors; expected {_available()}.")
    if not (count := devices.count(device.type)):
        raise GrowthError(f"device {name!r} is not there: {devices.why_none(device.type)}; expected {_available()}.")
    index = torch.accelerator.current_device_index() if device.index is None else device.index
    if index >= count:
        raise GrowthError(f"device {name!r} is not there; expected {_available()}.")
    device = torch.device(device.type, index)
    ops_of(None, torch.empty(0, device=device))  # raises where no kernel runs on it
    return device


def _available() -> str:
    return " or ".join(["cpu", *devices.names()])


class Sent:
    """Tensors of a source on a device; on the CPU the source's own, not copied."""

    def __init__(self, source: Tensors, device: torch.device, names: Collection[str]) -> None:
        """Sends the named tensors. Raises GrowthError where there is no room for them."""
        self.name = source.name
        self.tensors = {name: spec for name, spec in source.tensors.items() if name in names}
        if device != CPU:
            check_memory(device, sum(spec.nbytes for spec in self.tensors.values()))
        self._values = {name: source.tensor(name).to(device, copy=device != CPU) for name in self.tensors}

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor, on the device."""
        return self._values[name]

    def forget(self, name: str) -> None:
        """Let go of a tensor that is not needed any more."""
        del self._values[name]


class Workplace:
    """Where a checkpoint's tensors are computed: straight in their files, or on a device and from there into the files.

    Results of a device go through two page-locked buffers: while one is filled by the device, `behind` (one thread)
    empties the other.
    """

    def __init__(self, device: torch.device, behind: Executor) -> None:
        self._device, self._behind = device, behind
        self._remote = device != CPU
        self._on_the_way: deque[tuple[torch.Tensor, Future[None] | None]] = deque()
        if self._remote:
            locked = device.type != "cpu"
            empty = [torch.empty(_PIECE, dtype=torch.uint8, pin_memory=locked) for _ in range(2)]
            self._on_the_way.extend((buffer, None) for buffer in empty)

    def fetch(self, weight: torch.Tensor) -> torch.Tensor:
        """A source tensor where it can be read."""
        return weight.to(self._device)

    def room(self, place: torch.Tensor) -> torch.Tensor:
        """Where to compute the tensor that belongs at `place` in a file."""
        return torch.empty_like(place, device=self._device) if self._remote else place

    def deliver(self, out: torch.Tensor, place: torch.Tensor) -> None:
        """Start bringing a computed tensor to its place; `finish` waits for it."""
        if not self._remote:
            return
        count = _PIECE // place.itemsize
        for piece, target in zip(out.reshape(-1).split(count), place.reshape(-1).split(count), strict=True):
            buffer, landing = self._on_the_way.popleft()
            if landing is not None:
                landing.result()
            staged = buffer[: target.nbytes].view(target.dtype)
            staged.copy_(piece, non_blocking=True)
            remote = piece.device.type != "cpu"
            arrival = torch.accelerator.current_stream(self._device).record_event() if remote else None
            self._on_the_way.append((buffer, self._behind.submit(_land, arrival, staged, target)))

    def finish(self) -> None:
        """Wait until every tensor is in its place."""
        for _, landing in self._on_the_way:
            if landing is not None:
                landing.result()


def _land(arrival: torch.Event | None, staged: torch.Tensor, target: torch.Tensor) -> None:
    if arrival is not None:
        arrival.synchronize()
    target.copy_(staged)
