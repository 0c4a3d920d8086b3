"""Help: every option of the contract, examples that parse, and an answer without waiting for torch."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

import growkernels
from growkernels.cli import app
from tests.cli.support import run

PLAN = [
    "--depth",
    "--num-layers",
    "--layers",
    "--depth-operator",
    "--width",
    "--ffn",
    "--width-operator",
    "--variant",
    "--noise-snr-db",
    "--seed",
    "--dtype",
    "--untie",
    "--json",
]
OPTIONS = {
    "grow": [
        *PLAN,
        "--max-shard-size",
        "--device",
        "--overwrite",
        "--no-verify",
        "--verify-logits",
        "--allow-nonfinite",
        "--fit-text",
        "--fit-steps",
        "--fit-lr",
        "--fit-warmup",
        "--fit-batch",
        "--fit-length",
        "--fit-checkpoint",
    ],
    "plan": [*PLAN, "--picture"],
    "verify": ["--json", "--verify-logits"],
    "inspect": ["--json"],
    "advise": ["--target-params", "--tokens", "--config", "--source-tokens", "--disk-rate", "--curve", "--json"],
    "analyze": ["--reference", "--spectra", "--no-spectra", "--picture", "--json"],
    "race": [
        "--candidates",
        "--text",
        "--steps",
        "--seeds",
        "--seed",
        "--out",
        "--source-tokens",
        "--lr",
        "--warmup",
        "--batch",
        "--length",
        "--json",
    ],
    "doctor": ["--json"],
}


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_every_option(command: str, columns: int) -> None:
    result = run(command, "--help", columns=columns)
    assert result.exit_code == 0
    for option in OPTIONS[command]:
        assert re.search(rf"{option}\b", result.stdout), option
    assert max(map(len, result.stdout.splitlines())) <= columns


def test_help_of_grow_begins_with_the_few_options_that_most_need() -> None:
    text = run("grow", "--help", columns=100).stdout
    panels = re.findall(r"╭─ ([^─]+) ─", text)
    assert panels[:4] == ["Arguments", "Options", "Depth", "Width"] and "Noise" in panels
    first = text.partition("─ Options ─")[2].partition("─ Depth ─")[0]
    assert re.findall(r"│ (--[a-z-]+)", first) == ["--depth", "--width", "--dtype", "--overwrite", "--json", "--help"]


def test_help_of_the_group_names_commands_papers_and_exit_statuses() -> None:
    text = " ".join(run("--help").stdout.split())
    assert all(command in text for command in OPTIONS)
    assert "2409.12903" in text and "2405.15319" in text
    assert "Exit status: 0 done; 1 a verification failed; 2" in text
    assert run().stdout.strip() == run("--help").stdout.strip()


@pytest.mark.parametrize("command", ["grow", "plan"])
def test_examples_of_the_help_are_commands(command: str) -> None:
    lines = [line.strip() for line in run(command, "--help", columns=200).stdout.splitlines()]
    examples = [line for line in lines if line.startswith(f"growkernels {command} ./small") or "owner/model" in line]
    assert len(examples) >= 3
    import typer

    group = typer.main.get_command(app)
    for example in examples:
        words = shlex.split(example.partition("|")[0], comments=True)[1:]
        with group.make_context("growkernels", words[:1]) as context:
            group.get_command(context, command).make_context(command, words[1:])


def test_version() -> None:
    assert run("--version").stdout == f"growkernels {growkernels.__version__}\n"


def test_help_answers_without_importing_torch() -> None:
    code = """
import sys
from growkernels.cli import app
try:
    app(sys.argv[1:])
except SystemExit as stop:
    assert stop.code == 0, stop.code
slow = {"torch", "transformers", "numpy", "matplotlib"} & set(sys.modules)
assert not slow, slow
"""
    for arguments in (["--help"], ["grow", "--help"], ["plan", "--help"], ["doctor", "--help"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "words", [["grow"], ["grow", "only-one"], ["shrink", "a", "b"], ["grow", "a", "b", "--widht", "2"]]
)
def test_usage_errors_are_status_two_and_leave_stdout_empty(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == "" and result.stderr
