"""Signals end a block by one exception, whatever becomes of it, and later ones do not disturb the cleaning."""

from __future__ import annotations

import gc
import os
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from growkernels.executors import staged
from growkernels.executors.files.stopping import Stoppable, check_stopped
from tests.executors.support import grow, snapshot, write_source

SIGNALS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit, signal.SIGHUP: SystemExit}
each_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


class Thing:
    """What can be referred to weakly."""


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """The exceptions that Python drops."""
    found: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: found.append(unraisable.exc_value))
    return found


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def send_in_callback(number: int) -> None:
    """The signal arrives while a weakref's callback is at work."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: send(number))
    del thing
    gc.collect()
    assert reference() is None


def ending(number: int, block: Callable[[Stoppable], None]) -> BaseException:
    with pytest.raises(SIGNALS[number]) as caught, Stoppable() as run:
        block(run)
    if number != signal.SIGINT:
        assert caught.value.code == 128 + number
    return caught.value


@each_signal
def test_a_dropped_signal_is_raised_by_the_next_check(number: int, dropped: list[BaseException]) -> None:
    after: list[str] = []

    def block(run: Stoppable) -> None:
        check_stopped()
        send_in_callback(number)
        after.append("went on")
        check_stopped()
        after.append("not reached")

    error = ending(number, block)
    assert after == ["went on"]
    assert [type(e) for e in dropped] == [SIGNALS[number]] and error is not dropped[0]


@each_signal
def test_a_second_signal_raises_where_the_first_was_dropped(number: int, dropped: list[BaseException]) -> None:
    def block(run: Stoppable) -> None:
        send_in_callback(signal.SIGTERM)
        send(number)
        pytest.fail("the second signal was dropped as well")

    ending(number, block)
    assert len(dropped) == 1


def test_a_signal_dropped_in_the_last_moment_is_raised_at_the_end(dropped: list[BaseException]) -> None:
    reached: list[bool] = []

    def block(run: Stoppable) -> None:
        send_in_callback(signal.SIGINT)
        reached.append(True)

    ending(signal.SIGINT, block)
    assert reached and len(dropped) == 1


@contextmanager
def cleaning(steps: list[str], number: int) -> Iterator[None]:
    try:
        yield
    finally:
        send(number)
        steps.append("generator")


@each_signal
def test_later_signals_do_not_disturb_the_cleaning(number: int) -> None:
    steps: list[str] = []

    def block(run: Stoppable) -> None:
        try:
            with cleaning(steps, number):
                try:
                    send(number)
                    pytest.fail("not stopped")
                except BaseException as error:
                    send(number)
                    check_stopped()
                    steps.append("except")
                    try:
                        raise OSError from error
                    except OSError:
                        send(number)
                        steps.append("another error")
                    raise
        finally:
            send(number)
            check_stopped()
            steps.append("finally")

    ending(number, block)
    assert steps == ["except", "another error", "generator", "finally"]


def test_what_is_protected_is_neither_stopped_nor_checked() -> None:
    steps: list[str] = []

    def block(run: Stoppable) -> None:
        run.deaf = True
        send(signal.SIGINT)
        check_stopped()
        steps.append("protected")
        run.hear()
        steps.append("not reached")

    ending(signal.SIGINT, block)
    assert steps == ["protected"]
    check_stopped()


def test_a_growth_does_not_put_in_place_what_was_to_be_stopped(tmp_path: Path, dropped: list[BaseException]) -> None:
    dst = tmp_path / "dst"
    with pytest.raises(SystemExit), staged(dst):
        send_in_callback(signal.SIGTERM)
    assert len(dropped) == 1 and list(tmp_path.iterdir()) == []


def test_a_growth_stops_at_the_next_tensor(tmp_path: Path, dropped: list[BaseException]) -> None:
    src, dst, calls = write_source(tmp_path / "src"), tmp_path / "dst", []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        send_in_callback(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        grow(src, dst, progress=progress)
    assert len(calls) == len(dropped) == 1 and not dst.exists()
    grow(src, dst)
    assert snapshot(dst)
