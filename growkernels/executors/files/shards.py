"""Which tensor goes into which file of a grown checkpoint, and the files themselves, mapped to be written in place."""

from __future__ import annotations

import errno
import json
import mmap
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from growkernels.errors import GrowthError
from growkernels.executors.files.mapped import cannot_open
from growkernels.executors.files.pages import start_write_back
from growkernels.executors.files.safetensors_file import Entry, header, view
from growkernels.plans import TensorSpec

DEFAULT_SHARD_SIZE = 5 * 10**9
_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B|)\s*")


@dataclass(frozen=True, slots=True)
class Shard:
    """One file: its header's bytes, and where each tensor goes."""

    file: str
    header: bytes
    entries: Mapping[str, Entry]

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return max((entry.end for entry in self.entries.values()), default=len(self.header))


def parse_size(text: str | int) -> int:
    """Bytes of a size such as "5GB" (10^9), "512MiB" (2^20) or 4096. Raises GrowthError if it is none or zero."""
    match = _SIZE.fullmatch(str(text).upper())
    size = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size < 1:
        raise GrowthError(
            f"the size {text!r} is not understood; expected a number of bytes, or one with KB, MB, GB or GiB."
        )
    return size


def plan_shards(specs: Mapping[str, TensorSpec], max_size: int = DEFAULT_SHARD_SIZE) -> list[Shard]:
    """Files of at most `max_size` bytes of tensors, filled in order; a larger tensor has a file of its own."""
    groups: list[dict[str, TensorSpec]] = [{}]
    room = max_size
    for name, spec in specs.items():
        if spec.nbytes > room and groups[-1]:
            groups.append({})
            room = max_size
        groups[-1][name] = spec
        room -= spec.nbytes
    names = [f"model-{i + 1:05}-of-{len(groups):05}.safetensors" for i in range(len(groups))]
    if len(groups) == 1:
        names = ["model.safetensors"]
    return [Shard(name, *header(group)) for name, group in zip(names, groups, strict=True)]


def check_room(folder: Path, needed: int) -> None:
    """Raise GrowthError if the folder's disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise GrowthError(
            f"the grown checkpoint needs {needed:,} bytes ({needed / 1e9:.1f} GB), {folder.parent} has {free:,} "
            f"({free / 1e9:.1f} GB) free; make room or choose another disk."
        )


class MappedShard:
    """A new file with all its room on the disk, mapped so that its tensors are written in place."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        """Make the file. Its room is taken first: writing into a map of a full disk would end the process.

        Raises GrowthError if there is no room.
        """
        try:
            opened = (folder / shard.file).open("xb+")
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise cannot_open(folder / shard.file, error) from error
            raise
        with opened as file:
            try:
                os.posix_fallocate(file.fileno(), 0, shard.nbytes)
                file.write(shard.header)
                file.flush()
                pages = mmap.mmap(file.fileno(), shard.nbytes)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise cannot_open(folder / shard.file, error) from error
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise GrowthError(f"no room for {shard.file}, {shard.nbytes:,} bytes: {error.strerror}.") from error
                raise GrowthError(
                    f"{folder.parent} cannot hold {shard.file}: {error.strerror}. Weights are written by memory map; "
                    f"choose a place on another file system."
                ) from error
            self._path, self._entries = folder / shard.file, shard.entries
            with suppress(OSError):
                # One fault for 2 MiB and not for every 4 KiB: half the time in the kernel (ext4, Linux 6.18).
                pages.madvise(mmap.MADV_HUGEPAGE)
            self._data = torch.frombuffer(pages, dtype=torch.uint8)

    def tensor(self, name: str) -> torch.Tensor:
        """The place of a tensor, to write into."""
        return view(self._data, self._entries[name])

    def write_back(self, name: str) -> None:
        """Have the disk start on a tensor that is done; does not wait for it."""
        entry = self._entries[name]
        start_write_back(self._path, entry.start, entry.end - entry.start)


def write_index(folder: Path, shards: Sequence[Shard]) -> None:
    """The index that names the file of every tensor; none for a single file."""
    if len(shards) == 1:
        return
    entries = [entry.spec for shard in shards for entry in shard.entries.values()]
    metadata = {"total_parameters": sum(s.numel for s in entries), "total_size": sum(s.nbytes for s in entries)}
    index = {"metadata": metadata, "weight_map": {name: shard.file for shard in shards for name in shard.entries}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
