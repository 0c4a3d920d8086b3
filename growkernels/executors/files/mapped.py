"""Files read by memory map, and whether they are still what they were when they were opened."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import warnings
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

from growkernels.errors import GrowthError


class Identity(NamedTuple):
    """What tells a file from the one that it was: device and inode, size, and time of the last change in nanoseconds."""

    device: int
    inode: int
    size: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """The identity in what the operating system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class MappedFile:
    """A file that is read as pages of the page cache, never as a copy in memory.

    A page that the file does not have any more ends the process (SIGBUS) when it is read. So users call `check` before
    they read a part: what is left is a file that is cut short in the middle of such a part.
    """

    def __init__(self, path: Path) -> None:
        """Notes what the file is now; it is mapped when `data` is asked for."""
        self.path = path
        self.identity = Identity.of(path.stat())

    def check(self) -> None:
        """Raise GrowthError if the file has been changed, replaced or removed since it was opened."""
        try:
            now = Identity.of(self.path.stat())
        except OSError as error:
            raise GrowthError(f"{self.path} is gone since it was opened ({error.strerror}): {_REMEDY}") from error
        if now != self.identity:
            raise changed(self.path, self.identity, now)

    @cached_property
    def data(self) -> torch.Tensor:
        """The file as a read-only uint8 tensor [size]. Writing to it ends the process."""
        try:
            with self.path.open("rb") as file, warnings.catch_warnings():
                if Identity.of(os.fstat(file.fileno())) != self.identity:
                    self.check()
                if not self.identity.size:
                    return torch.empty(0, dtype=torch.uint8)
                # A private writable map would be quiet, but the kernel refuses one that is larger than RAM and swap.
                warnings.filterwarnings("ignore", message="The given buffer is not writable")
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                return torch.frombuffer(pages, dtype=torch.uint8)
        except OSError as error:
            raise cannot_open(self.path, error) from error


_REMEDY = "the source must stay as it is while it is read. Copy it or wait until it is written, and run again."


def changed(path: Path, before: Identity, now: Identity) -> GrowthError:
    """The error for a file that is not any more what it was when it was opened."""
    return GrowthError(f"{path} has changed since it was opened ({_difference(before, now)}): {_REMEDY}")


def _difference(before: Identity, now: Identity) -> str:
    if (before.device, before.inode) != (now.device, now.inode):
        return "another file is in its place"
    if before.size != now.size:
        return f"it had {before.size:,} bytes and has {now.size:,}"
    return "it was written to"


def cannot_open(path: Path, error: OSError) -> GrowthError:
    """The error for a file that the operating system does not open, read or map."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return GrowthError(
            f"{path} cannot be opened: {error.strerror}. Every weights file takes one descriptor; raise their number "
            f"(ulimit -n), or save the checkpoint in fewer files."
        )
    if isinstance(error, FileNotFoundError):
        # Names come from listings: somebody removed it.
        return GrowthError(f"{path} is gone since its folder was listed: {_REMEDY}")
    return GrowthError(f"{path} cannot be read: {error.strerror or error}.")


def aligned(raw: torch.Tensor) -> torch.Tensor:
    """A copy of bytes at an aligned address, in an unlinked file and not in memory."""
    if not len(raw):
        return raw.clone()
    with tempfile.TemporaryFile() as file:
        file.write(raw.numpy().data)
        file.flush()
        return torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8)
