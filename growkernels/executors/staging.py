"""Building a folder out of sight and putting it in place in one step, so that no failure leaves half a checkpoint."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from growkernels.errors import GrowthError

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


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
    if any(path.iterdir()) and not (path / "config.json").is_file():
        raise GrowthError(
            f"{dst} does not look like a checkpoint: it has no config.json; --overwrite replaces only those."
        )
    return path


@contextmanager
def staged(dst: Path, overwrite: bool = False, source: Path | None = None) -> Iterator[Path]:
    """A hidden empty folder beside `dst` that becomes `dst` when the block ends well, and vanishes when it does not.

    Everything is flushed to disk before the renaming, which is one step: a crash leaves what was there or what is new.
    SIGTERM and SIGHUP end the block as Ctrl-C does. What a killed run of the same `dst` left is removed first. Raises
    GrowthError if `dst` may not be written (`check_destination`) or another run is at work on it.
    """
    path = check_destination(dst, source, overwrite)
    _remove_leftovers(path)
    folder = path.parent / f".{path.name}.growkernels-{secrets.token_hex(4)}"
    lock = -1
    with _stoppable():
        try:
            try:
                folder.mkdir()
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise GrowthError(f"{dst}: cannot make a folder beside it: {error}.") from error
            yield folder
            _flush(folder)
            _commit(folder, path, overwrite)
        finally:
            with _deaf():
                # After an exchange this is what `dst` held before.
                shutil.rmtree(folder, ignore_errors=True)
                if lock >= 0:
                    os.close(lock)


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
        else:
            if folder.name.endswith("-old") and not path.exists():
                folder.rename(path)
            else:
                shutil.rmtree(folder)
        finally:
            os.close(lock)


def _flush(folder: Path) -> None:
    for path in [folder, *folder.rglob("*"), folder.parent]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _commit(folder: Path, path: Path, overwrite: bool) -> None:
    try:
        if not overwrite or not path.exists():
            _rename(folder, path, _NOREPLACE)
        else:
            _rename(folder, path, _EXCHANGE)
    except FileExistsError as error:
        raise GrowthError(f"{path} appeared during the growth; nothing was replaced. Name another folder.") from error
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(folder: Path, path: Path, flag: int) -> None:
    """renameat2; where the file system has no such flag, plain renames, whose gap the next run's clean-up mends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(folder), _AT_FDCWD, os.fsencode(path), flag) == 0:
        return
    code = ctypes.get_errno()
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(path))
    if flag == _NOREPLACE:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        folder.rename(path)
        return
    old = folder.with_name(f"{folder.name}-old")
    with _deaf():
        path.rename(old)
        folder.rename(path)
        shutil.rmtree(old)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exit that unwinds, where nobody else handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    mine = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold back the signals that stop a run; the first of them is raised at the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    late: list[int] = []
    before = {number: signal.getsignal(number) for number in _STOPPING}
    for number in before:
        signal.signal(number, lambda number, frame: late.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if late:
            signal.raise_signal(late[0])
