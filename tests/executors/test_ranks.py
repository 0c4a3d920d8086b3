"""Several processes share one growth: the files of one process, and all or nothing. Here threads stand for the processes."""

from __future__ import annotations

import errno
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from growkernels import api
from growkernels.api import grow_checkpoint
from growkernels.errors import GrowthError, PeerFailed, VerificationFailed
from growkernels.executors import checkpoint
from growkernels.executors.files.safetensors_file import Entry
from growkernels.executors.files.shards import Shard
from growkernels.executors.ranks import Ranks
from growkernels.verification import checkpoint as verification
from tests.end_to_end.support import saved
from tests.executors.support import snapshot

OPTIONS = {"width": 2, "depth": 2, "max_shard_size": 30_000}


class Meeting:
    """Where the threads exchange their values, round by round; over as soon as one of them is gone."""

    def __init__(self, size: int) -> None:
        self.size, self.rounds, self.gone = size, defaultdict[int, dict[int, Any]](dict), False
        self.changed = threading.Condition()


class ThreadRanks(Ranks):
    """A thread as one of the processes."""

    def __init__(self, rank: int, size: int, meeting: Meeting) -> None:
        super().__init__(rank, size)
        self._meeting, self._round = meeting, 0

    def gather(self, value: Any) -> list[Any]:
        self._round += 1
        with self._meeting.changed:
            values = self._meeting.rounds[self._round]
            values[self.rank] = value
            self._meeting.changed.notify_all()
            assert self._meeting.changed.wait_for(lambda: len(values) == self.size or self._meeting.gone, 120)
        if len(values) < self.size:
            raise GrowthError("lost the others")
        return [values[rank] for rank in range(self.size)]

    def __exit__(self, *error: object) -> None:
        with self._meeting.changed:
            self._meeting.gone = True
            self._meeting.changed.notify_all()


def grow_together(size: int, src: Path, dst: Path, **options: Any) -> list[Any]:
    """The report or the error of every process."""
    meeting = Meeting(size)

    def one(rank: int) -> Any:
        threading.current_thread().name = f"process {rank}"
        own = {key: value[rank] if isinstance(value, list) else value for key, value in options.items()}
        try:
            with ThreadRanks(rank, size, meeting) as ranks:
                return grow_checkpoint(src, dst, ranks=ranks, **own)
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


def in_process(rank: int, function: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """The function, which fails in one of the processes."""

    def wrapped(*args: Any, **keywords: Any) -> Any:
        if threading.current_thread().name == f"process {rank}":
            raise error
        return function(*args, **keywords)

    return wrapped


@pytest.mark.parametrize("size", [2, 3])
def test_the_files_are_those_of_one_process(tmp_path, size) -> None:
    src = saved(tmp_path, "llama")
    grow_checkpoint(src, tmp_path / "alone", **OPTIONS)
    reports = grow_together(size, src, tmp_path / "shared", **OPTIONS)
    assert all(isinstance(report, api.Report) for report in reports), reports
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")
    assert {report.plan.digest() for report in reports} == {reports[0].plan.digest()}


def test_more_processes_than_files(tmp_path) -> None:
    src = saved(tmp_path, "gpt2")
    grow_checkpoint(src, tmp_path / "alone", depth=2)
    reports = grow_together(3, src, tmp_path / "shared", depth=2)
    assert all(isinstance(report, api.Report) for report in reports), reports
    assert snapshot(tmp_path / "shared") == snapshot(tmp_path / "alone")


FULL = OSError(errno.ENOSPC, "No space left on device")


#: Where a step of each process can fail, and with what; the last is taken by the first process alone.
STEPS = [
    (api.Growth, "open", GrowthError("no such model")),
    (api.Growth, "check", GrowthError("tied tensors differ")),
    (checkpoint, "check_room", GrowthError("no room")),
    (checkpoint, "FileSink", FULL),
    (verification, "verify_slices", GrowthError("cannot be read")),
    (api, "write_manifest", FULL),
]


@pytest.mark.parametrize(
    ("rank", "module", "name", "error"),
    [(rank, *step) for rank in (0, 1) for step in STEPS if rank == 0 or step is not STEPS[-1]],
)
def test_one_that_fails_ends_all_and_nothing_is_put_in_place(tmp_path, monkeypatch, rank, module, name, error) -> None:
    src = saved(tmp_path, "llama")
    before = snapshot(tmp_path)
    monkeypatch.setattr(module, name, in_process(rank, getattr(module, name), error))
    ended = grow_together(3, src, tmp_path / "grown", **OPTIONS)
    assert all(isinstance(found, GrowthError) for found in ended), ended
    assert [isinstance(found, PeerFailed) for found in ended] == [False, True, True]
    assert str(error) in str(ended[0])
    assert rank == 0 or f"process {rank} of 3" in str(ended[0])
    monkeypatch.undo()
    assert snapshot(tmp_path) == before
    assert isinstance(grow_together(3, src, tmp_path / "grown", **OPTIONS)[0], api.Report)


def test_a_wrong_byte_fails_the_verification_of_all(tmp_path, monkeypatch) -> None:
    src = saved(tmp_path, "llama")
    real = checkpoint.write_index

    def damaged(folder: Path, shards: Any) -> None:
        real(folder, shards)
        file = sorted(folder.glob("model-*"))[1]
        data = bytearray(file.read_bytes())
        data[-1] ^= 64
        file.write_bytes(data)

    monkeypatch.setattr(checkpoint, "write_index", damaged)
    ended = grow_together(2, src, tmp_path / "grown", **OPTIONS)
    assert all(isinstance(found, VerificationFailed) for found in ended), ended
    assert not (tmp_path / "grown").exists()


def test_one_that_dies_without_a_word_ends_all(tmp_path, monkeypatch) -> None:
    src = saved(tmp_path, "llama")
    before = snapshot(tmp_path)
    monkeypatch.setattr(checkpoint, "FileSink", in_process(1, checkpoint.FileSink, ZeroDivisionError()))
    ended = grow_together(2, src, tmp_path / "grown", **OPTIONS)
    assert "lost the others" in str(ended[0])
    assert snapshot(tmp_path) == before


def test_different_requests_are_refused(tmp_path) -> None:
    src = saved(tmp_path, "llama")
    ended = grow_together(2, src, tmp_path / "grown", width=2, seed=[1, 2])
    assert all("process 1 would grow something else" in str(found) for found in ended), ended
    assert not (tmp_path / "grown").exists()


def test_a_folder_that_another_cannot_see_is_refused(tmp_path, monkeypatch) -> None:
    src = saved(tmp_path, "llama")
    real = Path.is_dir

    def is_dir(path: Path) -> bool:
        hidden = ".growkernels-" in path.name and threading.current_thread().name == "process 1"
        return not hidden and real(path)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    ended = grow_together(2, src, tmp_path / "grown", width=2)
    assert "need a file system that all of them see" in str(ended[0])


def test_a_fit_runs_in_one_process(tmp_path) -> None:
    with pytest.raises(GrowthError, match="a fit runs in one process, and this growth has 2"):
        grow_checkpoint(
            tmp_path, tmp_path / "out", fit=api.Fit("text.txt"), ranks=Ranks(1, 2), width=2, width_operator="ligo"
        )


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.integers(1, 9))
def test_every_file_has_one_writer_and_nobody_has_much_more(sizes: list[int], size: int) -> None:
    shards = [Shard(f"{k:02}", b"", {"w": Entry(torch.uint8, (nbytes,), 0, nbytes)}) for k, nbytes in enumerate(sizes)]
    shares = Ranks(0, size).share(shards)
    assert sorted(shard.file for share in shares for shard in share) == [shard.file for shard in shards]
    assert all(share == sorted(share, key=lambda shard: shard.file) for share in shares)
    loads = [sum(shard.nbytes for shard in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes)


def test_only_torchrun_starts_several() -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}
    ranks = Ranks.of_torchrun(torchrun)
    assert (ranks.rank, ranks.size, ranks.is_first) == (3, 4, False)
    assert [ranks.device(name) for name in ("cpu", "cuda", "cuda:0")] == ["cpu", "cuda:1", "cuda:0"]
    for alone in ({}, {"RANK": "1", "WORLD_SIZE": "4"}, {**torchrun, "WORLD_SIZE": "1", "RANK": "0"}):
        assert (Ranks.of_torchrun(alone).rank, Ranks.of_torchrun(alone).size) == (0, 1)
