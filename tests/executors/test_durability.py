"""What is on the disk when: by the recorded calls of a growth and of a fit's state, since no test can cut the power."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
import torch

from growkernels.errors import GrowthError
from growkernels.executors import staged
from growkernels.executors.files import exchange
from growkernels.learning.state import State, write_state
from tests.executors.support import grow, plan, snapshot, write_source

Call = tuple[str, str, str | None]


class Recorder:
    """The flushes and renames, in order: what was done, the path, and of a file flushed the hash of what it held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, exchanges: bool = True) -> None:
        self.calls: list[Call] = []
        fsync, replace, rename = os.fsync, os.replace, Path.rename
        renameat2 = exchange._renameat2

        def synced(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)
            held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            self.calls.append(("fsync", self._name(path, root), held))

        def exchanged(old: Path, new: Path, flag: int) -> int:
            if not exchanges:
                return errno.ENOSYS
            code = renameat2(old, new, flag)
            self.calls.append(("rename", self._name(new, root), None))
            return code

        def renamed(old: Path, new: Path) -> Path:
            self.calls.append(("rename", self._name(Path(new), root), None))
            return rename(old, new)

        def replaced(old: Path, new: Path) -> None:
            self.calls.append(("rename", self._name(Path(new), root), None))
            replace(old, new)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", replaced)
        monkeypatch.setattr(Path, "rename", renamed)
        monkeypatch.setattr(exchange, "_renameat2", exchanged)

    @staticmethod
    def _name(path: Path, root: Path) -> str:
        """Relative, with `HIDDEN` for a staging folder."""
        parts = path.relative_to(root).parts
        hidden = ["OLD" if part.endswith("-old") else "HIDDEN" if ".growkernels-" in part else part for part in parts]
        return "/".join(hidden) or "."


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "plain"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_then_their_folder_then_the_renaming_then_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, exchanges: bool
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    src = write_source(tmp_path / "src")
    if overwrite:
        grow(src, work / "dst")
    recorder = Recorder(monkeypatch, work, exchanges)
    grow(src, work / "dst", plan(snr_db=10.0), overwrite, max_shard_size=20_000)
    final = snapshot(work / "dst")
    assert len(final) > 6
    files, rest = recorder.calls[: len(final)], recorder.calls[len(final) :]
    # Every file, once, when it held what it holds in the end.
    assert {name: held for _, name, held in files} == {f"HIDDEN/{name}": held for name, held in final.items()}
    assert {what for what, _, _ in files} == {"fsync"}
    renames = ["dst"] if exchanges or not overwrite else ["OLD", "dst"]
    assert rest == [("fsync", "HIDDEN", None), *(("rename", name, None) for name in renames), ("fsync", ".", None)]


def test_folders_are_flushed_after_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, tmp_path)
    with staged(tmp_path / "dst") as folder:
        (folder / "inner" / "deep").mkdir(parents=True)
        for name in ("a", "inner/b", "inner/deep/c"):
            (folder / name).write_text(name)
    names = [name for _, name, _ in recorder.calls]
    for inside, outside in [
        ("HIDDEN/inner/deep/c", "HIDDEN/inner/deep"),
        ("HIDDEN/inner/deep", "HIDDEN/inner"),
        ("HIDDEN/inner/b", "HIDDEN/inner"),
        ("HIDDEN/inner", "HIDDEN"),
        ("HIDDEN/a", "HIDDEN"),
        ("HIDDEN", "dst"),
        ("dst", "."),
    ]:
        assert names.index(inside) < names.index(outside)
    assert len(names) == len(set(names)) == 8


def test_the_state_of_a_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = [{"m": torch.ones(3, 3)} for _ in range(3)]
    write_state(tmp_path / "state", State({}, "", None, [], None, *matrices))
    recorder = Recorder(monkeypatch, tmp_path)
    write_state(tmp_path / "state", State({}, "", None, [0.5], None, *matrices))
    held = hashlib.sha256((tmp_path / "state").read_bytes()).hexdigest()
    assert recorder.calls == [("fsync", ".state.partial", held), ("rename", "state", None), ("fsync", ".", None)]


def failing_parent(monkeypatch: pytest.MonkeyPatch, parent: Path, number: int) -> None:
    """From now on the operating system cannot flush that folder."""
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(parent):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "plain"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_parent_that_cannot_be_flushed_puts_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, exchanges: bool
) -> None:
    src = write_source(tmp_path / "src")
    if overwrite:
        grow(src, tmp_path / "dst")
    before = snapshot(tmp_path)
    if not exchanges:
        monkeypatch.setattr(exchange, "_renameat2", lambda *_: errno.ENOSYS)
    failing_parent(monkeypatch, tmp_path, errno.EIO)
    with pytest.raises(GrowthError, match=r"dst cannot be written: .*Input/output error\. It is as it was before"):
        grow(src, tmp_path / "dst", plan(snr_db=10.0), overwrite)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_flushes_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    src = write_source(tmp_path / "src")
    failing_parent(monkeypatch, tmp_path, number)
    grow(src, tmp_path / "dst")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst", "src"]


def test_what_cannot_be_put_back_is_said_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src = write_source(tmp_path / "src")
    grow(src, tmp_path / "dst")
    old = snapshot(tmp_path / "dst")
    failing_parent(monkeypatch, tmp_path, errno.EIO)
    renameat2, calls = exchange._renameat2, []

    def once(*arguments: object) -> int:
        calls.append(arguments)
        return renameat2(*arguments) if len(calls) == 1 else errno.EIO

    monkeypatch.setattr(exchange, "_renameat2", once)
    with pytest.raises(GrowthError, match=r"was replaced, and cannot be put back: .* What it held before is in"):
        grow(src, tmp_path / "dst", plan(snr_db=10.0), True)
    hidden = next(path for path in tmp_path.iterdir() if path.name.startswith(".dst."))
    assert snapshot(hidden) == old != snapshot(tmp_path / "dst")
