"""Devices that tensors are grown on."""

from __future__ import annotations

import torch

from growkernels.errors import GrowthError
from growkernels.ops.backends.backend import ops_of

CPU = torch.device("cpu")


def open_device(name: str | torch.device) -> torch.device:
    """The device of a name such as "cpu", "cuda" or "cuda:1". Raises GrowthError that says which there are."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise GrowthError(f"device {name!r} is not understood; expected {_available()}.") from error
    if device.type == "cpu":
        return CPU
    if device.type != "cuda":
        raise GrowthError(f"device {name!r} cannot grow tensors; expected {_available()}.")
    if not torch.cuda.is_available():
        why = "no GPU is visible" if torch.version.cuda else f"torch {torch.__version__} is built without CUDA"
        raise GrowthError(f"device {name!r} is not there: {why}; expected {_available()}.")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise GrowthError(f"device {name!r} is not there; expected {_available()}.")
    device = torch.device("cuda", index)
    ops_of(None, torch.empty(0, device=device))  # raises where no kernel runs on it
    return device


def _available() -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(count)]
    return " or ".join(["cpu", *gpus])
