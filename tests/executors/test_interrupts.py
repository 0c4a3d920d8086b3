"""Runs that are stopped at any moment leave the destination as it was or as it should be, and the next run works."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.executors.support import grow, plan, snapshot, write_source

STOPS = 25
#: Imports once, then grows in a forked child for every line it reads: `destination seed signal delay`. Tells how the child
#: ended, and how long it took. A child that is not waited for yet can be sent a signal, also when it is over.
SERVER = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from tests.executors.support import grow, plan
src = Path(sys.argv[1])
for line in sys.stdin:
    dst, seed, number, delay = line.split()
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            grow(src, Path(dst), plan(snr_db=float(seed)), overwrite=True, max_shard_size=20_000)
            code = 0
        except KeyboardInterrupt:
            code = 130
        except SystemExit as stop:
            code = stop.code
        finally:
            os._exit(code)
    if int(number):
        time.sleep(float(delay))
        os.kill(child, int(number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, time.perf_counter() - start, flush=True)
"""


class Server:
    """Starts growths in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def grow(self, dst: Path, seed: int, number: int = 0, delay: float = 0.0) -> tuple[int, float]:
        """Grow, and send a signal after some seconds; returns the exit status and how long it took."""
        self._process.stdin.write(f"{dst} {seed} {number} {delay}\n")
        self._process.stdin.flush()
        code, seconds = self._process.stdout.readline().split()
        return int(code), float(seconds)


@contextmanager
def server(src: Path) -> Iterator[Server]:
    command = [sys.executable, "-c", SERVER, str(src)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Server(process)
        process.stdin.close()


@pytest.mark.parametrize("existing", [True, False], ids=["overwrite", "fresh"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_run_stopped_at_a_random_moment(tmp_path: Path, number: signal.Signals, existing: bool) -> None:
    src, dst = write_source(tmp_path / "src"), tmp_path / "work" / "dst"
    dst.parent.mkdir()
    wanted = []
    for seed in (10, 11):
        grow(src, dst, plan(snr_db=float(seed)), overwrite=True, max_shard_size=20_000)
        wanted.append(snapshot(dst))
    chance, stopped = random.Random(7), 0
    with server(src) as children:
        code, seconds = children.grow(dst, 10)
        assert code == 0 and snapshot(dst) == wanted[0]
        for turn in range(STOPS):
            old = snapshot(dst)
            if not existing:
                remove(dst)
                old = {}
            seed = 10 + turn % 2
            code, took = children.grow(dst, seed, number.value, chance.uniform(0, 1.1 * seconds))
            now = snapshot(dst)
            assert now in (old, wanted[turn % 2])
            assert code in (0, -number, 128 + number)
            stopped += code != 0
            if code == 0:
                assert now == wanted[turn % 2]
                seconds = min(seconds, took)  # the first run may have been a slow one
            if number != signal.SIGKILL:
                assert [path.name for path in dst.parent.iterdir()] == ["dst"][: bool(now)]
        code, _ = children.grow(dst, 10)
    assert code == 0 and stopped > STOPS // 4
    assert snapshot(dst.parent) == {"dst": "folder", **{f"dst/{name}": value for name, value in wanted[0].items()}}


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink()
    if folder.exists():
        folder.rmdir()
