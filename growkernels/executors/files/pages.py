"""What the page cache is told about pages to come and pages that are done."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WRITE = 2


def start_write_back(path: Path, start: int, length: int) -> None:
    """Have the kernel start writing a range of a file; returns before it is written.

    A hint, so that the disk works while tensors are computed: where it fails, the flush at the end writes everything.
    """
    sync_file_range = getattr(_LIBC, "sync_file_range", None)
    if sync_file_range is None:
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        sync_file_range(
            descriptor, ctypes.c_int64(start), ctypes.c_int64(length), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
        )
    finally:
        os.close(descriptor)
