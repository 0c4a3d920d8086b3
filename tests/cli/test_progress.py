"""The display of a running growth."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from growkernels.cli import progress
from growkernels.cli.progress import ProgressDisplay


def display(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> str:
    """What is shown for two stages."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, color_system=None)
    monkeypatch.setattr(progress, "notes", console)
    with ProgressDisplay() as advance:
        for done in (0, 1_000_000, 3_000_000):
            advance("growing", done, 3_000_000)
        advance("verifying", 0, 0)
    return out.getvalue()


def test_a_terminal_sees_stages_bytes_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    text = display(monkeypatch, terminal=True)
    places = [text.index(part) for part in ("reading the layout", "growing", "3.0/3.0 MB", "verifying")]
    assert places == sorted(places)
    assert "0:00:00" in text
    # The bar is gone when the next stage starts: nothing of it stands beside the spinner.
    assert "growing" not in text[text.index("verifying") :]


def test_a_fit_is_shown_by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(progress, "notes", Console(file=out, force_terminal=True, width=80, color_system=None))
    with ProgressDisplay() as advance:
        for step in range(4):
            advance("fitting", step, 3)
    assert "fitting" in out.getvalue() and "3/3" in out.getvalue() and "MB" not in out.getvalue()


def test_a_fit_that_goes_on_starts_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(progress, "notes", Console(file=out, force_terminal=True, width=80, color_system=None))
    with ProgressDisplay() as advance:
        for step in (40, 41):
            advance("fitting", step, 60)
    assert "40/60" in out.getvalue() and " 0/60" not in out.getvalue()


def test_a_log_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert display(monkeypatch, terminal=False) == ""


def test_an_error_ends_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(progress, "notes", Console(file=out, force_terminal=True, width=80))

    def fail() -> None:
        with ProgressDisplay() as advance:
            advance("growing", 0, 10)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert "\x1b[?25h" in out.getvalue(), "the cursor is shown again"
