"""A source that changes while it is read: refused with what changed, nothing put in place, and no end by a signal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from growkernels.errors import GrowthError
from growkernels.executors import execute, open_source, staged, write_manifest
from tests.executors import support
from tests.executors.support import grow, plan, snapshot, write_bin, write_sharded, write_source


def weights(src: Path) -> Path:
    return max(src.glob("*model*"), key=lambda path: path.stat().st_size)


def aged(src: Path) -> Path:
    """The files, last changed long ago: clocks of file systems are coarse, and these have just been written."""
    for path in src.iterdir():
        os.utime(path, (1e9, 1e9))
    return src


def write_into(src: Path) -> None:
    with weights(src).open("r+b") as file:
        file.seek(-400, os.SEEK_END)
        file.write(bytes(400))


def cut(src: Path) -> None:
    os.truncate(weights(src), 1000)


def cut_to_nothing(src: Path) -> None:
    os.truncate(weights(src), 0)


def append(src: Path) -> None:
    with weights(src).open("ab") as file:
        file.write(b"more")


def replace(src: Path) -> None:
    """As save_pretrained does it: another file under the name, here of the same size and age."""
    path = weights(src)
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def remove(src: Path) -> None:
    weights(src).unlink()


def change_config(src: Path) -> None:
    (src / "config.json").write_text('{"model_type": "another"}')


CHANGES: dict[Callable[[Path], None], str] = {
    write_into: r"has changed since it was opened \(it was written to\)",
    cut: r"has changed since it was opened \(it had [\d,]+ bytes and has 1,000\)",
    cut_to_nothing: r"bytes and has 0\)",
    append: "has changed since it was opened",
    replace: "another file is in its place",
    remove: "is gone since it was opened",
    change_config: r"config.json has changed since it was opened",
}


@pytest.mark.parametrize("when", [0, 3], ids=["after the first tensor", "after the last"])
@pytest.mark.parametrize("write", [write_source, write_sharded, write_bin])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_during_the_growth(
    tmp_path: Path, change: Callable[[Path], None], write: Callable[[Path], Path], when: int
) -> None:
    src, calls = aged(write(tmp_path / "src")), []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == when + 1:
            change(src)

    with pytest.raises(GrowthError, match=CHANGES[change]):
        grow(src, tmp_path / "dst", progress=progress)
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_after_the_weights_are_written(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """While the result is verified, say: the manifest would name a source that nothing grew from."""
    src = aged(write_source(tmp_path / "src"))
    source = open_source(src)

    def run() -> None:
        with staged(tmp_path / "dst", source=src) as folder:
            done = execute(source, plan(), folder)
            change(src)
            write_manifest(folder, source, done)

    with pytest.raises(GrowthError, match=CHANGES[change]):
        run()
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize("change", [cut, replace, remove], ids=lambda change: change.__name__)
def test_a_change_between_opening_and_reading(tmp_path: Path, change: Callable[[Path], None]) -> None:
    source = open_source(aged(write_source(tmp_path / "src")))
    change(tmp_path / "src")
    with pytest.raises(GrowthError, match=CHANGES[change]):
        source.tensor("embed.weight")
    with pytest.raises(GrowthError, match=CHANGES[change]):
        source.digest()


def test_a_source_cut_short_does_not_end_the_process(tmp_path: Path) -> None:
    """Its pages are not there any more; whoever reads one gets SIGBUS, which no exception of Python's stands for."""
    save_file({f"w{i}": torch.ones(256, 256) for i in range(40)}, write_source(tmp_path / "src") / "model.safetensors")
    code = f"""
import os, sys
from dataclasses import replace
from pathlib import Path
from growkernels.errors import GrowthError
from tests.executors.support import grow, plan, rule
src = Path({str(tmp_path / "src")!r})
rules = tuple(rule(f"w{{i}}", (256, 256), "float32") for i in range(40))
def progress(done, total):
    os.truncate(src / "model.safetensors", 4096)
try:
    grow(src, Path({str(tmp_path / "dst")!r}), replace(plan(), rules=rules), progress=progress)
except GrowthError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "bytes and has 4,096" in done.stdout


def test_reading_a_source_changes_nothing_about_it(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    os.utime(src / "config.json", ns=(1, 1))
    before = snapshot(src)
    grow(src, tmp_path / "dst")
    assert snapshot(src) == before and set(support.tensors()) == set(open_source(src).tensors)
