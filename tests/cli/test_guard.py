"""Every exception ends in one message, a status and one JSON object; what files hold never acts on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.text import Text
from safetensors.torch import load_file, save_file

from growkernels import api
from growkernels.cli.console import SafeConsole
from growkernels.errors import GrowthError, VerificationFailed, printable, shorten
from tests.cli.support import json_of, run, snapshot

HOSTILE = "\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e\x7f\udcff"


@pytest.mark.parametrize(
    "error",
    [
        TypeError("of a kind\nthat nobody foresaw"),
        RuntimeError(HOSTILE),
        AssertionError(),
        KeyError("x"),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_that_nobody_foresaw(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Its status is none of those that mean something else, and there is no traceback."""

    def failing(*_: object, **__: object) -> None:
        raise error

    before = snapshot(tmp_path)
    monkeypatch.setattr(api, "execute", failing)
    result = run("grow", src, tmp_path / "dst", "--width", 2, "--json")
    assert result.exit_code == 70
    said = json_of(result)["error"]
    assert (said["kind"], said["status"]) == ("internal", 70)
    assert type(error).__name__ in said["message"] and "test_guard.py" not in said["message"]
    assert "Traceback" not in result.stderr and "\x1b" not in result.stderr
    assert snapshot(tmp_path) == before


def test_memory_that_runs_out(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(api, "execute", failing)
    result = run("grow", src, tmp_path / "dst", "--width", 2, "--json")
    assert result.exit_code == 2 and json_of(result)["error"]["message"] == "memory ran out: MemoryError"


def test_words_that_are_no_command_line_keep_their_own_message() -> None:
    result = run("plan", "x", "--no-such-option")
    assert result.exit_code == 2 and "No such option" in result.stderr and "internal" not in result.stderr


@pytest.mark.parametrize("command", ["inspect", "plan", "grow"])
def test_a_hostile_name_of_a_tensor(src: Path, tmp_path: Path, command: str) -> None:
    tensors = load_file(src / "model.safetensors")
    tensors[f"model.layers.0.{HOSTILE[:-1]}x"] = torch.ones(2)
    save_file(tensors, src / "model.safetensors", metadata={"format": "pt"})
    more = {"inspect": [], "plan": ["--width", 2], "grow": [tmp_path / "dst", "--width", 2]}[command]
    result = run(command, src, *more, "--json")
    assert result.exit_code == 2
    assert r"\x1b]0;PWNED\x07" in result.stderr.replace("\n", "")
    for text in (result.stderr, result.stdout):
        assert all(c == "\n" or c.isprintable() for c in text)
    assert r"\x1b]0;PWNED\x07" in json_of(result)["error"]["message"]


def test_a_hostile_name_in_a_report_that_succeeds(src: Path, tmp_path: Path) -> None:
    (src / "\x1b[2J.npz").write_text("left behind")
    (src / "\x1b[3J.vocab").write_text("goes along")
    for arguments in (["--json"], []):
        result = run("grow", src, tmp_path / f"dst{len(arguments)}", "--width", 2, *arguments)
        assert result.exit_code == 0 and "\x1b" not in result.stdout + result.stderr
    assert r"\x1b[2J.npz: the source's weights in another form" in " ".join(result.stdout.split())
    (tmp_path / "dst0" / "config.json").write_text('{"\\u001b[2J": 1}')
    checked = run("verify", src, tmp_path / "dst0")
    assert checked.exit_code == 1 and "\x1b" not in checked.stdout + checked.stderr


def test_the_console_shows_controls_of_text_and_keeps_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    console = SafeConsole(force_terminal=True, color_system="standard", width=80)
    console.print(Text(f"a{HOSTILE}b", "red"))
    shown = capsys.readouterr().out
    assert shown.startswith("\x1b[31m") and r"\x1b]0;PWNED" in shown and shown.count("\x1b") == 2


def test_messages_are_bounded_and_printable() -> None:
    text = str(GrowthError(f"start {HOSTILE} {'x' * 10**6} what to do"))
    assert len(text) < 2100 and text.startswith("start \\x1b]0;PWNED") and text.endswith("what to do")
    assert "characters left out" in text and text.isprintable()
    assert len(str(VerificationFailed("x" * 10**6))) < 2100
    assert str(GrowthError("two\nlines, as they are: ä 漢")) == "two\nlines, as they are: ä 漢"
    assert printable("\udcff\x00") == r"\udcff\x00" and shorten("x" * 2000) == "x" * 2000


def test_long_names_are_bounded_in_every_message(src: Path) -> None:
    tensors = load_file(src / "model.safetensors")
    tensors["x" * 10**6] = torch.ones(2)
    save_file(tensors, src / "model.safetensors", metadata={"format": "pt"})
    result = run("plan", src, "--width", 2, "--json")
    assert result.exit_code == 2 and len(json_of(result)["error"]["message"]) < 2100 and len(result.stderr) < 3000


def test_the_help_names_the_status() -> None:
    assert "70 an error in growkernels itself" in run("--help", columns=200).stdout
