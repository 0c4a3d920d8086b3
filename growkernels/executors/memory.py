"""How much memory can be had, asked before a growth that could not be undone."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from growkernels.errors import GrowthError


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that can be had on a device, the CPU by default.

    On the CPU without swapping and inside the container's limit; on a GPU with what torch has set aside there.
    """
    if device is not None and device.type != "cpu":
        cached = torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)
        return torch.accelerator.get_memory_info(device)[0] + cached
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")  # control groups 2
    try:
        limit = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such limit
        return free
    return max(0, min(free, limit))


def check_memory(device: torch.device, needed: int) -> None:
    """Raise GrowthError if the device has less than `needed` bytes."""
    free = free_memory(device)
    if free < needed:
        raise GrowthError(
            f"the grown model needs {needed:,} bytes ({needed / 1e9:.1f} GB) more on {device} at its peak, {free:,} "
            f"({free / 1e9:.1f} GB) can be had; free some (an optimizer's state, for one), grow on another device, or grow "
            f"the checkpoint: that takes no memory to speak of."
        )
