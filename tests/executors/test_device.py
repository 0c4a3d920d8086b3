"""Checkpoints grown on a device: the bits of the CPU, every byte brought back, failures not lost on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from growkernels.errors import GrowthError
from growkernels.executors import device as device_module
from growkernels.executors import execute, open_source
from growkernels.executors.device import CPU, Sent, Workplace, open_device
from tests.executors import support
from tests.executors.support import grow, plan, snapshot, write_source

#: Not the CPU as far as we know, though its memory is: tensors have to be sent there and back.
ELSEWHERE = torch.device("cpu", 0)


@pytest.mark.parametrize("piece", [64, 1000, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_files_as_by_the_cpu(piece: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_PIECE", piece)
    write_source(tmp_path / "src")
    done = grow(tmp_path / "src", tmp_path / "here", plan(dtype, snr_db=10.0), max_shard_size=30_000)
    there = grow(
        tmp_path / "src", tmp_path / "there", plan(dtype, snr_db=10.0), max_shard_size=30_000, device=ELSEWHERE
    )
    assert there == done
    assert snapshot(tmp_path / "here") == snapshot(tmp_path / "there")


def test_results_are_computed_there_and_not_in_the_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as behind:
        place, weight = torch.full((5, 7), 3.5), torch.randn(5, 7)
        for device, remote in ((CPU, False), (ELSEWHERE, True)):
            work = Workplace(device, behind)
            assert (work.fetch(weight).data_ptr() != weight.data_ptr()) == remote
            assert (work.room(place).data_ptr() != place.data_ptr()) == remote


def test_a_failure_on_the_way_back_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(device_module, "_land", fail)
    write_source(tmp_path / "src")
    (tmp_path / "dst").mkdir()
    with pytest.raises(OSError, match="Input/output error"):
        execute(open_source(tmp_path / "src"), plan(), tmp_path / "dst", device=ELSEWHERE)


def test_sent_tensors_are_copies_and_can_be_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write_source(tmp_path / "src"))
    names = {"embed.weight", "layers.0.norm.weight"}
    for device in (CPU, ELSEWHERE):
        sent = Sent(source, device, names)
        assert set(sent.tensors) == names
        for name in names:
            assert torch.equal(sent.tensor(name), support.tensors()[name])
            assert (sent.tensor(name).data_ptr() == source.tensor(name).data_ptr()) == (device == CPU)
        sent.forget("embed.weight")
        with pytest.raises(KeyError):
            sent.tensor("embed.weight")
    monkeypatch.setattr("growkernels.executors.memory.free_memory", lambda device: 1000)
    Sent(source, CPU, names)
    with pytest.raises(GrowthError, match="needs 18,816 bytes"):
        Sent(source, ELSEWHERE, names)


def test_names_of_the_cpu() -> None:
    assert open_device("cpu") == open_device(torch.device("cpu", 0)) == CPU
