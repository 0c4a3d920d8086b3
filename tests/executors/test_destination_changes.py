"""What comes into the destination, or beside it, while a growth is at work is kept, and other runs are told apart."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from growkernels.errors import GrowthError
from growkernels.executors import staged
from growkernels.executors.files import exchange, staging
from tests.executors.support import snapshot


def checkpoint(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_text(text)
    return folder


def fail_half_way(folder: Path, error: type[BaseException]) -> None:
    (folder / "file").write_text("half")
    raise error("stop")


def add_a_file(dst: Path) -> None:
    (dst / "thesis.tex").write_text("ten years of work")


def become_another_folder(dst: Path) -> None:
    exchange.shutil.rmtree(dst)
    dst.mkdir()
    add_a_file(dst)


def change_a_file(dst: Path) -> None:
    (dst / "config.json").write_text("changed by hand")


def add_deep_below(dst: Path) -> None:
    (dst / "inner").mkdir()
    add_a_file(dst / "inner")


@pytest.mark.parametrize("renaming", ["exchange", "plain"])
@pytest.mark.parametrize("change", [add_a_file, become_another_folder, change_a_file, add_deep_below])
def test_what_came_into_the_destination_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], renaming: str
) -> None:
    if renaming == "plain":
        monkeypatch.setattr(exchange, "_renameat2", lambda *_: errno.EINVAL)
    checkpoint(tmp_path / "dst", "old")
    after = {}

    def run() -> None:
        with staged(tmp_path / "dst", overwrite=True):
            change(tmp_path / "dst")
            after.update(snapshot(tmp_path / "dst"))

    with pytest.raises(GrowthError, match="was changed during the growth; nothing was replaced"):
        run()
    assert snapshot(tmp_path / "dst") == after
    assert [path.name for path in tmp_path.iterdir()] == ["dst"]


@pytest.mark.parametrize("renaming", ["exchange", "plain"])
def test_what_comes_in_the_last_moment_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renaming: str
) -> None:
    """Between the last look at the destination and the renaming there is time for another process."""
    checkpoint(tmp_path / "dst", "old")
    real, calls = exchange._renameat2, []

    def late(*arguments: object) -> int:
        calls.append(arguments)
        if len(calls) == 1:
            add_a_file(tmp_path / "dst")
        return real(*arguments) if renaming == "exchange" else errno.EINVAL

    monkeypatch.setattr(exchange, "_renameat2", late)
    with pytest.raises(GrowthError, match="was changed during the growth"), staged(tmp_path / "dst", overwrite=True):
        pass
    assert (tmp_path / "dst" / "thesis.tex").read_text() == "ten years of work"
    assert (tmp_path / "dst" / "config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["dst"]


def test_a_destination_that_is_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    checkpoint(tmp_path / "dst", "old")
    with staged(tmp_path / "dst", overwrite=True) as folder:
        (folder / "file").write_text("new")
        exchange.shutil.rmtree(tmp_path / "dst")
    assert list(snapshot(tmp_path)) == ["dst", "dst/file"]


def test_a_run_that_cleans_up_between_the_folder_and_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, calls = staging._lock, []

    def late(folder: Path) -> int:
        calls.append(folder)
        if len(calls) == 1:
            staging._remove_leftovers(tmp_path / "dst")
            assert not folder.exists()
        return lock(folder)

    monkeypatch.setattr(staging, "_lock", late)
    with staged(tmp_path / "dst") as folder:
        (folder / "file").write_text("new")
    assert len(calls) == 2 and list(snapshot(tmp_path)) == ["dst", "dst/file"]


def test_a_run_that_starts_between_the_folder_and_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cleans up, and is at work when this one has its lock: one of the two goes on."""
    lock, other = staging._lock, tmp_path / ".dst.growkernels-01234567"
    held = []

    def late(folder: Path) -> int:
        if not held:
            other.mkdir()
            held.append(lock(other))
        return lock(folder)

    monkeypatch.setattr(staging, "_lock", late)
    with pytest.raises(GrowthError, match="another growth is writing"), staged(tmp_path / "dst"):
        raise AssertionError("entered")
    assert list(tmp_path.iterdir()) == [other]
    os.close(held[0])


def test_folders_that_others_planted_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither taken for a destination that a crash left half renamed, nor for a run at work."""
    checkpoint(tmp_path / ".dst.growkernels-0123abcd-old", "planted")
    checkpoint(tmp_path / ".dst.growkernels-0123abce", "planted")
    held = os.open(tmp_path / ".dst.growkernels-0123abce", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    before = snapshot(tmp_path)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with staged(tmp_path / "dst") as folder:
        (folder / "file").write_text("new")
    os.close(held)
    after = snapshot(tmp_path)
    assert {path: value for path, value in after.items() if not path.startswith("dst")} == before
    assert (tmp_path / "dst" / "file").read_text() == "new"
