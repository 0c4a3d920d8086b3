"""What cannot be grown in place is refused with the reason, and the model is as it was; so is one that failed early."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedModel

import growkernels
from growkernels import GrowthError
from growkernels import live as live_module
from growkernels.executors import memory
from growkernels.executors import run as run_module
from growkernels.executors.sinks.module import ModuleSink
from tests.families import make_model
from tests.live.support import Untouched, assert_same_model

#: What plans warn of is tested with the plans.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

Model = PreTrainedModel


class OwnNorm(nn.Module):
    """A norm that somebody put in the place of the class's."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight


def nan(model: Model) -> None:
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = torch.nan


def large(model: Model) -> None:
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = 2e5


def meta(model: Model) -> None:
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.to("meta"))


def sparse(model: Model) -> None:
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.data.to_sparse())


def integers(model: Model) -> None:
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.data.to(torch.int8), requires_grad=False)


def own_norm(model: Model) -> None:
    model.model.norm = OwnNorm(model.model.norm.weight)


def patched(model: Model) -> None:
    layer = model.model.layers[0].mlp
    layer.forward = layer.forward


def value_head(model: Model) -> None:
    model.value_head = nn.Linear(32, 1)


def other_config(model: Model) -> None:
    model.config.intermediate_size = 48


def untied_by_hand(model: Model) -> None:
    model.config.tie_word_embeddings = True
    model.lm_head.weight.data.add_(1)


CASES: dict[str, tuple[Callable[[Model], object], dict[str, Any], str]] = {
    "NaN": (nan, {"width": 2}, r"up_proj.weight has 1 NaN and 0 Inf among 1280 values, the first at \[3, 4\]"),
    "beyond the dtype": (large, {"width": 2, "dtype": "float16"}, "up_proj.weight reaches 100000 in the target"),
    "meta": (meta, {"width": 2}, "lm_head.weight has no values here"),
    "sparse": (sparse, {"width": 2}, "lm_head.weight is a torch.sparse_coo, not a plain dense tensor"),
    "integers": (integers, {"width": 2}, "lm_head.weight is stored as int8"),
    "replaced module": (own_norm, {"depth": 2}, "model.norm is a OwnNorm, where the class has a LlamaRMSNorm"),
    "patched forward": (patched, {"depth": 2}, "model.layers.0.mlp has a forward of its own"),
    "unknown parameter": (value_head, {"width": 2}, "value_head.weight.* unknown to LlamaForCausalLM"),
    "config of another model": (
        other_config,
        {"width": 2},
        r"has shape \[40, 32\], but the model's config gives \[48, 32\]",
    ),
    "ties that differ": (untied_by_hand, {"width": 2}, "lm_head.weight and model.embed_tokens.weight differ"),
    "nothing to grow": (lambda model: None, {}, "nothing to grow"),
    "unknown option": (lambda model: None, {"widht": 2}, "unknown option widht"),
    "half ratio": (lambda model: None, {"width": 1.5}, "width is 1.5"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_model_is_untouched(case: str) -> None:
    spoil, options, message = CASES[case]
    _, model = make_model("llama")
    model(input_ids=torch.arange(5)[None], labels=torch.arange(5)[None]).loss.backward()
    spoil(model)
    before = Untouched(model)
    with pytest.raises(GrowthError, match=message):
        growkernels.grow_model(model, **options)
    before.check()


def test_nan_passes_when_it_is_let() -> None:
    _, model = make_model("llama")
    nan(model)
    growkernels.grow_model(model, depth=2, allow_nonfinite=True)
    assert model.model.layers[3].mlp.up_proj.weight.isnan().nonzero().tolist() == [[3, 4]]


def test_a_patched_forward_is_no_matter_where_nothing_is_copied() -> None:
    _, model = make_model("llama")
    patched(model)
    growkernels.grow_model(model, width=2)
    assert "forward" in vars(model.model.layers[0].mlp)


class Mine(LlamaForCausalLM):
    """A subclass, whose forward nobody knows."""


def test_other_things_than_models_of_transformers() -> None:
    config, model = make_model("llama")
    for given, message in (
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear cannot be grown: expected a model class of transformers"),
        (Mine(config), "Mine cannot be grown"),
        (nn.DataParallel(model), "DataParallel is not the model but a wrapper such as .*: grow its .module"),
        ("a path", "builtins.str cannot be grown"),
    ):
        with pytest.raises(GrowthError, match=message):
            growkernels.grow_model(given, width=2)


def test_too_little_memory_is_found_out_before(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = make_model("llama")
    before = Untouched(model)
    monkeypatch.setattr(memory, "free_memory", lambda device: 200_000)
    with pytest.raises(
        GrowthError, match=r"needs \d\d\d,\d{3} bytes .* more on cpu at its peak, 200,000 .* can be had"
    ):
        growkernels.grow_model(model, width=3)
    before.check()


def test_a_failure_before_the_first_parameter_is_emptied_leaves_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = make_model("llama")
    before = Untouched(model)

    def fail(*_: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(run_module.ops, "tile_rules_", fail)
    with pytest.raises(RuntimeError, match="no kernel") as caught:
        growkernels.grow_model(model, width=2, depth=2)
    assert not hasattr(caught.value, "__notes__")
    before.check()


def test_a_later_failure_says_that_the_model_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = make_model("llama")
    monkeypatch.setattr(ModuleSink, "bucket", 20_000)
    tile, calls = run_module.ops.tile_rules_, []

    def fail(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("no room")
        tile(*arguments)

    monkeypatch.setattr(run_module.ops, "tile_rules_", fail)
    monkeypatch.setattr(live_module, "free_memory", lambda device: 0)  # else the old weights stay to the end
    with pytest.raises(torch.OutOfMemoryError) as caught:
        growkernels.grow_model(model, width=2)
    assert "has lost" in caught.value.__notes__[0] and "load it again" in caught.value.__notes__[0]


def test_a_callback_that_raises_is_heard_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModuleSink, "bucket", 20_000)
    (_, model), (_, other) = make_model("llama"), make_model("llama")
    calls: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(done)
        raise KeyError("a bug in the callback")

    with pytest.raises(KeyError, match="a bug in the callback"):
        growkernels.grow_model(model, width=2, depth=2, on_progress=progress)
    assert len(calls) == 1
    assert_same_model(model, growkernels.grow_model(other, width=2, depth=2))


def test_ctrl_c_is_heard_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModuleSink, "bucket", 20_000)
    (_, model), (_, other) = make_model("llama"), make_model("llama")
    tile, calls = run_module.ops.tile_rules_, []

    def interrupted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        tile(*arguments)

    monkeypatch.setattr(run_module.ops, "tile_rules_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        growkernels.grow_model(model, width=2, depth=2)
    assert len(calls) > 4
    assert_same_model(model, growkernels.grow_model(other, width=2, depth=2))
