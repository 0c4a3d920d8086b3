"""Building a folder out of sight and putting it in place in one step, so that no failure leaves half a checkpoint."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from growkernels.errors import GrowthError
from growkernels.executors.files.stopping import Stoppable

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
#: What the operating system says of the place that the user named; every other error is ours.
_USERS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EBUSY,
    errno.ENAMETOOLONG,
)


def check_destination(dst: Path, source: Path | None = None, overwrite: bool = False) -> Path:
    """The absolute path that a growth may write, or a GrowthError that says why it may not. Writes nothing.

    source: the folder that is read, if any; neither folder may hold the other.
    """
    given = dst.expanduser()
    path = given.resolve() if given.name in ("", "..") else given.parent.resolve() / given.name
    if not path.parent.is_dir():
        raise GrowthError(f"{dst}: the folder {path.parent} does not exist; make it first.")
    if source is not None:
        origin = source.resolve()
        if origin in (path, path.resolve()):
            raise GrowthError(f"{dst} is the source itself; name another folder.")
        if origin in path.resolve().parents:
            raise GrowthError(f"{dst} is inside the source {source}; name a folder outside of it.")
        if path in origin.parents:
            raise GrowthError(f"{dst} holds the source {source}; name a folder beside it.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise GrowthError(f"{dst}: the folder {path.parent} is not writable; choose another place.")
    if not os.path.lexists(path):
        return path
    if not overwrite:
        raise GrowthError(f"{dst} exists; name a new folder, or replace it with --overwrite.")
    if path.is_symlink() or not path.is_dir():
        raise GrowthError(f"{dst} is not a folder but a file or a link; remove it or name another folder.")
    if any(path.iterdir()) and not ((path / "config.json").is_file() and _has_weights(path)):
        raise GrowthError(
            f"{dst} does not look like a checkpoint, with config.json and weights; --overwrite replaces nothing else."
        )
    return path


def _has_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin"))


@contextmanager
def staged(dst: Path, overwrite: bool = False, source: Path | None = None) -> Iterator[Path]:
    """A hidden empty folder beside `dst` that becomes `dst` when the block ends well, and vanishes when it does not.

    Everything is flushed to disk before the renaming, which is one step: a crash leaves what was there or what is new.
    SIGTERM and SIGHUP end the block as Ctrl-C does. What a killed run of the same `dst` left is removed first. Raises
    GrowthError if `dst` may not be written (`check_destination`) or another run is at work on it.
    """
    path = check_destination(dst, source, overwrite)
    _remove_leftovers(path)
    # Once more: the cleaning may have put back what a crash had left half renamed.
    check_destination(dst, source, overwrite)
    folder = path.parent / f".{path.name}.growkernels-{secrets.token_hex(4)}"
    lock = -1
    with Stoppable() as run:
        try:
            try:
                folder.mkdir()
                lock = _lock(folder)
                yield folder
                for part in [folder, *folder.rglob("*")]:
                    _sync(part)
            finally:
                run.deaf = True
            _commit(folder, path, overwrite)
        except OSError as error:
            if error.errno not in _USERS:
                raise
            raise GrowthError(f"{dst} cannot be written: {error}. It is as it was before.") from error
        finally:
            # After an exchange this is what `dst` held before.
            shutil.rmtree(folder, ignore_errors=True)
            if lock >= 0:
                os.close(lock)


def _lock(folder: Path) -> int:
    """Mark the folder as held by a live process, as far as the file system can."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _remove_leftovers(path: Path) -> None:
    """Remove staging folders of `path` that no live process holds."""
    ours = re.compile(re.escape(f".{path.name}.growkernels-") + "[0-9a-f]{8}(-old)?")
    for folder in [p for p in path.parent.iterdir() if ours.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GrowthError(
                f"another growth is writing {path} (in {folder.name}); wait for it or stop it."
            ) from error
        except OSError:
            # No locks on this file system: nobody can tell whether the folder is in use.
            continue
        else:
            if folder.name.endswith("-old") and not path.exists():
                folder.rename(path)
            else:
                shutil.rmtree(folder)
        finally:
            os.close(lock)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _commit(folder: Path, path: Path, overwrite: bool) -> None:
    try:
        _rename(folder, path, _EXCHANGE if overwrite and path.exists() else _NOREPLACE)
    except FileExistsError as error:
        raise GrowthError(f"{path} appeared during the growth; nothing was replaced. Name another folder.") from error
    _sync(path.parent)


def _rename(folder: Path, path: Path, flag: int) -> None:
    """Rename in one step; where the file system cannot, in two, whose gap the next run's cleaning mends."""
    code = _renameat2(folder, path, flag)
    if code == 0:
        return
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(path))
    if flag == _NOREPLACE:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        folder.rename(path)
        return
    old = folder.with_name(f"{folder.name}-old")
    path.rename(old)
    folder.rename(path)
    shutil.rmtree(old)


def _renameat2(old: Path, new: Path, flag: int) -> int:
    """Linux's rename with flags; returns 0 or the number of the error."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return errno.ENOSYS
    done = libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), ctypes.c_uint(flag)) == 0
    return 0 if done else ctypes.get_errno()
