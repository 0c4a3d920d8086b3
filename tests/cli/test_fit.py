"""Learned growth from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import growkernels
from growkernels.api import Fit
from tests.cli.support import json_of, run, save_small, save_tokenizer, snapshot

pytestmark = pytest.mark.usefixtures("one_thread")

LIGO = ("--depth", "2", "--width", "2", "--depth-operator", "ligo", "--width-operator", "ligo")
SHORT = ("--fit-steps", "3", "--fit-batch", "2", "--fit-length", "16", "--no-verify-logits")


@pytest.fixture
def checkpoint(src: Path) -> Path:
    save_tokenizer(src)
    return src


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return path


def test_a_growth_is_fitted_and_reported(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    shown = run("grow", checkpoint, tmp_path / "dst", *LIGO, "--fit-text", text, *SHORT, columns=200)
    assert shown.exit_code == 0, shown.stderr
    assert "Fitted           3 steps on" in shown.stdout
    assert "equal the formula in float64" in shown.stdout
    assert (tmp_path / "dst" / "growkernels-fit.png").read_bytes().startswith(b"\x89PNG")
    assert run("verify", checkpoint, tmp_path / "dst", "--no-verify-logits").exit_code == 0
    again = json_of(run("grow", checkpoint, tmp_path / "again", *LIGO, "--fit-text", text, *SHORT, "--json"))
    assert again["fit"]["steps"] == len(again["fit"]["losses"]) == 3
    first, second = (snapshot(tmp_path / name) for name in ("dst", "again"))
    assert first["model.safetensors"] == second["model.safetensors"]


def test_every_step_of_a_fit_is_told(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    growkernels.grow_checkpoint(
        checkpoint,
        tmp_path / "dst",
        depth=2,
        depth_operator="ligo",
        fit=Fit(text, steps=3, batch=2, length=16),
        verify_logits=False,
        on_progress=lambda *now: told.append(now),
    )
    assert [now for now in told if now[0] == "fitting"] == [("fitting", step, 3) for step in range(4)]
    assert told.index(("fitting", 3, 3)) < min(place for place, now in enumerate(told) if now[0] == "growing")


def test_masked_models_are_fitted_too(text: Path, tmp_path: Path) -> None:
    source = save_small(tmp_path / "bert", "bert")
    save_tokenizer(source)
    shown = json_of(run("grow", source, tmp_path / "dst", *LIGO, "--fit-text", text, *SHORT, "--json"))
    assert shown["fit"]["steps"] == 3
    assert shown["verification"]["passed"]


def test_no_steps_need_no_text(src: Path, tmp_path: Path) -> None:
    shown = json_of(run("grow", src, tmp_path / "dst", *LIGO, "--fit-steps", "0", "--no-verify-logits", "--json"))
    assert shown["fit"] is None
    assert not (tmp_path / "dst" / "growkernels-fit.png").exists()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


BAD: dict[str, tuple[Callable[[Path, Path], Any], tuple[object, ...], tuple[str, ...]]] = {
    "no text": (lambda src, text: None, LIGO, ("--fit-text FILE", "--fit-steps 0")),
    "missing text": (lambda src, text: text.unlink(), (*LIGO, "--fit-text", "text.txt"), ("text.txt cannot be read",)),
    "empty text": (lambda src, text: write(text, b""), (*LIGO, "--fit-text", "text.txt"), ("0 tokens",)),
    "no text but bytes": (lambda src, text: write(text, b"a\xff"), (*LIGO, "--fit-text", "text.txt"), ("no UTF-8", "byte 1")),
    "no tokenizer": (
        lambda src, text: (src / "tokenizer.json").unlink(), (*LIGO, "--fit-text", "text.txt"), ("no tokenizer",)
    ),
    "text for nothing": (lambda src, text: None, ("--width", "2", "--fit-text", "text.txt"), ("--depth-operator ligo",)),
    "steps": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-steps", "-1"), ("steps is -1",)),
    "rate": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-lr", "0"), ("lr is 0.0",)),
    "rate without end": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-lr", "inf"), ("lr is inf",)),
    "rate that is none": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-lr", "nan"), ("lr is nan",)),
    "warm-up": (
        lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-steps", "3", "--fit-warmup", "4"),
        ("warmup is 4 and steps 3",),
    ),
    "many windows": (
        lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-batch", "1000000000000"), ("batch is 1000000000000",)
    ),
    "steps for nothing": (
        lambda src, text: None, ("--width", "2", "--fit-steps", "3"), ("--fit-steps: there is a fit for learned growth only",)
    ),
    "batch": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-batch", "0"), ("batch is 0",)),
    "length": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-length", "1"), ("length is 1",)),
    "fewer layers": (
        lambda src, text: None, ("--layers", "0", "--depth-operator", "ligo", "--fit-text", "text.txt"), ("does not shrink",)
    ),
    "half learned": (
        lambda src, text: None, ("--depth", "2", "--width", "2", "--depth-operator", "ligo", "--fit-text", "text.txt"),
        ("width_operator ligo",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_fitted_is_refused(
    checkpoint: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    spoil, options, words = BAD[case]
    spoil(checkpoint, text)
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    shown = run("grow", checkpoint, tmp_path / "dst", *options, columns=300)
    assert shown.exit_code == 2, (shown.stdout, shown.stderr)
    assert all(word in shown.stderr for word in words), shown.stderr
    assert snapshot(tmp_path) == before


def test_models_without_a_language_loss_are_sent_to_python(text: Path, tmp_path: Path) -> None:
    source = save_small(tmp_path / "base", architecture="LlamaModel")
    save_tokenizer(source)
    shown = run("grow", source, tmp_path / "dst", *LIGO, "--fit-text", text, columns=300)
    assert shown.exit_code == 2
    assert "LlamaModel is no causal or masked language model" in shown.stderr
    assert not (tmp_path / "dst").exists()


def test_masks_leave_something_to_guess(tmp_path: Path, text: Path) -> None:
    from growkernels.learning import TextBatches

    save_tokenizer(tmp_path)
    config = {"architectures": ["BertForMaskedLM"], "vocab_size": 97, "max_position_embeddings": 64}
    data = TextBatches(text, tmp_path, config, size=50, length=4)
    batch = next(data.since(7))
    assert torch.equal(batch["input_ids"], next(data.since(7))["input_ids"])
    hidden = batch["labels"] != -100
    assert hidden.any(1).all() and not hidden.all()
    assert (batch["input_ids"][hidden] == 1).all()
    assert (batch["labels"][hidden] > 1).all()
