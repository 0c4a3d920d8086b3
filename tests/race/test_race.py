"""Races: the same bits again, also after an interruption; curves, FLOPs, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlamaForCausalLM

from growkernels.advise.shapes import target_of_config
from growkernels.errors import GrowthError
from growkernels.learning import TextBatches
from growkernels.race import RaceResult, race, training
from tests.cli.support import json_of, run, snapshot

SETTINGS: dict[str, Any] = {"steps": 12, "batch": 2, "length": 16, "lr": 3e-3, "warmup": 3, "source_tokens": "100k"}


def held(place: Path, folder: Path, **changes: Any) -> RaceResult:
    return race(place / "src", place / "ways.yaml", place / "text.txt", folder, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory: pytest.TempPathFactory) -> RaceResult:
    return held(place, tmp_path_factory.mktemp("finished") / "race")


class Stop(BaseException):
    """A process that is killed."""


def test_an_interrupted_race_ends_with_the_bits_of_one_without_a_pause(
    place: Path, tmp_path: Path, finished: RaceResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_KEEP_EVERY", -1.0)
    steps = 0

    def stop_at(limit: int) -> Any:
        def count(name: str, seed: int, step: int) -> None:
            nonlocal steps
            steps += 1
            if steps == limit:
                raise Stop

        return count

    for limit in (1, 5, 30, 40):
        steps = 0
        with pytest.raises(Stop):
            held(place, tmp_path / "race", on_step=stop_at(limit))
    torch.manual_seed(5)
    steps = 0
    again = held(place, tmp_path / "race", on_step=stop_at(10**9))
    # 8 runs of 12 steps, of which 76 had been kept.
    assert steps == 8 * 12 - 76
    assert again.to_json() == finished.to_json()
    assert (tmp_path / "race" / "race.json").read_bytes() == (finished.folder / "race.json").read_bytes()
    # The caller's random numbers are left alone.
    following = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == following


def test_a_finished_race_trains_nothing_again(
    place: Path, finished: RaceResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("growkernels.race.running.train", lambda *arguments: pytest.fail("trained again"))
    assert held(place, finished.folder).to_json() == finished.to_json()
    kept = {path.name for path in finished.folder.iterdir()}
    assert not [name for name in kept if name.endswith((".state", ".grown", ".partial"))]


def test_other_seeds_give_other_bits(finished: RaceResult) -> None:
    for name, runs in finished.curves.items():
        assert runs[0].losses != runs[1].losses, name
        assert runs[0].losses[-1] < runs[0].losses[0]


def test_flops_count_the_source_and_the_fit(place: Path, finished: RaceResult) -> None:
    config = json.loads((place / "src" / "config.json").read_text())
    small, large = target_of_config(config), target_of_config({**config, "num_hidden_layers": 4})
    source = 6 * (small.active + small.head) * 1e5
    each = 6 * (large.active + large.head) * 2 * 16
    assert finished.source_flops == source
    stack, learned, fresh = (finished.curves[name][0] for name in ("stack", "learned", "fresh"))
    assert stack.flops == tuple(source + step * each for step in range(13)) and stack.steps == tuple(range(13))
    assert learned.flops[0] == source + 2 * each
    assert fresh.flops == tuple(step * each for step in range(13))


def test_a_growth_that_keeps_the_function_starts_where_the_source_ended(place: Path, finished: RaceResult) -> None:
    config = json.loads((place / "src" / "config.json").read_text())
    model = LlamaForCausalLM.from_pretrained(place / "src", dtype=torch.float32)
    held_out = TextBatches(finished.folder / "held-out.txt", place / "src", config, 2, 16)
    for wide in finished.curves["wide"]:
        # The logits of a grown model are held to 1e-4 of the largest one, which is below 10 here.
        assert wide.losses[0] == pytest.approx(training.held_out_loss(model, held_out), abs=1e-3)


def test_warnings_and_picture(finished: RaceResult) -> None:
    texts = " ".join(finished.warnings)
    assert "12 steps are few" in texts and "warm-up of" not in texts and "not counted" not in texts
    with Image.open(finished.folder / "race.png") as picture:
        assert picture.size[0] > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_the_folder_of_another_race_is_refused(place: Path, finished: RaceResult) -> None:
    before = snapshot(finished.folder)
    with pytest.raises(GrowthError, match="race with another steps"):
        held(place, finished.folder, steps=13)
    with pytest.raises(GrowthError, match="another seeds"):
        held(place, finished.folder, seeds=3)
    assert snapshot(finished.folder) == before


def test_a_damaged_state_is_named(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_KEEP_EVERY", -1.0)

    def stop(name: str, seed: int, step: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        held(place, tmp_path / "race", on_step=stop)
    state = tmp_path / "race" / "stack-seed0.state"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(GrowthError, match="remove it to begin the run again"):
        held(place, tmp_path / "race")


def test_the_command(place: Path, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("stack: {depth: 2}\nwide: {width: 2}\n")
    command = [
        "race",
        place / "src",
        "--candidates",
        tmp_path / "two.yaml",
        "--text",
        place / "text.txt",
        "--steps",
        "2",
    ]
    command += ["--batch", "2", "--length", "16", "--warmup", "5", "--out", tmp_path / "race"]
    result = run(*command, "--json")
    assert result.exit_code == 0, result.stderr
    data = json_of(result)
    assert set(data["curves"]) == {"stack", "wide"} and data["seeds"] == [0, 1]
    assert "end before the warm-up of 5" in " ".join(result.stderr.split())
    shown = " ".join(run(*command, columns=200).stdout.split())
    assert "mean loss" in shown and ("leads: each seed" in shown or "no clear leader: " in shown)
    assert "source's FLOPs are not counted" in shown


BAD = {
    "no file": (None, (), ("ways.yaml cannot be read",)),
    "no YAML": ("a: {", (), ("no valid YAML",)),
    "one candidate": ("stack: {depth: 2}", (), ("fewer than two candidates",)),
    "a list": ("- stack\n- wide\n", (), ("fewer than two candidates",)),
    "no options": ("a: 3\nb: {depth: 2}", (), ("a is 3", "expected options of a growth")),
    "a name that is a path": ("../a: {depth: 2}\nb: {depth: 2}", (), ("'../a' is no name",)),
    "unknown option": ("a: {deep: 2}\nb: {depth: 2}", (), ("candidate a", "unknown option deep")),
    "cannot be grown": ("a: {depth: two}\nb: {depth: 2}", (), ("candidate a", "depth is 'two'")),
    "scratch of nothing": ("a: {scratch: c}\nb: {depth: 2}", (), ("shape of 'c'", "name one of b")),
    "scratch and more": ("a: {scratch: b, depth: 2}\nb: {depth: 2}", (), ("starts from scratch",)),
    "a seed": ("a: {depth: 2, seed: 1}\nb: {depth: 2}", (), ("a sets a seed",)),
    "fit steps": ("a: {depth: 2, fit_steps: x}\nb: {depth: 2}", (), ("fit_steps of a",)),
    "no steps": ("a: {depth: 2}\nb: {depth: 3}", ("--steps", "0"), ("steps is 0",)),
    "no seeds": ("a: {depth: 2}\nb: {depth: 3}", ("--seeds", "0"), ("seeds is 0",)),
    "learning rate": ("a: {depth: 2}\nb: {depth: 3}", ("--lr", "-1"), ("lr is -1",)),
    "no text": ("a: {depth: 2}\nb: {depth: 3}", ("--text", "none.txt"), ("none.txt",)),
    "little text": ("a: {depth: 2}\nb: {depth: 3}", ("--text", "short.txt"), ("holds 5 tokens",)),
    "a folder in use": ("a: {depth: 2}\nb: {depth: 3}", ("--out", "used"), ("used exists",)),
    "tokens": ("a: {depth: 2}\nb: {depth: 3}", ("--source-tokens", "many"), ("source tokens is 'many'",)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    ways, options, words = BAD[case]
    monkeypatch.chdir(tmp_path)
    if ways is not None:
        Path("ways.yaml").write_text(ways)
    Path("short.txt").write_text("grows")
    Path("used").mkdir()
    Path("used/thesis.tex").write_text("ten years of work")
    before = snapshot(tmp_path)
    command = ["race", place / "src", "--candidates", "ways.yaml", "--text", place / "text.txt", "--steps", "2"]
    result = run(*command, *options, "--json")
    assert result.exit_code == 2, (result.stdout, result.stderr)
    message = json_of(result)["error"]["message"]
    for word in words:
        assert word in message, message
    assert snapshot(tmp_path) == before
