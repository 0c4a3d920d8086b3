"""A sweep that was stopped goes on with the steps that have no result."""

from __future__ import annotations

import json
import sys

import pytest

from tests.coverage import __main__ as command
from tests.coverage.sweep import STEPS

_FOUND = {"outcome": "exact", "error": 1e-15}


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Runs the command on two twins, and returns what it asked of the sweep."""

    def run(*options: str) -> list[tuple[str, list[str]]]:
        calls: list[tuple[str, list[str]]] = []

        def sweep(name, steps):
            calls.append((name, list(steps)))
            return dict.fromkeys(steps, _FOUND)

        monkeypatch.setattr(command, "sweep", sweep)
        monkeypatch.setattr(sys, "argv", ["coverage", "--out", str(tmp_path), *options])
        command.main()
        return calls

    return run


def test_only_steps_without_results_are_run(asked, tmp_path):
    (tmp_path / "llama.json").write_text(json.dumps({"width 2": _FOUND}))
    assert asked("llama", "opt") == [("llama", [s for s in STEPS if s != "width 2"]), ("opt", list(STEPS))]
    assert asked("llama", "opt") == []
    assert asked("opt", "--again", "--steps", "noise") == [("opt", ["noise"])]


def test_twin_that_could_not_be_built_is_not_tried_again(asked, tmp_path):
    (tmp_path / "opt.json").write_text(json.dumps({"build": {"outcome": "failed", "reason": "no"}}))
    assert asked("opt") == []


def test_table_has_every_result(asked, tmp_path):
    page = tmp_path / "table.md"
    page.write_text("By hand.\n")
    for _ in range(2):
        asked("opt", "--table", str(page))
    rows = [line for line in page.read_text().splitlines() if line.startswith("| opt ")]
    assert [row.count("1e-15") for row in rows] == [len(STEPS)]
    assert page.read_text().startswith("By hand.\n")
