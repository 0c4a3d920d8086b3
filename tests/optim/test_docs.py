"""The complete examples of docs/training.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def example(heading: str) -> str:
    """The code below a heading."""
    text = PAGE.read_text()
    part = text[text.index(f"## {heading}\n") :]
    found = re.search(r"```python\n(.*?)```", part, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_plain_loop_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example("A plain loop"), str(PAGE), "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said if line.startswith("step ")] == ["step 4", "step 8"]


def test_the_trainer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
    monkeypatch.chdir(tmp_path)
    exec(compile(example("The Trainer"), str(PAGE), "exec"), {})
    said = capsys.readouterr().out.splitlines()
    hops = [line.split(":")[0] for line in said if line.startswith("step ")]
    assert hops == ["step 4", "step 8", "step 8"]
