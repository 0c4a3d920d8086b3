"""A half-trained operator on the disk: one safetensors file, its tensors and, in the metadata, the rest."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.executors.files.exchange import sync_folder

#: Format 3 names plans by their digests of format 2.
_KEY, _FORMAT = "growkernels", 3
_GROUPS = ("matrices", "exp_avg", "exp_avg_sq")
_REST = ("options", "plan_digest", "source_digest", "losses", "fit")


@dataclass(frozen=True, slots=True)
class State:
    """Matrices and Adam's moments by name, and the losses so far.

    `options` are the growth's, `plan_digest` is that of the plan without matrices, `source_digest` that of the checkpoint, None
    for a live model. `fit` holds what a fit on a text must have alike to go on, and is None where batches are the caller's.
    """

    options: dict[str, Any]
    plan_digest: str
    source_digest: str | None
    losses: list[float]
    fit: dict[str, Any] | None
    matrices: dict[str, Tensor]
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]


def write_state(path: Path, state: State) -> None:
    """Write or replace the file in one step: however the process or the machine ends, it is the old one or the new one.
    Its folder is made if need be.

    Raises GrowthError where the file cannot be written.
    """
    tensors = {
        f"{group}/{name}": value.contiguous() for group in _GROUPS for name, value in getattr(state, group).items()
    }
    rest = {"format": _FORMAT, **{name: getattr(state, name) for name in _REST}}
    data = save(tensors, metadata={_KEY: json.dumps(rest)})
    part = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_alone(part) as file:
            try:
                file.truncate(0)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise GrowthError(
            f"{path} cannot be written: {error.strerror or error}. What it held before is still there; make room, or name "
            f"another place."
        ) from error
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise GrowthError(
            f"{path} was written, but its folder cannot be flushed to the disk ({error.strerror or error}): after a crash "
            f"of the machine it may hold what it held before. Name another place."
        ) from error


def read_state(path: Path) -> State:
    """What `write_state` wrote. Raises GrowthError for what is missing, damaged or another file."""
    try:
        with safe_open(path, "pt") as file:
            rest = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            if rest.get("format") in (1, 2):
                raise GrowthError(
                    f"{path} was saved by an older growkernels, in format {rest['format']}; this version reads format "
                    f"{_FORMAT}, as plans have another form now. Go on with the version that saved it, or name a new file and "
                    f"fit again."
                )
            if rest.get("format") != _FORMAT:
                raise GrowthError(
                    f"{path} is no half-trained operator of format {_FORMAT}, which this version reads; name one, or a new "
                    f"file, and fit again."
                )
            groups: dict[str, dict[str, Tensor]] = {group: {} for group in _GROUPS}
            for key in file.keys():  # noqa: SIM118 (the file is no mapping)
                group, _, name = key.partition("/")
                groups[group][name] = file.get_tensor(key)
        fields: dict[str, Any] = {name: _checked(name, rest[name]) for name in _REST} | groups
        return State(**fields)
    except GrowthError:
        raise
    except OSError as error:
        raise GrowthError(
            f"{path} cannot be read: {error.strerror or error}. Name what a fit or `save` wrote, or fit again."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise GrowthError(
            f"{path} is no half-trained operator, or a damaged one: {type(error).__name__} {error}. Name another file, or "
            f"remove it and fit again."
        ) from error


def _checked(name: str, value: Any) -> Any:
    """An entry of the metadata. Raises ValueError if it is not of its kind."""
    good = {
        "options": isinstance(value, dict),
        "plan_digest": isinstance(value, str),
        "source_digest": isinstance(value, str | None),
        "losses": isinstance(value, list) and all(isinstance(loss, float) for loss in value),
        "fit": isinstance(value, dict | None),
    }
    if not good[name]:
        raise ValueError(f"its {name} is a {type(value).__name__}, or holds what it may not")
    return value


def _open_alone(part: Path) -> BinaryIO:
    """The file to be written, held against other runs that write it; what a killed one left of it is taken over.

    A link, another user's file, and what is no file at all are removed: in a folder that others may write to, they would
    lead what is written somewhere else.
    """
    while True:
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            part.unlink(missing_ok=True)
            continue
        file = os.fdopen(descriptor, "ab")
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            file.close()
            part.unlink(missing_ok=True)
            continue
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), part.lstat()):
                return file
        # While this run waited, another one moved it into place.
        file.close()
