"""Staging: the destination changes in one step or not at all, and nobody else's folders are touched."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from growkernels.errors import GrowthError
from growkernels.executors import check_destination, execute, open_source, staged
from growkernels.executors.files import exchange, shards, staging, stopping
from tests.executors.support import plan, snapshot, write_source


def checkpoint(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_text(text)
    return folder


def fail_half_way(folder: Path, error: type[BaseException]) -> None:
    (folder / "file").write_text("half")
    raise error("stop")


def test_a_new_folder_appears_when_it_is_done(tmp_path: Path) -> None:
    with staged(tmp_path / "dst") as folder:
        assert folder.parent == tmp_path and folder.name.startswith(".dst.")
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("new")
        assert not (tmp_path / "dst").exists()
    assert list(snapshot(tmp_path)) == ["dst", "dst/sub", "dst/sub/file"]


def test_a_relative_path_and_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with staged(Path("dst")) as folder:
        (folder / "file").write_text("new")
    assert check_destination(Path("dst/../other/.")) == tmp_path / "other"
    with pytest.raises(GrowthError, match="exists; name a new folder"):
        check_destination(Path())


@pytest.mark.parametrize("renaming", ["exchange", "plain"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renaming: str, overwrite: bool) -> None:
    if renaming == "plain":
        monkeypatch.setattr(exchange, "_renameat2", lambda *_: errno.EINVAL)
    if overwrite:
        checkpoint(tmp_path / "dst", "old")
    with staged(tmp_path / "dst", overwrite) as folder:
        (folder / "file").write_text("new")
    assert list(snapshot(tmp_path)) == ["dst", "dst/file"]


@pytest.mark.parametrize("renaming", ["exchange", "plain"])
def test_a_folder_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renaming: str
) -> None:
    if renaming == "plain":
        monkeypatch.setattr(exchange, "_renameat2", lambda *_: errno.ENOSYS)
    with pytest.raises(GrowthError, match="appeared during the growth"), staged(tmp_path / "dst"):
        (tmp_path / "dst").mkdir()
    assert list(snapshot(tmp_path)) == ["dst"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GrowthError])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException], overwrite: bool) -> None:
    if overwrite:
        checkpoint(tmp_path / "dst", "old")
    before = snapshot(tmp_path)
    with pytest.raises(error), staged(tmp_path / "dst", overwrite) as folder:
        fail_half_way(folder, error)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_unwind_and_their_handlers_come_back(tmp_path: Path, number: int) -> None:
    with pytest.raises(SystemExit) as stopped, staged(tmp_path / "dst"):
        signal.raise_signal(number)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is signal.SIG_DFL
    assert snapshot(tmp_path) == {}


def test_a_second_signal_waits_for_the_cleaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = exchange.shutil.rmtree

    def interrupted(*args: object, **kwargs: object) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(*args, **kwargs)

    monkeypatch.setattr(exchange.shutil, "rmtree", interrupted)
    with pytest.raises(RuntimeError), staged(tmp_path / "dst") as folder:
        fail_half_way(folder, RuntimeError)
    assert snapshot(tmp_path) == {}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_too_late_to_stop_the_run_still_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = staging.commit

    def interrupted(*args: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        commit(*args)

    monkeypatch.setattr(staging, "commit", interrupted)
    # The signal's own action ends the process: another one takes its place for the test.
    monkeypatch.setattr(stopping, "_DEFAULTS", {signal.SIGTERM: signal.default_int_handler})
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), staged(tmp_path / "dst"):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(snapshot(tmp_path)) == ["dst"]


def test_it_works_in_a_thread(tmp_path: Path) -> None:
    def run() -> None:
        with staged(tmp_path / "dst"):
            pass

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert list(snapshot(tmp_path)) == ["dst"]


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".dst.growkernels-0123abcd", ".dst.growkernels-76543210-old"):
        checkpoint(tmp_path / name, "left")
    others = [
        ".other.growkernels-0123abcd",
        ".dst.growkernels-0123abcx",
        ".dst.growkernels-0123abcd1",
        "dst.growkernels-0123abcd",
    ]
    for name in others:
        checkpoint(tmp_path / name, "not ours")
    (tmp_path / ".dst.growkernels-00000000").write_text("a file")
    (tmp_path / ".dst.growkernels-00000001").symlink_to(tmp_path / others[0])
    checkpoint(tmp_path / "dst", "old")
    before = snapshot(tmp_path)
    with staged(tmp_path / "dst", overwrite=True) as folder:
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_text("old")
    after = snapshot(tmp_path)
    gone = {path.split("/")[0] for path in before.keys() - after.keys()}
    assert gone == {".dst.growkernels-0123abcd", ".dst.growkernels-76543210-old"}
    assert after == {path: value for path, value in before.items() if path.split("/")[0] not in gone}


def test_a_crash_between_plain_renames_is_mended(tmp_path: Path) -> None:
    checkpoint(tmp_path / ".dst.growkernels-0123abcd-old", "old")
    checkpoint(tmp_path / ".dst.growkernels-0123abcd", "new")
    with pytest.raises(GrowthError, match="exists; name a new folder"), staged(tmp_path / "dst"):
        raise AssertionError("entered")
    assert list(snapshot(tmp_path)) == ["dst", "dst/config.json", "dst/model.safetensors"]
    assert (tmp_path / "dst" / "config.json").read_text() == "old"


def test_two_growths_of_one_folder_are_refused(tmp_path: Path) -> None:
    with staged(tmp_path / "dst"):
        code = f"""
from pathlib import Path
from growkernels.executors.files.staging import staged
with staged(Path({str(tmp_path / "dst")!r})):
    print("entered")
"""
        command = [sys.executable, "-W", "ignore", "-c", code]
        other = subprocess.run(command, check=False, capture_output=True, text=True)
        assert "another growth is writing" in other.stderr and "entered" not in other.stdout
    assert list(snapshot(tmp_path)) == ["dst"]


#: Given path, overwrite, expected message.
REFUSALS = {
    "exists": ("old", False, "exists; name a new folder, or replace it with --overwrite"),
    "source": ("src", True, "is the source itself"),
    "source by a link": ("to_source", True, "is the source itself"),
    "inside the source": ("src/dst", False, "is inside the source"),
    "deep inside the source": ("src/inner/dst", False, "is inside the source"),
    "inside the source by a link": ("to_source/dst", False, "is inside the source"),
    "holds the source": (".", True, "holds the source"),
    "no parent": ("none/dst", False, "none does not exist; make it first"),
    "parent is a file": ("file/dst", False, "does not exist; make it first"),
    "a file": ("file", True, "is not a folder but a file or a link"),
    "a link": ("link", True, "is not a folder but a file or a link"),
    "documents": ("documents", True, "does not look like a checkpoint"),
    "a program": ("program", True, "does not look like a checkpoint"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_write_nothing(tmp_path: Path, case: str) -> None:
    checkpoint(tmp_path / "src", "source")
    checkpoint(tmp_path / "old", "old")
    (tmp_path / "src" / "inner").mkdir()
    (tmp_path / "file").write_text("a file")
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.txt").write_text("dear")
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "old")
    (tmp_path / "to_source").symlink_to(tmp_path / "src")
    dst, overwrite, message = REFUSALS[case]
    before = snapshot(tmp_path)
    with pytest.raises(GrowthError, match=message), staged(tmp_path / dst, overwrite, tmp_path / "src"):
        raise AssertionError("entered")
    assert snapshot(tmp_path) == before


def test_a_parent_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the answer of the operating system is put in its mouth.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(GrowthError, match="is not writable; choose another place"):
        check_destination(tmp_path / "dst")


def test_an_empty_folder_may_be_overwritten(tmp_path: Path) -> None:
    (tmp_path / "dst").mkdir()
    with staged(tmp_path / "dst", overwrite=True) as folder:
        (folder / "file").write_text("new")
    assert list(snapshot(tmp_path)) == ["dst", "dst/file"]


def with_error(dst: Path, error: OSError) -> None:
    with staged(dst):
        raise error


def test_what_the_disk_says_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(GrowthError, match=r"dst cannot be written: .*No space left on device.* It is as it was before"):
        with_error(tmp_path / "dst", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(GrowthError, match=r"cannot be written: .*File name too long"), staged(tmp_path / ("d" * 250)):
        raise AssertionError("entered")
    with pytest.raises(FileNotFoundError):
        with_error(tmp_path / "dst", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("place", ["/proc", "/sys", "/dev/fd", "/proc/self/fdinfo"])
def test_a_place_that_cannot_hold_files(tmp_path: Path, place: str) -> None:
    if not Path(place).is_dir():
        pytest.skip(reason=f"there is no {place}")
    source = open_source(write_source(tmp_path / "src"))

    def run() -> None:
        with staged(Path(place) / "dst") as folder:
            execute(source, plan(), folder)

    with pytest.raises(GrowthError, match=r"cannot be written|is not writable|cannot hold|needs .* free"):
        run()


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC])
@pytest.mark.parametrize("call", ["posix_fallocate", "mmap"])
def test_a_file_system_without_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, call) if call == "posix_fallocate" else (shards.mmap, call)), failing)
    wanted = (
        "no room for file.safetensors" if number == errno.ENOSPC else "cannot hold file.safetensors: .* choose a place"
    )
    with pytest.raises(GrowthError, match=wanted), staged(tmp_path / "dst") as folder:
        shards.MappedShard(folder, shards.Shard("file.safetensors", b"head", {}))
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    ("given", "message"), [("a\0b", "is no path"), ("~nobody-of-that-name/dst", "give the whole path")]
)
def test_paths_that_are_none(given: str, message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        check_destination(Path(given))


def test_a_signal_between_the_folder_and_what_removes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = staging._make

    def interrupted(*args: object) -> object:
        made = make(*args)
        signal.raise_signal(signal.SIGINT)
        return made

    monkeypatch.setattr(staging, "_make", interrupted)
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "dst"):
        raise AssertionError("entered")
    assert snapshot(tmp_path) == {}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
