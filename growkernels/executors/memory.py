"""How much memory can be had, asked before a growth that could not be undone."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import torch

from growkernels.errors import GrowthError

#: Where control groups 2 say what the container may have.
_GROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that can be had on a device, the CPU by default.

    On the CPU without swapping, inside the limits of the container and of the process (RLIMIT_AS); on a GPU with what torch
    has set aside there.
    """
    if device is not None and device.type != "cpu":
        cached = torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)
        return torch.accelerator.get_memory_info(device)[0] + cached
    return max(0, min(psutil.virtual_memory().available, _free_in_group(), _free_in_process()))


def _free_in_group() -> int:
    """Bytes that the container's limit leaves, of which what the system can drop, pages of files, counts as free."""
    try:
        used = int((_GROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        return int((_GROUP / "memory.max").read_text()) - used + int(statistics.get("inactive_file", 0))
    except (OSError, ValueError):  # no such limit
        return sys.maxsize


def _free_in_process() -> int:
    """Bytes of addresses that the limit of the process leaves (`ulimit -v`)."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - psutil.Process().memory_info().vms


def check_memory(device: torch.device, needed: int) -> None:
    """Raise GrowthError if the device has less than `needed` bytes."""
    free = free_memory(device)
    if free < needed:
        raise GrowthError(
            f"the grown model needs {needed:,} bytes ({needed / 1e9:.1f} GB) more on {device} at its peak, {free:,} "
            f"({free / 1e9:.1f} GB) can be had; free some (an optimizer's state, for one), grow on another device, or grow "
            f"the checkpoint: that takes no memory to speak of."
        )
