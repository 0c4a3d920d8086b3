"""Memory of providers: the peak of one call above what was there before it; and what they free, kept."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
#: Numbers of `mallopt`: of allocations that are mapped for themselves, and of free bytes that go back to the system.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1


def peak_above(run: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes: resident memory on a CPU (Linux only, else None), the allocator's count on a GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not _RESET.exists():
        return None
    # What free() keeps for reuse would hide allocations.
    ctypes.CDLL(None).malloc_trim(0)
    _RESET.write_text("5")
    before = _resident("VmRSS")
    run()
    return max(0, _resident("VmHWM") - before)


def recycle() -> None:
    """From now on the process keeps memory that it frees, as a GPU's allocator does, and takes it again first.

    Otherwise every provider pays for the system's pages, and in a virtual machine for the host's: such a machine may hand
    free memory back to its host within seconds (18 GB took 49 s to touch after a rest, 4 s at once after that), so that a
    time shows what others took and freed before it. Does nothing without the GNU C library.
    """
    limits = getattr(ctypes.CDLL(None), "mallopt", None)
    if limits is not None:
        limits(_MMAP_MAX, 0)
        limits(_TRIM_THRESHOLD, -1)


def _resident(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024
