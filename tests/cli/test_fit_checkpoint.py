"""A fit that is interrupted and gone on with: the bits of one without a pause, or a refusal that says what differs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import growkernels
from growkernels import Fit
from growkernels.learning import LearnedGrowth
from growkernels.learning.state import read_state
from growkernels.plans import Plan
from tests.cli.support import json_of, run, save_small, save_tokenizer, snapshot
from tests.cli.test_fit import LIGO

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = ("--fit-steps", "4", "--fit-batch", "2", "--fit-length", "16", "--no-verify-logits")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A folder with a checkpoint, a text, a fit of four steps in `fit.state` and what was grown by it in `whole`."""
    folder = tmp_path_factory.mktemp("begun")
    save_tokenizer(save_small(folder / "src", tie_word_embeddings=True))
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    shown = run(*command(folder, folder / "whole"), "--fit-checkpoint", folder / "fit.state")
    assert shown.exit_code == 0, shown.stderr
    return folder


@pytest.fixture
def place(begun: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(begun, tmp_path / "place")


def command(folder: Path, dst: Path) -> list[object]:
    return ["grow", folder / "src", dst, *LIGO, "--fit-text", folder / "text.txt", *STEPS]


def without_source(folder: Path) -> dict[str, str]:
    """A grown checkpoint's files, and its manifest but for the source's path."""
    manifest = json.loads((folder / "growkernels.json").read_text())
    del manifest["source"]
    return {**snapshot(folder), "growkernels.json": json.dumps(manifest)}


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 1), (signal.SIGTERM, 3)])
def test_an_interrupted_fit_ends_with_the_bits_of_a_whole_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: int
) -> None:
    file, before = place / "new.state", snapshot(place)
    forward = LearnedGrowth._run

    def interrupted(growth: LearnedGrowth, *arguments: object) -> torch.Tensor:
        if growth.step == step:
            signal.raise_signal(number)
        return forward(growth, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LearnedGrowth, "_run", interrupted)
        stopped = run(*command(place, place / "dst"), "--fit-checkpoint", file, "--json", columns=300)
    assert stopped.exit_code == 128 + number
    message = json_of(stopped)["error"]["message"]
    how = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    assert message.startswith(f"{how}; nothing was put in place; ")
    assert f"new.state holds {step} of 4 steps of the fit: the same request goes on from there" in message
    assert message in stopped.stderr
    assert snapshot(place).keys() - before.keys() == {"new.state"}
    assert len(read_state(file).losses) == step

    went_on = run(*command(place, place / "dst"), "--fit-checkpoint", file)
    assert went_on.exit_code == 0, went_on.stderr
    # A path may be broken anywhere.
    shown = "".join(went_on.stdout.split())
    assert f"Fitted4stepsof2x16tokenson{place / 'text.txt'}(900)in" in shown
    assert f"s(thefirst{step}wereinthecheckpoint)" in shown
    assert without_source(place / "dst") == without_source(place / "whole")
    # The file stays, as the whole fit's did.
    assert file.read_bytes() == (place / "fit.state").read_bytes()


def test_a_fit_interrupted_before_its_first_step_leaves_no_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(place)
    monkeypatch.setattr(LearnedGrowth, "_load_weights", lambda growth: signal.raise_signal(signal.SIGINT))
    stopped = run(*command(place, place / "dst"), "--fit-checkpoint", place / "new.state")
    assert stopped.exit_code == 130
    assert "holds" not in stopped.stderr
    assert snapshot(place) == before


def test_a_fit_killed_while_it_writes_goes_on_from_what_was_whole(place: Path) -> None:
    # Every step is written; the third writing is killed when the bytes are in the file that will be moved into place.
    code = f"""
import os, signal, sys
import torch
from growkernels import cli
from growkernels.learning import checkpoint, state
torch.set_num_threads(1)
checkpoint._SECONDS = checkpoint._TIMES = 0
write, written = state.os.replace, []
def killed(old, new):
    written.append(new)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(old, new)
state.os.replace = killed
sys.argv[1:] = {[str(word) for word in command(place, place / "dst")]} + ["--fit-checkpoint", {str(place / "new.state")!r}]
cli.main()
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert (place / ".new.state.partial").stat().st_size > 0
    assert not (place / "dst").exists()
    assert len(read_state(place / "new.state").losses) == 2
    went_on = json_of(run(*command(place, place / "dst"), "--fit-checkpoint", place / "new.state", "--json"))
    assert went_on["fit"]["resumed_from"] == 2
    assert went_on["fit"]["steps"] == len(went_on["fit"]["losses"]) == 4
    assert without_source(place / "dst") == without_source(place / "whole")
    assert not list(place.glob(".*"))


def test_a_whole_fit_is_not_fitted_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move(place / "text.txt", place / "moved.txt")
    monkeypatch.setattr(LearnedGrowth, "_run", None)
    told: list[tuple[str, int, int]] = []
    report = growkernels.grow_checkpoint(
        place / "src",
        place / "dst",
        depth=2,
        width=2,
        depth_operator="ligo",
        width_operator="ligo",
        # No length is longer than what the model takes, and the default warm-up is that of so many steps.
        fit=Fit(place / "moved.txt", steps=4, batch=2, length=16, warmup=None, checkpoint=place / "fit.state"),
        verify_logits=False,
        on_progress=lambda *now: told.append(now),
    )
    assert [now for now in told if now[0] == "fitting"] == [("fitting", 4, 4)]
    assert report.fit.resumed_from == 4
    assert without_source(place / "dst") == without_source(place / "whole")


def other_weights(place: Path) -> None:
    tensors = load_file(place / "src" / "model.safetensors")
    tensors["model.norm.weight"][3] += 1e-3
    save_file(tensors, place / "src" / "model.safetensors", metadata={"format": "pt"})


def other_text(place: Path) -> None:
    (place / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 20)


def other_tokenizer(place: Path) -> None:
    path = place / "src" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["q"], vocab["+"] = vocab["+"], vocab["q"]
    path.write_text(json.dumps(tokenizer))


def of_python(place: Path) -> None:
    growth = LearnedGrowth(place / "src", depth=2, width=2)
    growth.save(place / "saved")
    shutil.move(place / "saved" / "operator.safetensors", place / "fit.state")


def cut(place: Path) -> None:
    path = place / "fit.state"
    path.write_bytes(path.read_bytes()[:-10])


def same(place: Path) -> None:
    """The files are those of the checkpoint; the options are not."""


OTHERS: dict[str, tuple[Callable[[Path], object], tuple[object, ...], tuple[str, ...]]] = {
    "weights": (other_weights, (), ("another source",)),
    "text": (other_text, (), ("another text",)),
    "tokenizer": (other_tokenizer, (), ("another tokenizer",)),
    "more steps": (same, ("--fit-steps", 6), ("steps 4 there and 6 here", "every learning rate follows from their number")),
    "rate": (same, ("--fit-lr", 0.002), ("lr 0.001 there and 0.002 here",)),
    "warm-up": (same, ("--fit-warmup", 2), ("warmup 1 there and 2 here",)),
    "batch": (same, ("--fit-batch", 3), ("batch 2 there and 3 here",)),
    "length": (same, ("--fit-length", 17), ("length 16 there and 17 here",)),
    "seed": (same, ("--seed", 5), ("seed 0 there and 5 here",)),
    "depth": (same, ("--depth", 3), ("depth 2 there and 3 here",)),
    "start": (same, ("--init-noise", 0.1), ("init_noise 0.03 there and 0.1 here",)),
    "dtype": (same, ("--dtype", "bfloat16"), ("dtype 'keep' there and 'bfloat16' here",)),
    "many": (other_text, ("--fit-lr", 0.002), ("lr 0.001 there and 0.002 here; another text",)),
    "saved in Python": (of_python, (), ("saved in Python",)),
    "cut short": (cut, (), ("fit.state is no half-trained operator, or a damaged one",)),
    "empty": (lambda place: (place / "fit.state").write_bytes(b""), (), ("fit.state is no half-trained operator",)),
    "the text": (same, ("--fit-checkpoint", "text.txt"), ("text.txt is no half-trained operator",)),
    "the weights": (same, ("--fit-checkpoint", "whole/model.safetensors"), ("model.safetensors is no half-trained",)),
    "a folder": (same, ("--fit-checkpoint", "whole"), ("is no file",)),
    "inside the source": (same, ("--fit-checkpoint", "src/fit.state"), ("is inside the source", "outside")),
    "inside the target": (same, ("--fit-checkpoint", "dst/fit.state"), ("is inside the target", "outside")),
    "the target": (same, ("--fit-checkpoint", "dst"), ("is inside the target",)),
    "no folder": (same, ("--fit-checkpoint", "no/fit.state"), ("no does not exist; make it first",)),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_a_checkpoint_of_another_fit_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    spoil, options, words = OTHERS[case]
    spoil(place)
    monkeypatch.chdir(place)
    before = snapshot(place)
    shown = run(*command(place, place / "dst"), "--fit-checkpoint", "fit.state", *options, columns=1000)
    assert shown.exit_code == 2, (shown.stdout, shown.stderr)
    assert all(word in shown.stderr for word in words), shown.stderr
    assert snapshot(place) == before


def test_another_version_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "digest", lambda plan: "of tomorrow")
    shown = run(*command(place, place / "dst"), "--fit-checkpoint", place / "fit.state", columns=1000)
    assert shown.exit_code == 2 and "another version of growkernels" in shown.stderr


def test_options_of_a_fit_without_learned_growth_are_named(place: Path) -> None:
    words = ["--fit-checkpoint", place / "new.state", "--fit-lr", 0.1]
    shown = run("grow", place / "src", place / "dst", "--width", 2, *words, columns=300)
    assert shown.exit_code == 2
    assert "--fit-checkpoint, --fit-lr: there is a fit for learned growth only" in shown.stderr
