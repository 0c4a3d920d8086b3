"""Building a folder out of sight and putting it in place in one step, so that no failure leaves half a checkpoint."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from growkernels.errors import GrowthError
from growkernels.executors.files.exchange import NotRestored, commit, contents, remove, sync_all
from growkernels.executors.files.mapped import cannot_open
from growkernels.executors.files.paths import user_path
from growkernels.executors.files.stopping import Stoppable

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
    try:
        return _checked(dst, source, overwrite)
    except OSError as error:
        raise GrowthError(f"{dst} cannot be looked at: {error}. Choose another place.") from error


def _checked(dst: Path, source: Path | None, overwrite: bool) -> Path:
    given = user_path(dst)
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

    Files are flushed to the disk, then their folders, before the renaming, which is one step, and the parent folder after
    it: a crash leaves what was there or what is new. What `dst` holds is replaced only if it is still what it was at the
    start. SIGTERM and SIGHUP end the block as Ctrl-C does. What a killed run of the same `dst` left is removed first.
    Raises GrowthError if `dst` may not be written (`check_destination`), cannot be, or another run is at work on it.
    """
    path = check_destination(dst, source, overwrite)
    with Stoppable() as run:
        # Until the folder is known to what removes it.
        run.deaf = True
        with _written(dst):
            folder, lock = _make(path)
        finished = True
        try:
            try:
                run.hear()
                # Once more: the cleaning may have put back what a crash had left half renamed.
                check_destination(dst, source, overwrite)
                with _written(dst):
                    before = contents(path)
                yield folder
                with _written(dst):
                    sync_all(folder)
                run.check()
            finally:
                run.deaf = True
            with _written(dst):
                commit(folder, path, before)
        except OSError as error:
            place = Path(str(error.filename))
            if source is not None and place.is_relative_to(source):
                raise cannot_open(place, error) from error
            if error.errno in _USERS or place.is_relative_to(folder):
                raise _cannot_write(dst, error) from error
            raise
        except NotRestored:
            finished = False
            raise
        finally:
            if finished:
                # After an exchange this is what `dst` held before.
                remove(folder)
            os.close(lock)


@contextmanager
def _written(dst: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(dst, error) from error


def _cannot_write(dst: Path, error: OSError) -> GrowthError:
    return GrowthError(f"{dst} cannot be written: {error}. It is as it was before.")


def _make(path: Path) -> tuple[Path, int]:
    """A new hidden folder beside `path` and the lock that marks it as held by a live process.

    Between the two, a run that cleans up may take the folder for a dead one's: then this one begins again, and finds that
    run at work.
    """
    while True:
        _remove_leftovers(path)
        folder = path.parent / f".{path.name}.growkernels-{secrets.token_hex(4)}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        lock = -1
        try:
            lock = _lock(folder)
            if os.path.samestat(os.fstat(lock), folder.stat()):
                _remove_leftovers(path, besides=folder)
                return folder, lock
        except FileNotFoundError:
            pass
        except BaseException:
            remove(folder)
            if lock >= 0:
                os.close(lock)
            raise
        if lock >= 0:
            os.close(lock)


def _lock(folder: Path) -> int:
    """Mark the folder as held by a live process, as far as the file system can."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _remove_leftovers(path: Path, besides: Path | None = None) -> None:
    """Remove this user's staging folders of `path` that no live process holds."""
    ours = re.compile(re.escape(f".{path.name}.growkernels-") + "[0-9a-f]{8}(-old)?")
    for folder in [p for p in path.parent.iterdir() if ours.fullmatch(p.name) and p != besides]:
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            # A file, a link, another user's folder, or gone since.
            continue
        try:
            # In a folder that others may write to, a name proves nothing.
            if os.fstat(lock).st_uid != os.geteuid():
                continue
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
                remove(folder)
        finally:
            os.close(lock)
