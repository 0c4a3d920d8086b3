"""Growths of live models that fail half-way: the model is as it was where memory allows it, else what is lost is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import growkernels
from growkernels import live as live_module
from growkernels.errors import GrowthError
from growkernels.executors import memory
from growkernels.executors import run as run_module
from growkernels.executors.sinks import graft as graft_module
from growkernels.executors.sinks.graft import Graft
from growkernels.executors.sinks.module import ModuleSink
from tests.families import make_model
from tests.live.support import Untouched, assert_same_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
OPTIONS = [{"width": 2}, {"depth": 2}, {"width": 2, "depth": 2}]
IDS = torch.arange(9)[None]
#: What may fail, by the object and the name of the function that does.
PLACES: dict[str, tuple[Any, str]] = {
    "the op": (run_module.ops, "tile_rules_"),
    "memory for a target": (ModuleSink, "empty"),
    "a parameter": (ModuleSink, "_set"),
    "the graft": (Graft, "apply"),
    "the state of a module": (graft_module, "_state"),
    "its buffers": (graft_module, "_buffers"),
}


class Injected(BaseException):
    """An error that nothing expects."""


def fail_at(monkeypatch: pytest.MonkeyPatch, place: str, call: int, error: BaseException) -> None:
    owner, name = PLACES[place]
    real: Callable[..., Any] = getattr(owner, name)
    calls = [0]

    def failing(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise error
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, failing)


def model_with_gradients() -> PreTrainedModel:
    _, model = make_model("llama")
    model(IDS, labels=IDS).loss.backward()
    return model


@pytest.mark.parametrize("error", [RuntimeError("injected"), Injected()], ids=repr)
@pytest.mark.parametrize(
    ("place", "call"),
    [
        *((place, 1) for place in PLACES),
        ("the op", 2),
        ("memory for a target", 9),
        ("a parameter", 7),
        ("the state of a module", 5),
        ("its buffers", 3),
    ],
)
def test_a_failure_leaves_the_model_as_it_was(
    place: str, call: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"width": 2, "depth": 2}
    monkeypatch.setattr(ModuleSink, "bucket", 4096)
    model = model_with_gradients()
    before, outputs = Untouched(model), model(IDS).logits.detach().clone()
    with monkeypatch.context() as patch:
        fail_at(patch, place, call, error)
        with pytest.raises(type(error)):
            growkernels.grow_model(model, **options)
    before.check()
    assert model(IDS).logits.equal(outputs)
    # And it can still be grown.
    _, other = make_model("llama")
    assert_same_model(growkernels.grow_model(model, **options), growkernels.grow_model(other, **options))


def test_where_both_do_not_fit_the_loss_is_foretold_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_model("llama")[1].save_pretrained(tmp_path / "small")
    model = make_model("llama")[1].from_pretrained(tmp_path / "small")
    monkeypatch.setattr(ModuleSink, "bucket", 4096)
    monkeypatch.setattr(live_module, "free_memory", lambda device: 0)
    fail_at(monkeypatch, "a parameter", 9, RuntimeError("injected"))
    with (
        pytest.warns(UserWarning, match=r"freed as they are used.*some are lost\. Save the model first"),
        pytest.raises(RuntimeError, match="injected") as caught,
    ):
        growkernels.grow_model(model, width=2)
    lost = sum(parameter.numel() == 0 for parameter in model.parameters())
    assert 0 < lost < len(list(model.parameters()))
    [note] = caught.value.__notes__
    assert f"has lost {lost} of {len(list(model.parameters()))} weights" in note
    assert f"LlamaForCausalLM.from_pretrained({str(tmp_path / 'small')!r})" in note


def test_what_fails_before_the_first_weight_is_freed_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """States of modules are worked out before."""
    monkeypatch.setattr(live_module, "free_memory", lambda device: 0)
    for place in ("the state of a module", "its buffers"):
        model = model_with_gradients()
        before = Untouched(model)
        with monkeypatch.context() as patch:
            fail_at(patch, place, 5, RuntimeError("injected"))
            with pytest.raises(RuntimeError, match="injected"):
                growkernels.grow_model(model, width=2)
        before.check()


def test_limits_of_the_process_and_of_the_container_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = memory.free_memory()
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\nfile 350000\ninactive_file 300000\nactive_file 50000\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.free_memory() == 1_000_000 - 900_000 + 300_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory() > free // 2
    used = memory.psutil.Process().memory_info().vms
    monkeypatch.setattr(memory.resource, "getrlimit", lambda which: (used + 123_456_789, -1))
    # Between the two measurements the process may map a little more.
    assert 100_000_000 < memory.free_memory() <= 123_456_789
    with pytest.raises(GrowthError, match="can be had"):
        memory.check_memory(torch.device("cpu"), 200_000_000)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_default_device_is_none_of_the_models(options: dict[str, Any], tmp_path: Path) -> None:
    make_model("llama")[1].save_pretrained(tmp_path)
    _, model = make_model("llama")
    _, other = make_model("llama")
    wanted = growkernels.grow_model(other, **options)
    with torch.device("meta"):
        found = growkernels.grow_model(model, **options)
        loaded = growkernels.load_grown(tmp_path, **options)
    assert_same_model(found, wanted)
    assert all(not tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    assert loaded(IDS).logits.equal(wanted(IDS).logits)
