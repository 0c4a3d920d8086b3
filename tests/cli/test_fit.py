"""Learned growth from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import growkernels
from growkernels import Fit, api
from growkernels.executors import read_manifest
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


def test_a_fit_does_not_need_matplotlib(
    checkpoint: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "find_spec", lambda name: None)
    shown = run("grow", checkpoint, tmp_path / "dst", *LIGO, "--fit-text", text, *SHORT, columns=200)
    assert shown.exit_code == 0, shown.stderr
    assert "growkernels-fit.png, the picture of the losses, was not drawn: matplotlib is not installed" in shown.stderr
    assert "growkernels-fit.png" not in shown.stdout and not (tmp_path / "dst" / "growkernels-fit.png").exists()


def test_a_growth_is_fitted_and_reported(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    shown = run("grow", checkpoint, tmp_path / "dst", *LIGO, "--fit-text", text, *SHORT, columns=200)
    assert shown.exit_code == 0, shown.stderr
    assert "Fitted           3 steps of 2 x 16 tokens on" in shown.stdout
    assert "equal the formula in float64" in shown.stdout
    assert " (growkernels-fit.png)" in shown.stdout
    assert (tmp_path / "dst" / "growkernels-fit.png").read_bytes().startswith(b"\x89PNG")
    assert run("verify", checkpoint, tmp_path / "dst", "--no-verify-logits").exit_code == 0
    again = json_of(run("grow", checkpoint, tmp_path / "again", *LIGO, "--fit-text", text, *SHORT, "--json"))
    assert again["fit"]["steps"] == len(again["fit"]["losses"]) == 3
    first, second = (snapshot(tmp_path / name) for name in ("dst", "again"))
    assert first == second
    fit = read_manifest(tmp_path / "dst").fit
    assert fit == {name: again["fit"][name] for name in fit}
    assert {**fit, "losses": None, "text_digest": None} == {
        "steps": 3, "lr": 1e-3, "warmup": 1, "batch": 2, "length": 16, "tokens": 900, "losses": None, "text_digest": None
    }  # fmt: skip
    modes = {path.stat().st_mode for path in (tmp_path / "dst").iterdir()}
    assert len(modes) == 1  # whoever may read the weights may read the matrices


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


def test_a_text_that_is_learned_by_heart_is_warned_of(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    text.write_text("hello")
    shown = run("grow", checkpoint, tmp_path / "dst", *LIGO, "--fit-text", text, "--fit-steps", "10", columns=300)
    assert shown.exit_code == 0, shown.stderr
    assert "text.txt has 5 tokens; 10 steps of 8 x 5 read them 80 times over" in shown.stderr
    assert "10 steps of 8 x 5 tokens on" in shown.stdout


def test_a_loss_that_rose_is_warned_of(
    checkpoint: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "growkernels.learning.growth.LearnedGrowth._loss_and_gradients", lambda self, _: 3.0 + self.step
    )
    monkeypatch.setattr("growkernels.learning.optimizer.OperatorOptimizer.update", lambda *_: None)
    fit = Fit(text, steps=50, batch=1, length=4)
    with pytest.warns(UserWarning, match=r"the loss rose during the fit, from 3\.000 to 52\.000"):
        growkernels.grow_checkpoint(
            checkpoint, tmp_path / "dst", depth=2, depth_operator="ligo", fit=fit, no_verify=True
        )


def test_a_fit_needs_finite_weights(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    command = ("grow", checkpoint, tmp_path / "dst", *LIGO, "--fit-text", text, *SHORT, "--allow-nonfinite")
    shown = run(*command, columns=300)
    assert shown.exit_code == 2
    assert "model.norm.weight has 1 NaN" in shown.stderr and "or grow without a fit" in shown.stderr


def test_damaged_matrices_are_named(checkpoint: Path, tmp_path: Path) -> None:
    growkernels.grow_checkpoint(checkpoint, tmp_path / "dst", depth=2, depth_operator="ligo", no_verify=True)
    file = tmp_path / "dst" / "growkernels.safetensors"
    name, matrix = next(iter(load_file(file).items()))
    whole = file.read_bytes()
    save_file({**load_file(file), name: matrix + 1}, file)
    for message in ("growkernels.safetensors was altered: its matrices", "growkernels.safetensors is damaged: "):
        shown = run("verify", checkpoint, tmp_path / "dst", columns=300)
        assert shown.exit_code == 2
        assert message in shown.stderr
        file.write_bytes(whole[:100])


def test_no_memory_is_said_so(checkpoint: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr("transformers.LlamaForCausalLM.forward", full)
    shown = run("grow", checkpoint, tmp_path / "dst", *LIGO, "--fit-text", text, *SHORT, columns=300)
    assert shown.exit_code == 2
    assert "there is no memory for a step on a batch of input_ids [2, 16] torch.int64" in shown.stderr


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
    "empty text": (lambda src, text: write(text, b""), (*LIGO, "--fit-text", "text.txt"), ("holds no token",)),
    "no text but bytes": (lambda src, text: write(text, b"a\xff"), (*LIGO, "--fit-text", "text.txt"), ("no UTF-8", "byte 1")),
    "no tokenizer": (
        lambda src, text: (src / "tokenizer.json").unlink(), (*LIGO, "--fit-text", "text.txt"), ("no tokenizer",)
    ),
    "text for nothing": (lambda src, text: None, ("--width", "2", "--fit-text", "text.txt"), ("--depth-operator ligo",)),
    "steps": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-steps", "-1"), ("--fit-steps is -1; expected",)),
    "rate": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-lr", "0"), ("--fit-lr is 0.0",)),
    "rate without end": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-lr", "inf"), ("--fit-lr is inf",)),
    "rate that is none": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-lr", "nan"), ("--fit-lr is nan",)),
    "warm-up": (
        lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-steps", "3", "--fit-warmup", "4"),
        ("--fit-warmup is 4 and steps 3",),
    ),
    "many windows": (
        lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-batch", "1000000000000"),
        ("--fit-batch is 1000000000000",)
    ),
    "steps for nothing": (
        lambda src, text: None, ("--width", "2", "--fit-steps", "3"), ("--fit-steps: there is a fit for learned growth only",)
    ),
    "batch": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-batch", "0"), ("--fit-batch is 0",)),
    "length": (lambda src, text: None, (*LIGO, "--fit-text", "text.txt", "--fit-length", "1"), ("--fit-length is 1",)),
    "rate of no steps": (lambda src, text: None, (*LIGO, "--fit-steps", "0", "--fit-lr", "-5"), ("--fit-lr is -5.0",)),
    "two orders of layers": (
        lambda src, text: None,
        ("--layers", "0-1,0-1", "--depth-operator", "ligo", "--depth-init", "interpolate", "--fit-steps", "0"),
        ("depth_init is 'interpolate' and layers '0-1,0-1'",),
    ),
    "a start of no width": (
        lambda src, text: None, ("--depth", "2", "--width-operator", "ligo", "--width-init", "normal", "--fit-steps", "0"),
        ("width_init is 'normal', and no width grows",),
    ),
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
