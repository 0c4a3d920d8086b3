"""`torchrun -m growkernels grow`: the files of one process, and a process that is killed leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from growkernels.api import grow_checkpoint
from tests.end_to_end.support import saved
from tests.executors.support import snapshot

#: The command line, in which one process kills itself at a step.
KILLED = """
import os, signal, sys
from growkernels import api
from growkernels.executors import checkpoint
from growkernels.verification import checkpoint as verification

modules = {"api": api, "checkpoint": checkpoint, "verification": verification}
if os.environ["RANK"] == sys.argv[1]:
    setattr(modules[sys.argv[2]], sys.argv[3], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
from growkernels.cli import app
app(sys.argv[4:])
"""
OPTIONS = ["--width", "2", "--depth", "2", "--max-shard-size", "30KB"]


def torchrun(size: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), *map(str, arguments)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_torchrun_makes_the_files_of_one_process(tmp_path) -> None:
    src = saved(tmp_path, "llama")
    grow_checkpoint(src, tmp_path / "alone", width=2, depth=2, max_shard_size="30KB")
    done = torchrun(2, "-m", "growkernels", "grow", src, tmp_path / "shared", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verified") == 1
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")
    refused = torchrun(2, "-m", "growkernels", "grow", src, tmp_path / "shared", *OPTIONS)
    assert refused.returncode != 0
    assert refused.stderr.count(f"{tmp_path / 'shared'} exists") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize(
    "step",
    [
        ("api", "check_destination"),
        ("checkpoint", "check_room"),
        ("checkpoint", "FileSink"),
        ("verification", "verify_slices"),
        ("api", "report_side_files"),
    ],
)
def test_a_killed_process_ends_the_others_and_leaves_nothing(tmp_path, rank, step) -> None:
    src = saved(tmp_path, "llama")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    before = snapshot(tmp_path)
    start = time.monotonic()
    done = torchrun(3, script, str(rank), *step, "grow", src, tmp_path / "grown", *OPTIONS)
    assert done.returncode != 0
    assert time.monotonic() - start < 120
    if step[1] == "report_side_files":  # when all is in place
        assert (tmp_path / "grown").exists()
        return
    assert not (tmp_path / "grown").exists()
    if rank:
        assert snapshot(tmp_path) == before
    # What the first process could not remove any more, the next run does.
    assert torchrun(2, "-m", "growkernels", "grow", src, tmp_path / "grown", *OPTIONS).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {src.name, "killed.py", "grown"}
