"""Signals that stop a run, as exceptions that unwind it once and then let it clean up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_DEFAULTS: dict[int, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


class Stoppable:
    """A block that Ctrl-C, SIGTERM and SIGHUP end by an exception: the first raises, later ones do not disturb the cleaning.

    While `deaf` is set nothing raises; a signal that came too late to stop the block is raised at its end. Signals that
    somebody else handles are left alone, as are all of them outside the main thread.
    """

    def __init__(self) -> None:
        self.deaf = False
        self._late: int | None = None
        self._mine: list[int] = []

    def hear(self) -> None:
        """Let signals end the block again, with what came while it was deaf."""
        self.deaf = False
        if self._late is not None:
            number, self._late = self._late, None
            self._stop(number, None)

    def __enter__(self) -> Stoppable:
        if threading.current_thread() is threading.main_thread():
            self._mine = [number for number, handler in _DEFAULTS.items() if signal.getsignal(number) is handler]
            for number in self._mine:
                signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._mine:
            signal.signal(number, _DEFAULTS[number])
        if kind is None and self._late is not None:
            signal.raise_signal(self._late)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.deaf:
            self._late = number
            return
        self.deaf = True
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
