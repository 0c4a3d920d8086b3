"""Errors of the operating system at each file operation of a growth, by recorded calls: no tracer, no special file system.

A growth without errors says which calls there are. Then each of them fails once, with each error. What must hold: a
GrowthError and the destination as it was, or success and the destination as it should be; nothing else is left.
"""

from __future__ import annotations

import errno
import fcntl
import io
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from growkernels.errors import GrowthError
from growkernels.executors.files import exchange, staging
from tests.executors.support import grow, plan, snapshot, write_source
from tests.executors.test_side_files import modules, put
from tests.torture.fuzz import Findings

ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.ENOENT, errno.EINVAL)
#: The operations, and which of their arguments is a path or a descriptor that says whether a call is the growth's.
_OPERATIONS: tuple[tuple[Any, str, int], ...] = (
    (os, "open", 0),
    (os, "fsync", 0),
    (os, "mkdir", 0),
    (os, "rename", 0),
    (os, "fchmod", 0),
    (os, "posix_fallocate", 0),
    (os, "scandir", 0),
    (os, "listdir", 0),
    (os, "stat", 0),
    (os, "lstat", 0),
    (io, "open", 0),
    (mmap, "mmap", 0),
    (fcntl, "flock", 0),
    (shutil, "copyfileobj", 0),
    (exchange, "_renameat2", 0),
)


def in_memory() -> str | None:
    """A file system in memory if there is one: the calls are the same, and flushes take no time."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None


class Calls:
    """Counts the operations on files below a folder, and lets one of them fail."""

    def __init__(self, root: Path, fail_at: int | None = None, number: int = 0) -> None:
        self.names: list[str] = []
        self.failed = ""
        self._root, self._fail_at, self._number = str(root), fail_at, number

    def wrap(self, function: Callable[..., Any], name: str, where: int) -> Callable[..., Any]:
        """The operation, counted."""

        def counted(*arguments: Any, **keywords: Any) -> Any:
            if len(arguments) > where and self._is_ours(arguments[where]):
                self.names.append(name)
                if len(self.names) - 1 == self._fail_at:
                    self.failed = f"{name} of {Path(self._path(arguments[where]) or '').name}"
                    if name == "_renameat2":
                        return self._number
                    raise OSError(self._number, os.strerror(self._number), self._path(arguments[where]))
            return function(*arguments, **keywords)

        return counted

    def _is_ours(self, argument: Any) -> bool:
        path = self._path(argument)
        return path is not None and path.startswith(self._root)

    @staticmethod
    def _path(argument: Any) -> str | None:
        if isinstance(argument, str | os.PathLike):
            return os.fspath(argument)
        number = argument if isinstance(argument, int) else getattr(argument, "fileno", lambda: -1)()
        try:
            return os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            return None


@contextmanager
def recorded(root: Path, fail_at: int | None = None, number: int = 0) -> Iterator[Calls]:
    """A block whose file operations below `root` are counted, the one of number `fail_at` failing with an error."""
    calls = Calls(root, fail_at, number)
    with pytest.MonkeyPatch.context() as patch:
        for module, name, where in _OPERATIONS:
            patch.setattr(module, name, calls.wrap(getattr(module, name), name, where))
        yield calls


def inject(folder: Path, overwrite: bool, every: int = 1, time_left: Callable[[], bool] = lambda: True) -> Findings:
    """A growth for each call (or each `every`th) and each error."""
    src, work = write_source(folder / "src"), folder / "work"
    modules(src)
    put(src, "my_tokenizer/inner/vocab.txt")
    put(src, "runs/events.out.tfevents.1")
    work.mkdir()
    dst = work / "dst"
    old: dict[str, str] = {}
    if overwrite:
        grow(src, dst, plan(snr_db=5.0))
        old = snapshot(dst)
    grow(src, folder / "wanted", plan(snr_db=10.0), max_shard_size=20_000)
    wanted = snapshot(folder / "wanted")
    with recorded(folder) as calls:
        grow(src, dst, plan(snr_db=10.0), overwrite, max_shard_size=20_000)
    findings = Findings()
    for at in range(0, len(calls.names), every):
        for number in ERRORS:
            if not time_left():
                return findings
            _restore(src, dst, old)
            name = f"call {at}, {errno.errorcode[number]}, {'over' if overwrite else 'without'} an old one"
            _try(name, folder, src, dst, (at, number, overwrite), (old, wanted), findings)
    return findings


def _restore(src: Path, dst: Path, old: dict[str, str]) -> None:
    """The destination before a growth: nothing, or the old checkpoint."""
    if (snapshot(dst) if dst.exists() else {}) != old:
        shutil.rmtree(dst, ignore_errors=True)
        if old:
            grow(src, dst, plan(snr_db=5.0))


def _try(
    name: str,
    folder: Path,
    src: Path,
    dst: Path,
    how: tuple[int, int, bool],
    states: tuple[dict[str, str], dict[str, str]],
    findings: Findings,
) -> None:
    at, number, overwrite = how
    old, wanted = states
    said, done = "", False
    try:
        with recorded(folder, at, number) as calls:
            grow(src, dst, plan(snr_db=10.0), overwrite, max_shard_size=20_000)
        done = True
        findings.read += 1
    except GrowthError as error:
        said = str(error)
        findings.refused += 1
    except Exception as error:
        findings.failures.append(f"{name}: {calls.failed}: {type(error).__name__}: {error}")
    now = snapshot(dst) if dst.exists() else {}
    # The manifest names the destination's verification only, so that two growths of one plan have the same bytes.
    if now != (wanted if done else old):
        findings.failures.append(f"{name}: {'done' if done else said or 'an error'}, and DST is {sorted(now)}")
    # Where the removal itself failed, the next run removes what is left.
    staging._remove_leftovers(dst)
    left = sorted(path.name for path in dst.parent.iterdir() if path != dst)
    if left:
        findings.failures.append(f"{name}: leaves {left}")
