"""A source on another device than its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from growkernels.executors.device import CPU
from growkernels.executors.sources.base import Tensors
from growkernels.rules.tensor import TensorSpec


class DeviceSource:
    """Another source's tensors on a device: copied when first asked for, held until freed. On the CPU they are not copied."""

    def __init__(self, source: Tensors, device: torch.device) -> None:
        self.name = source.name
        self.tensors: Mapping[str, TensorSpec] = source.tensors
        self._source, self._device = source, device
        self._held: dict[str, torch.Tensor] = {}

    def device(self, name: str) -> torch.device:
        """The device."""
        return self._device

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor, on the device."""
        if name not in self._held:
            self._held[name] = self._source.tensor(name).to(self._device, copy=self._device != CPU)
        return self._held[name]

    def free(self, name: str) -> None:
        """Drop the copy of a tensor."""
        self._held.pop(name, None)
