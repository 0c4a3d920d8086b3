"""What is kept of a half-trained operator: whole, old or new, or nothing; and never of another growth."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from growkernels import GrowthError, LearnedGrowth
from growkernels.learning import checkpoint
from growkernels.learning.checkpoint import FitCheckpoint
from growkernels.learning.state import State, read_state, write_state
from tests.families import make_model
from tests.learning.support import saved
from tests.learning.test_growth import BOTH, batches


def test_saved_operators_are_checked(tmp_path: Path) -> None:
    source, folder = saved(tmp_path, "llama"), tmp_path / "operator"
    LearnedGrowth(source, **BOTH).save(folder)
    assert [path.name for path in folder.iterdir()] == ["operator.safetensors"]
    with pytest.raises(GrowthError, match="another source"):
        LearnedGrowth.load(folder, saved(tmp_path, "qwen3"))
    (folder / "operator.safetensors").write_bytes(b"12345678" * 3)
    with pytest.raises(GrowthError, match="damaged"):
        LearnedGrowth.load(folder, source)
    (folder / "operator.safetensors").unlink()
    with pytest.raises(GrowthError, match=r"operator\.safetensors cannot be read"):
        LearnedGrowth.load(folder, source)


def test_another_source_of_the_same_shapes_is_refused_but_a_live_model_has_no_digest(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama")
    LearnedGrowth(source, **BOTH).save(tmp_path / "operator")
    _, other = make_model("llama", seed=1)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(GrowthError, match="another source"):
        LearnedGrowth.load(tmp_path / "operator", tmp_path / "other")
    _, live = make_model("llama")
    LearnedGrowth(live, **BOTH).save(tmp_path / "operator")
    assert read_state(tmp_path / "operator" / "operator.safetensors").source_digest is None
    assert LearnedGrowth.load(tmp_path / "operator", live).step == 0


def test_tensors_of_other_shapes_are_found(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama")
    growth = LearnedGrowth(source, **BOTH)
    growth.fit(batches(1), steps=2)
    good = growth.state()
    for spoiled in (
        replace(good, matrices={**good.matrices, "hidden": good.matrices["hidden"][1:]}),
        replace(good, matrices={name: value for name, value in good.matrices.items() if name != "ffn"}),
        replace(good, exp_avg={**good.exp_avg, "nobody": torch.ones(2)}),
        replace(good, exp_avg_sq={**good.exp_avg_sq, "hidden": torch.ones(2)}),
    ):
        write_state(tmp_path / "operator.safetensors", spoiled)
        with pytest.raises(GrowthError, match="damaged: its tensors"):
            LearnedGrowth.load(tmp_path, source)


def test_files_of_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "operator.safetensors"
    for metadata in (None, {"steps": "3"}, {"growkernels": json.dumps({"format": 99})}):
        save_file({"matrices/hidden": torch.ones(3)}, path, metadata=metadata)
        with pytest.raises(GrowthError, match="no half-trained operator of format 3"):
            read_state(path)
    for old in (1, 2):
        save_file({"matrices/hidden": torch.ones(3)}, path, metadata={"growkernels": json.dumps({"format": old})})
        with pytest.raises(
            GrowthError, match=f"saved by an older growkernels, in format {old}.*plans have another form"
        ):
            read_state(path)
    for text in ("[]", "{", json.dumps({"format": 3})):
        save_file({"matrices/hidden": torch.ones(3)}, path, metadata={"growkernels": text})
        with pytest.raises(GrowthError, match="no half-trained operator, or a damaged one"):
            read_state(path)


def test_an_update_that_was_cut_in_two_is_neither_kept_nor_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    growth.fit(batches(1), steps=3)
    update = growth._optimizer.update

    def cut(*arguments: object) -> None:
        update(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(growth._optimizer, "update", cut)
    with pytest.raises(KeyboardInterrupt):
        growth.fit(batches(1), steps=3)
    for act in (lambda: growth.save(tmp_path / "x"), growth.materialise, lambda: growth.fit(batches(1), steps=3)):
        with pytest.raises(GrowthError, match="step 2 was stopped while it changed the matrices"):
            act()
    assert not (tmp_path / "x").exists()


def test_an_update_that_is_cut_in_two_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growth, path = LearnedGrowth(saved(tmp_path, "llama"), **BOTH), tmp_path / "state"
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    update = growth._optimizer.update

    def cut(step: int, *arguments: object) -> None:
        update(step, *arguments)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(growth._optimizer, "update", cut)
    kept = FitCheckpoint(path, growth, {"steps": 4})
    with pytest.raises(KeyboardInterrupt) as stopped, kept:
        growth.fit(batches(4), steps=4, on_step=lambda step, loss: kept.after_step() if step == 1 else None)
    notes = stopped.value.__notes__
    assert "step 3 was stopped while it changed" in notes[0] and "holds 1 of 4 steps" in notes[1]
    assert read_state(path).losses == growth.losses[:1] and growth.step == 2


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_older_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    growth.save(tmp_path / "operator")
    before = (tmp_path / "operator" / "operator.safetensors").read_bytes()
    growth.fit(batches(1), steps=3)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        with pytest.raises(GrowthError, match=r"operator\.safetensors cannot be written: No space left on device"):
            growth.save(tmp_path / "operator")
    assert {path.name: path.read_bytes() for path in (tmp_path / "operator").iterdir()} == {
        "operator.safetensors": before
    }
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(GrowthError, match="cannot be written: File exists"):
        growth.save(tmp_path / "file")


def test_runs_that_write_one_file_at_a_time_leave_it_whole(tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    state, path = growth.state(), tmp_path / "state"
    states = [replace(state, losses=[float(number)] * 1000 * number) for number in range(1, 5)]
    failures = []

    def write(mine: object) -> None:
        try:
            for _ in range(20):
                write_state(path, mine)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(mine,)) for mine in states]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert read_state(path).losses in [mine.losses for mine in states]
    assert failures == []
    assert [entry.name for entry in tmp_path.iterdir() if "state" in entry.name] == ["state"]


def test_writing_takes_a_twentieth_of_the_time_at_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth, now, written = LearnedGrowth(saved(tmp_path, "llama"), **BOTH), [0.0], []

    def slow(path: Path, state: object) -> None:
        written.append(now[0])
        now[0] += 6.0 if len(written) == 2 else 0.5

    monkeypatch.setattr(checkpoint, "perf_counter", lambda: now[0])
    monkeypatch.setattr(checkpoint, "write_state", slow)
    with FitCheckpoint(tmp_path / "state", growth, {"steps": 31}) as kept:
        for _ in range(31):
            now[0] += 10.0
            growth.losses.append(5.0)
            kept.after_step()
    # Every 30 seconds, but 120 after the one that took 6; the last one is that of the end.
    assert written == [30.0, 60.5, 186.5, 217.0, 247.5, 278.0, 308.5, 319.0]


def test_the_metadata_is_plain_json(tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    growth.fit(batches(1), steps=3)
    growth.save(tmp_path)
    with safe_open(tmp_path / "operator.safetensors", "pt") as file:
        rest = json.loads(file.metadata()["growkernels"])
    assert rest["losses"] == growth.losses and rest["options"]["width"] == 2 and rest["fit"] is None


@pytest.mark.parametrize(
    "rest",
    [
        "[" * 100_000,
        {"options": 5},
        {"losses": "x"},
        {"losses": [1]},
        {"losses": None},
        {"fit": 5},
        {"plan_digest": None},
        {"source_digest": 5},
    ],
    ids=lambda rest: str(rest)[:20],
)
def test_entries_of_another_kind_are_found(tmp_path: Path, rest: object) -> None:
    sound = {"format": 3, "options": {}, "plan_digest": "", "source_digest": None, "losses": [1.5], "fit": None}
    path = tmp_path / "operator.safetensors"
    text = rest if isinstance(rest, str) else json.dumps({**sound, **rest})
    save_file({"matrices/hidden": torch.ones(3)}, path, metadata={"growkernels": text})
    with pytest.raises(GrowthError, match="no half-trained operator, or a damaged one"):
        read_state(path)
    save_file({"matrices/hidden": torch.ones(3)}, path, metadata={"growkernels": json.dumps(sound)})
    assert read_state(path).losses == [1.5]


def small_state() -> State:
    return State({}, "", None, [], None, *({"hidden": torch.ones(2, 2)} for _ in range(3)))


@pytest.mark.parametrize("planted", ["link", "dangling link", "pipe", "another user's"])
def test_what_others_planted_under_the_name_of_the_part_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    part, victim = tmp_path / ".state.partial", tmp_path / "victim"
    if planted != "dangling link":
        victim.write_text("precious")
    if planted == "pipe":
        os.mkfifo(part)
    elif planted == "another user's":
        part.write_text("theirs")
        theirs = os.open(part, os.O_RDONLY)
        real, others = os.geteuid(), part.stat().st_ino
        fstat = os.fstat
        monkeypatch.setattr(
            os, "fstat", lambda fd: _owned(fstat(fd), real + 1) if fstat(fd).st_ino == others else fstat(fd)
        )
    else:
        part.symlink_to(victim)
    write_state(tmp_path / "state", small_state())
    assert not (tmp_path / "state").is_symlink() and not os.path.lexists(part)
    assert read_state(tmp_path / "state").matrices["hidden"].equal(torch.ones(2, 2))
    assert victim.exists() == (planted != "dangling link")
    if victim.exists():
        assert victim.read_text() == "precious"
    if planted == "another user's":
        assert os.read(theirs, 10) == b"theirs"
        os.close(theirs)


def _owned(status: os.stat_result, user: int) -> os.stat_result:
    fields = list(status)
    fields[4] = user
    return os.stat_result(fields)


@pytest.mark.parametrize(
    ("number", "message"), [(errno.EIO, "was written, but its folder cannot be flushed"), (errno.EINVAL, None)]
)
def test_a_folder_that_cannot_be_flushed_after_the_renaming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str | None
) -> None:
    """What it held before is not there any more, and nobody may say that it is; some file systems flush no folders."""
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    if message is None:
        write_state(tmp_path / "state", small_state())
    else:
        with pytest.raises(GrowthError, match=message):
            write_state(tmp_path / "state", small_state())
    assert read_state(tmp_path / "state").losses == []
