"""The grown model straight from the small checkpoint: by way of a device, in any dtype; requests that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

import growkernels
from growkernels import GrowthError, live
from growkernels.executors import memory
from growkernels.verification.logits import load_model
from tests.cli.support import snapshot
from tests.end_to_end.support import grown, saved
from tests.families import make_model
from tests.live.support import assert_same_model

#: What plans warn of is tested with the plans.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def stock(source: Path, target: Path, **options: Any) -> PreTrainedModel:
    """The grown checkpoint as stock transformers loads it."""
    return load_model(grown(source, target, **options), "auto")[0]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is not the CPU as far as we know, though its memory is: tensors have to be sent there."""
    monkeypatch.setattr(live, "open_device", lambda name: torch.device(name, 0))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "options", [{"width": 2}, {"width": 2, "depth": 2, "noise_snr_db": None}, {"depth": 2}], ids=str
)
@pytest.mark.parametrize("family", ["gemma", "bert"])
def test_by_way_of_another_devices_memory(family: str, options: dict[str, Any], sources: Path, tmp_path: Path) -> None:
    source = saved(sources, family)
    before = snapshot(source)
    model = growkernels.load_grown(source, **options)
    assert_same_model(model, stock(source, tmp_path / "grown", **options))
    for parameter in model.parameters():  # of its own memory: a write into a mapped file would end the process
        parameter.data.zero_()
    assert snapshot(source) == before


@pytest.mark.usefixtures("elsewhere")
def test_a_device_without_memory_for_the_source(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(sources, "llama")
    wanted = sum(value.nbytes for value in load_file(source / "model.safetensors").values())
    monkeypatch.setattr(memory, "free_memory", lambda device: wanted - 1)
    with pytest.raises(GrowthError, match=f"needs {wanted:,} bytes .* more on cpu:0"):
        growkernels.load_grown(source, width=2)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16, None])
def test_the_dtype_is_the_stored_one_or_the_one_asked_for(dtype: Any, sources: Path, tmp_path: Path) -> None:
    source = saved(sources, "llama", "tied", torch.bfloat16)
    model = growkernels.load_grown(source, width=2, dtype=dtype)
    name = str(dtype).removeprefix("torch.") if dtype else "keep"
    assert_same_model(model, stock(source, tmp_path / "grown", width=2, dtype=name))


def test_a_file_of_mixed_dtypes_becomes_a_model_of_one(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama", dtype=torch.bfloat16)
    tensors = load_file(source / "model.safetensors")
    tensors = {
        name: value.float() + 1e-3 if "norm" in name or "up_proj" in name else value for name, value in tensors.items()
    }
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    model = growkernels.load_grown(source, width=2, depth=2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert_same_model(model, stock(source, tmp_path / "grown", width=2, depth=2))


def test_a_file_that_holds_more_than_the_class(sources: Path, tmp_path: Path) -> None:
    source = saved(tmp_path, "bert", "pretraining")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    model = growkernels.load_grown(source, width=2)
    assert type(model).__name__ == "BertForMaskedLM"
    assert_same_model(model, stock(source, tmp_path / "grown", width=2))


def test_generation_settings_come_along(tmp_path: Path) -> None:
    _, model = make_model("gpt2")
    model.generation_config.max_new_tokens = 3
    model.save_pretrained(tmp_path)
    loaded = growkernels.load_grown(tmp_path, width=2)
    assert loaded.generation_config.max_new_tokens == 3 and not loaded.training
    assert loaded.generate(torch.arange(1, 5)[None], do_sample=False).shape[1] <= 7


def test_the_grown_model_can_be_trained_and_grown_again(sources: Path) -> None:
    model = growkernels.load_grown(saved(sources, "llama"), width=2)
    growkernels.grow_model(model, depth=2)
    ids = torch.arange(9)[None]
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_progress_counts_every_byte(sources: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    model = growkernels.load_grown(saved(sources, "llama"), width=2, on_progress=lambda *now: calls.append(now))
    total = sum(parameter.nbytes for parameter in model.parameters())
    assert calls == [("growing", total, total)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "device 'cuda' is not there: .*; expected cpu"),
        ("cuda:3", "device 'cuda:3' is not there: .*; expected cpu"),
        ("mps", "device 'mps' cannot grow tensors; expected cpu"),
        ("gpu", "device 'gpu' is not understood; expected cpu"),
        (None, "device None is not understood"),
    ],
)
def test_devices_that_are_not_there(device: Any, message: str, sources: Path, tmp_path: Path) -> None:
    source = saved(sources, "llama")
    before = snapshot(tmp_path)
    with pytest.raises(GrowthError, match=message):
        growkernels.load_grown(source, device=device, width=2)
    with pytest.raises(GrowthError, match=message):
        growkernels.grow_checkpoint(source, tmp_path / "grown", device=device, width=2)
    assert snapshot(tmp_path) == before


def test_bad_requests(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(sources, "llama")
    for options, message in (
        ({"width": 2, "dtype": torch.int8}, "dtype is 'int8'; expected one of keep"),
        ({"plan": growkernels.plan(source, width=2), "dtype": "float16"}, "plan and dtype both say what to grow"),
        ({}, "nothing to grow"),
        ({"widht": 2}, "unknown option widht"),
    ):
        with pytest.raises(GrowthError, match=message):
            growkernels.load_grown(source, **options)
    monkeypatch.setattr(memory, "free_memory", lambda device: 200_000)
    with pytest.raises(GrowthError, match=r"more on cpu at its peak, 200,000 .* can be had"):
        growkernels.load_grown(source, width=3)
