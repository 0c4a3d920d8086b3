"""One folder in the place of another, in one step, on the disk, and only if that one is what it was."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from growkernels.errors import GrowthError

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)

#: A folder's contents: of every entry below it the path, and what the operating system says that changes with it.
Contents = frozenset[tuple[str, int, int, int, int]]


class NotRestored(GrowthError):
    """A replacement failed half-way and could not be undone: nothing may be removed any more."""


def remove(folder: Path) -> None:
    """Remove a folder and what it holds, as far as that is possible."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        # File systems that are an interface of the kernel have files that come and go with their folder.
        folder.rmdir()


def sync_all(folder: Path) -> None:
    """Flush every file below a folder to the disk, and every folder after what it holds."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(place, name))
        sync_folder(Path(place))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder, which says what its files are called."""
    try:
        _sync(path)
    except OSError as error:
        # Some file systems do not flush folders: there is no more that could be done.
        if error.errno not in _UNSUPPORTED:
            raise


def contents(path: Path) -> Contents | None:
    """What a folder holds, itself included, for a comparison later; None if there is no such path."""
    if not os.path.lexists(path):
        return None
    found = [_entry(path, ".")]
    for place, folders, files in os.walk(path):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                found.append(_entry(Path(place, name), os.path.relpath(Path(place, name), path)))
    return frozenset(found)


def _entry(path: Path, name: str) -> tuple[str, int, int, int, int]:
    status = path.lstat()
    return name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def commit(folder: Path, path: Path, before: Contents | None) -> None:
    """Put `folder` in the place of `path`, which must hold what it did `before`; after a failure it still does.

    What `path` held is then where `folder` was, or gone. Raises GrowthError if `path` has changed, NotRestored if a failure
    could not be undone.
    """
    now = contents(path)
    if now not in (before, None):
        raise _changed(path, before)
    before = now
    try:
        old = _rename(folder, path, _NOREPLACE if before is None else _EXCHANGE)
    except FileExistsError as error:
        raise _changed(path, before) from error
    try:
        # Once more, of what was taken away: something may have come in the last moment.
        if contents(old) != before:
            raise _changed(path, before)
        sync_folder(path.parent)
    except BaseException:
        _restore(folder, path, old)
        raise
    if old != folder:
        remove(old)


def _changed(path: Path, before: Contents | None) -> GrowthError:
    if before is None:
        return GrowthError(f"{path} appeared during the growth; nothing was replaced. Name another folder.")
    return GrowthError(
        f"{path} was changed during the growth; nothing was replaced. See what came into it, or name another folder."
    )


def _restore(folder: Path, path: Path, old: Path) -> None:
    """Undo `_rename`; `old` is where it left what `path` held."""
    try:
        if not os.path.lexists(old):
            path.rename(folder)
        elif old == folder:
            _rename(folder, path, _EXCHANGE)
        else:
            path.rename(folder)
            old.rename(path)
    except OSError as error:
        kept = f" What it held before is in {old}: move it before another growth." if os.path.lexists(old) else ""
        raise NotRestored(f"{path} was replaced, and cannot be put back: {error}.{kept}") from error


def _rename(folder: Path, path: Path, flag: int) -> Path:
    """Rename in one step; where the file system cannot, in two, and the next run's cleaning closes the gap between them.

    Returns where the former `path` is now, if there was one.
    """
    code = _renameat2(folder, path, flag)
    if code == 0:
        return folder
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(path))
    old = folder.with_name(f"{folder.name}-old")
    if flag == _EXCHANGE:
        path.rename(old)
    elif os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    try:
        folder.rename(path)
    except OSError:
        if flag == _EXCHANGE:
            old.rename(path)
        raise
    return old


def _renameat2(old: Path, new: Path, flag: int) -> int:
    """Linux's rename with flags; returns 0 or the number of the error."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return errno.ENOSYS
    done = libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), ctypes.c_uint(flag)) == 0
    return 0 if done else ctypes.get_errno()
