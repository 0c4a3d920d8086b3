"""A disk that fills up at every 4 kB step of a growth: a GrowthError and the destination as it was, or success.

On a small file system of its own where one may be mounted, else by a limit on the size of files.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from growkernels.errors import GrowthError
from growkernels.executors.files import shards
from tests.executors.support import grow, plan, snapshot, write_source
from tests.torture.fuzz import Findings

STEP = 4096


def may_mount(folder: Path) -> bool:
    """Whether this process may mount a file system."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = _mount(folder, STEP)
    if mounted:
        _unmount(folder)
    return mounted


def _mount(folder: Path, size: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, size: int, by_mount: bool) -> Iterator[None]:
    """A block in which the folder holds no more than `size` bytes; by a limit, none of its files does."""
    if by_mount:
        assert _mount(folder, size)
        try:
            yield
        finally:
            _unmount(folder)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def fill_up(folder: Path, step: int = STEP, time_left: Callable[[], bool] = lambda: True) -> Findings:
    """Growths onto disks of every size up to what they need, without and over an old checkpoint."""
    src, work = write_source(folder / "src"), folder / "work"
    by_mount = may_mount(work)
    findings = Findings()
    with pytest.MonkeyPatch.context() as patch:
        # Else the disk would be found too small before anything is written.
        usage = shutil.disk_usage(folder)
        patch.setattr(shards.shutil, "disk_usage", lambda _: usage._replace(free=1 << 40))
        grow(src, folder / "wanted", plan(snr_db=10.0))
        wanted = snapshot(folder / "wanted")
        needed = sum(path.stat().st_size + 2 * STEP for path in (folder / "wanted").iterdir())
        assert needed < 250_000
        for overwrite in (False, True):
            held = needed if overwrite and by_mount else 0
            for size in range(STEP, needed + 4 * STEP, step):
                if not time_left():
                    return findings
                with small_disk(work, held + size, by_mount):
                    _try(f"{size} bytes", src, work / "dst", overwrite, wanted, findings)
                if not by_mount:
                    shutil.rmtree(work / "dst", ignore_errors=True)
    # Both ends were reached.
    assert findings.read and findings.refused
    return findings


def _try(name: str, src: Path, dst: Path, overwrite: bool, wanted: dict[str, str], findings: Findings) -> None:
    old: dict[str, str] = {}
    try:
        if overwrite:
            grow(src, dst, plan(snr_db=5.0))
            old = snapshot(dst)
        grow(src, dst, plan(snr_db=10.0), overwrite)
        findings.read += 1
        expected = wanted
    except GrowthError:
        findings.refused += 1
        expected = old
    except Exception as error:
        findings.failures.append(f"{name}: {type(error).__name__}: {error}")
        return
    now = snapshot(dst) if dst.exists() else {}
    left = [path.name for path in dst.parent.iterdir() if path != dst]
    if now != expected or left:
        findings.failures.append(f"{name}: DST is {sorted(now)}, beside it {left}")
