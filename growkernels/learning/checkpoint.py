"""The checkpoint of a fit on a text: its state in a file, now and then, from which a fit that was stopped goes on."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

from growkernels.errors import GrowthError
from growkernels.learning.growth import LearnedGrowth
from growkernels.learning.state import State, read_state, write_state

#: At least so many seconds between two writings, and so many times what the last one took: at most 5 % of a fit's time.
_SECONDS, _TIMES = 30.0, 20.0


def check_checkpoint_file(file: Path, source: Path, target: Path) -> Path:
    """The absolute path that a checkpoint of a fit may have, or a GrowthError that says why not. Writes nothing.

    source, target: the folders that are read and made.
    """
    path = file.expanduser().resolve()
    for folder, what in ((source.resolve(), "the source"), (target, "the target"), (target.resolve(), "the target")):
        if folder == path or folder in path.parents:
            raise GrowthError(f"the fit's checkpoint {file} is inside {what} {folder}; name a file outside of it.")
    if not path.parent.is_dir():
        raise GrowthError(f"the fit's checkpoint {file}: the folder {path.parent} does not exist; make it first.")
    if path.exists() and not path.is_file():
        raise GrowthError(f"the fit's checkpoint {file} is no file; name a new one, or one that a fit wrote.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise GrowthError(f"the fit's checkpoint {file}: the folder {path.parent} is not writable; name another place.")
    return path


class FitCheckpoint:
    """A block in which a growth is fitted, and kept in a file: from time to time, at its end, and when it is interrupted."""

    def __init__(self, path: Path, growth: LearnedGrowth, settings: dict[str, Any]) -> None:
        """`growth` takes over what the file holds, if it exists; `settings`: what the fits must have alike, as JSON.

        Raises GrowthError if the file holds the state of another growth or another fit.
        """
        self._path, self._growth, self._settings = path, growth, settings
        if path.exists():
            state = read_state(path)
            _check_same(path, state, growth.state(settings))
            growth.restore(state, path)
        self._kept, self._due = growth.step, perf_counter() + _SECONDS

    def after_step(self) -> None:
        """To be called after every step: writes the file if it is time."""
        if perf_counter() >= self._due:
            self._keep()

    def _keep(self) -> None:
        if self._growth.step == self._kept:
            return
        start = perf_counter()
        write_state(self._path, self._growth.state(self._settings))
        now = perf_counter()
        self._kept, self._due = self._growth.step, now + max(_SECONDS, _TIMES * (now - start))

    def __enter__(self) -> FitCheckpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._keep()
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            try:
                self._keep()
            except GrowthError as failure:
                # An update that was cut in two, or a full disk: what was written before counts.
                error.add_note(str(failure))
            if self._kept:
                held = f"{self._kept} of {self._settings['steps']} steps of the fit"
                error.add_note(f"{self._path} holds {held}: the same request goes on from there")


def _check_same(path: Path, there: State, here: State) -> None:
    assert here.fit is not None  # a text's settings are given
    if there.fit is None:
        raise GrowthError(
            f"{path} was saved in Python, of a fit on batches of its own; go on with it there, or name another file."
        )
    differing = [
        f"{name} {old.get(name)!r} there and {new.get(name)!r} here"
        for old, new in ((there.options, here.options), (there.fit, here.fit))
        for name in sorted({*old, *new} - {"text"})
        if old.get(name) != new.get(name)
    ]
    if there.fit.get("text") != here.fit["text"]:
        differing.append("another text, or another tokenizer")
    if there.source_digest != here.source_digest:
        differing.append("another source: its config.json or its weights differ")
    if not differing and there.plan_digest != here.plan_digest:
        differing.append("another version of growkernels")
    if differing:
        raise GrowthError(
            f"{path} belongs to another fit: {'; '.join(differing)}. Give the source, text and options that it was "
            f"begun with (steps too: every learning rate follows from their number), or name another file to fit anew."
        )
