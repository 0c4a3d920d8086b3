"""Signals that stop a run, as exceptions that unwind it once and then let it clean up."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, ClassVar

_DEFAULTS: dict[int, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


class Stoppable:
    """A block that Ctrl-C, SIGTERM and SIGHUP end by an exception: the first raises, later ones do not disturb the cleaning.

    While `deaf` is set nothing raises; a signal that came too late to stop the block is raised at its end. Signals that
    somebody else handles are left alone, as are all of them outside the main thread.

    Python drops exceptions that arise in a weakref's callback or in `__del__`, those of signals too. Then the next signal
    raises, or the next `check`, or the end of the block.
    """

    #: The blocks that are being run, the innermost last.
    _running: ClassVar[list[Stoppable]] = []

    def __init__(self) -> None:
        self.deaf = False
        self._late: int | None = None
        self._raised: BaseException | None = None
        self._mine: list[int] = []

    def hear(self) -> None:
        """Let signals end the block again, with what came while it was deaf."""
        self.deaf = False
        self.check()

    def check(self) -> None:
        """Raise again what a signal raised and Python dropped."""
        if self._late is not None and not self.deaf and not self._is_unwinding():
            self._stop(self._late, None)

    def __enter__(self) -> Stoppable:
        if threading.current_thread() is threading.main_thread():
            self._mine = [number for number, handler in _DEFAULTS.items() if signal.getsignal(number) is handler]
            self._running.append(self)
            for number in self._mine:
                signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._mine:
            signal.signal(number, _DEFAULTS[number])
        if self in self._running:
            self._running.remove(self)
        if kind is None and self._late is not None:
            signal.raise_signal(self._late)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        # Kept until the block has ended by it: the exception may be dropped.
        self._late = number
        if self.deaf or self._is_unwinding():
            return
        self._raised = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        raise self._raised

    def _is_unwinding(self) -> bool:
        """Whether what a signal has raised is being handled, or is what another error arose from."""
        seen: set[int] = set()
        errors = [sys.exception()]
        while errors:
            error = errors.pop()
            if error is None or id(error) in seen:
                continue
            if error is self._raised:
                return True
            seen.add(id(error))
            errors += [error.__context__, error.__cause__]
        return False


def check_stopped() -> None:
    """Raise again what a signal raised in the block that is being run and Python dropped; for loops that take long."""
    if Stoppable._running and threading.current_thread() is threading.main_thread():
        Stoppable._running[-1].check()
