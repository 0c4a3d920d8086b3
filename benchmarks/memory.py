"""Memory around one call: the peak above what was there before it, and free memory that is really there."""

from __future__ import annotations

import ctypes
import gc
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_SMALL_PAGE = 4096


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


def touch(size: int) -> None:
    """Take `size` bytes from the system, write to every page and give them back.

    A virtual machine may hand its free memory back to the host within seconds, huge pages first; the next to take it waits
    for the host (18 GB: 49 s after a rest, 4 s at once after that), however it was going to use it.
    """
    if not size or not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages.madvise(mmap.MADV_HUGEPAGE)
        np.frombuffer(pages, np.uint8)[::_SMALL_PAGE] = 1


def _resident(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024
