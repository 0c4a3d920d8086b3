"""Accelerators: which there are and what they can do.

`torch.accelerator` serves any kind of device; this is the only file that asks `torch.cuda`, for what the former does not know.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch


def count(kind: str) -> int:
    """Number of devices of a type, such as "cuda", that this process can use."""
    accelerator = torch.accelerator.current_accelerator()
    return torch.accelerator.device_count() if accelerator is not None and accelerator.type == kind else 0


def why_none(kind: str) -> str:
    """Why there is no device of a type."""
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is not None and accelerator.type == kind:
        return "no GPU is visible"
    return f"torch {torch.__version__} is built without {kind.upper()}"


def names() -> list[str]:
    """The devices of the accelerator with what they are, such as "cuda:0 (NVIDIA H200)"."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    module = torch.get_device_module(accelerator)
    return [f"{accelerator.type}:{k} ({module.get_device_name(k)})" for k in range(torch.accelerator.device_count())]


def current(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which the device is the current one of its type."""
    return torch.get_device_module(device).device(device)


def cuda_device() -> tuple[str, tuple[int, int]] | None:
    """Name and compute capability of the current CUDA device, if there is one."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name(), torch.cuda.get_device_capability()


def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a CUDA device; (0, 0) of any other."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def processors(device: torch.device) -> int:
    """Number of multiprocessors of a CUDA device; 1 of any other."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured on the current stream."""
    return torch.cuda.is_current_stream_capturing()
