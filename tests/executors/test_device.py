"""Checkpoints grown on a device: the bits of the CPU, every byte brought back, failures not lost on the way."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from growkernels.executors import execute, open_source, plan_shards
from growkernels.executors.device import CPU, open_device
from growkernels.executors.sinks import files
from growkernels.executors.sinks.files import FileSink
from growkernels.executors.sources.device import DeviceSource
from tests.executors import support
from tests.executors.support import grow, plan, snapshot, write_source

#: Not the CPU as far as we know, though its memory is: tensors have to be sent there and back.
ELSEWHERE = torch.device("cpu", 0)


@pytest.mark.parametrize("piece", [64, 1000, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_files_as_by_the_cpu(piece: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PIECE", piece)
    write_source(tmp_path / "src")
    done = grow(tmp_path / "src", tmp_path / "here", plan(dtype, snr_db=10.0), max_shard_size=30_000)
    there = grow(
        tmp_path / "src", tmp_path / "there", plan(dtype, snr_db=10.0), max_shard_size=30_000, device=ELSEWHERE
    )
    assert there == done
    assert snapshot(tmp_path / "here") == snapshot(tmp_path / "there")


def test_results_are_computed_there_and_not_in_the_file(tmp_path: Path) -> None:
    rule = plan().rules[1]
    shards = plan_shards({rule.target: rule.spec})
    with ThreadPoolExecutor(1) as background:
        for device, remote in ((CPU, False), (ELSEWHERE, True)):
            folder = tmp_path / str(remote)
            folder.mkdir()
            sink = FileSink(folder, shards, device, background)
            out = sink.empty(rule, device).fill_(3.5)
            before = load_file(folder / "model.safetensors")[rule.target]
            assert torch.all(before == (0.0 if remote else 3.5))
            sink.done(rule, out)
            sink.finish()
            assert torch.all(load_file(folder / "model.safetensors")[rule.target] == 3.5)


def test_a_failure_on_the_way_back_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "_copy", fail)
    write_source(tmp_path / "src")
    (tmp_path / "dst").mkdir()
    with pytest.raises(OSError, match="Input/output error"):
        execute(open_source(tmp_path / "src"), plan(), tmp_path / "dst", device=ELSEWHERE)


def test_tensors_of_a_device_are_copies_and_can_be_freed(tmp_path: Path) -> None:
    source = open_source(write_source(tmp_path / "src"))
    names = {"embed.weight", "layers.0.norm.weight"}
    for device in (CPU, ELSEWHERE):
        sent = DeviceSource(source, device)
        assert sent.tensors == source.tensors
        for name in names:
            assert sent.tensor(name).data_ptr() == sent.tensor(name).data_ptr()
            assert torch.equal(sent.tensor(name), support.tensors()[name])
            assert (sent.tensor(name).data_ptr() == source.tensor(name).data_ptr()) == (device == CPU)
        held = weakref.ref(sent.tensor("embed.weight"))
        sent.free("embed.weight")
        assert held() is None


def test_names_of_the_cpu() -> None:
    assert open_device("cpu") == open_device(torch.device("cpu", 0)) == CPU
