"""What the terminal shows: figures, layer runs, and tables that fit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from growkernels.report.tables import bytes_text, runs, short, tensor_table
from tests.cli.support import run, save_small


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (17088, "17.1 k"),
        (999_499, "999 k"),
        (999_600, "1 M"),
        (7e9, "7 B"),
        (2.4e13, "24 T"),
    ],
)
def test_short_counts(count: float, text: str) -> None:
    assert short(count) == text


@given(st.integers(1, 10**15 - 10**12))
@example(999_499)
@example(999_500)
@example(99_950)
def test_short_counts_are_within_half_a_digit_and_short(count: int) -> None:
    number, _, unit = short(count).partition(" ")
    value = float(number) * {"": 1, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[unit]
    assert abs(value - count) <= 0.005 * count * (1 + 1e-12)
    assert len(number) <= 4 and "e" not in number


def test_bytes() -> None:
    assert [bytes_text(n) for n in (0, 999, 1000, 5e9)] == ["0 B", "999 B", "1 kB", "5 GB"]


@given(st.lists(st.integers(0, 40), max_size=30))
def test_runs_read_back(indices: list[int]) -> None:
    back = []
    for part in runs(indices).split():
        first, _, last = part.partition("-")
        back += range(int(first), int(last or first) + 1)
    assert back == indices
    assert all(b[0] - a[-1] != 1 for a, b in _pairs(runs(indices)))


def _pairs(text: str) -> list[tuple[list[int], list[int]]]:
    return list(pairwise([int(n) for n in part.split("-")] for part in text.split()))


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gpt2", "gpt_neox", "bert"])
@pytest.mark.parametrize("columns", [80, 200])
def test_tables_fit_and_lose_nothing(tmp_path: Path, family: str, columns: int) -> None:
    src = save_small(tmp_path / "src", family)
    for command in (["plan", src, "--width", 2, "--depth", 2], ["inspect", src]):
        result = run(*command, columns=columns)
        assert result.exit_code == 0, result.stderr
        assert max(map(len, result.stdout.splitlines())) <= columns
        # A cell that did not fit would end in an ellipsis.
        assert "\N{HORIZONTAL ELLIPSIS}" not in result.stdout
        assert "proj" in result.stdout or "dense" in result.stdout


def test_a_llama_takes_one_line_a_tensor_at_80_columns(tmp_path: Path) -> None:
    text = run("plan", save_small(tmp_path / "src"), "--width", 2).stdout
    table = text[: text.index("Parameters ")].rstrip().splitlines()
    assert len(table) == 1 + 12 + 1, text


def test_inspect_shows_axes_ties_and_what_can_grow(tmp_path: Path) -> None:
    text = run("inspect", save_small(tmp_path / "src", "gpt2")).stdout
    words = " ".join(text.split())
    assert "attn.c_attn linear 32 x 96 hidden* x heads | heads | heads float32" in words
    assert "Tied lm_head.weight = transformer.wte.weight" in words
    assert words.count(" yes") == 3


def test_cells_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a.{}.[b].weight", 2, ("tile [2 2 1]x2",))]
    Console(width=60).print(tensor_table([("Rule", False)], rows, 2))
    out = capsys.readouterr().out
    assert "[b]" in out and "tile [2 2 1]x2" in out
