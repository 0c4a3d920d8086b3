"""Devices that tensors are grown on."""

from __future__ import annotations

import torch

from growkernels import devices
from growkernels.errors import GrowthError
from growkernels.ops.backends import ops_of
from growkernels.ops.backends.registry import refusal

CPU = torch.device("cpu")


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
