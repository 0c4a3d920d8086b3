"""A depth operator decides layer by layer: copies beside layers that add nothing, in numbers that are no multiple."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import growkernels
from growkernels.errors import GrowthError
from growkernels.executors import read_manifest
from growkernels.operators import DEPTH_OPERATORS, GrowthOptions, make_plan
from growkernels.operators.base import DepthOperator, Layer
from growkernels.plans import Claim, Tile
from growkernels.plans.summary import summarize
from tests.end_to_end.support import saved, tokens
from tests.operators.support import make_source

PADDED = DepthOperator(
    name="padded",
    layers=lambda count, options: (*map(Layer, range(count)), Layer(count - 1, identity=True)),
    claim=Claim("depth", "exactly", "new layers add zero to the residual stream"),
)
WRITERS = {
    "llama": {"self_attn.o_proj.weight", "mlp.down_proj.weight"},
    "gpt2": {"attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"},
    "gpt_neox": {
        "attention.dense.weight",
        "attention.dense.bias",
        "mlp.dense_4h_to_h.weight",
        "mlp.dense_4h_to_h.bias",
    },
}


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEPTH_OPERATORS, "padded", PADDED)


@pytest.mark.parametrize("family", WRITERS)
def test_what_writes_to_the_residual_stream_is_zero_in_a_layer_that_adds_nothing(family: str) -> None:
    source = make_source(family)
    layout = source.layout
    names = {t.group.partition("{}.")[2] for t in layout.tensors.values() if t.writes_stream}
    assert names == WRITERS[family]
    plan = source.plan(depth_operator="padded", depth=2, width=2)
    last = layout.num_layers
    assert plan.layer_index == (*range(last), last - 1)
    for rule in plan.rules:
        zero = rule.layer == last and rule.group.partition("{}.")[2] in names
        assert isinstance(rule.how, Tile) and rule.how.draws_nothing == zero, rule
    # A copy of the same source layer keeps its weights, and both are shown.
    shown = {(row.name.partition("{}.")[2], row.rule, row.count) for row in summarize(plan).rows if row.rule == "zero"}
    assert shown == {(name, "zero", 1) for name in names}
    assert plan.preserves_function


def test_files_and_live_models_get_the_same_function_from_one_layer_more(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama")
    options = {"depth_operator": "padded", "depth": 2}
    report = growkernels.grow_checkpoint(source, tmp_path / "grown", verify_logits=True, **options)
    assert report.verification.passed and report.plan.preserves_function
    assert growkernels.verify(source, tmp_path / "grown", logits=True).passed
    assert read_manifest(tmp_path / "grown").plan == report.plan
    small, grown = (AutoModelForCausalLM.from_pretrained(path) for path in (source, tmp_path / "grown"))
    assert grown.config.num_hidden_layers == small.config.num_hidden_layers + 1
    ids = tokens(small)
    wanted = small(ids).logits
    assert torch.equal(grown(ids).logits, wanted)
    live = growkernels.grow_model(AutoModelForCausalLM.from_pretrained(source), **options)
    loaded = growkernels.load_grown(source, **options)
    for other in (live, loaded):
        assert torch.equal(other(ids).logits, wanted)
        for name, value in grown.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name
    zeros = dict(live.named_parameters())["model.layers.2.mlp.down_proj.weight"]
    assert zeros.requires_grad and not zeros.any()


def test_an_undeclared_tensor_of_several_axes_that_would_grow_is_refused() -> None:
    """A router would be tiled along its input and not divided."""
    layout = make_source("llama").layout
    name = "model.layers.0.mlp.gate_proj.weight"
    router = replace(layout.tensors[name], kind="other", input_axis=None)
    undeclared = replace(layout, declared=True, tensors={**layout.tensors, name: router})
    with pytest.raises(GrowthError, match=r"gate_proj.weight \(ffn x hidden\) would grow along ffn.*declare"):
        make_plan(undeclared, GrowthOptions(ffn=2))
    with pytest.raises(GrowthError, match="would grow along hidden"):
        make_plan(undeclared, GrowthOptions(width=2, ffn=1))
    with pytest.raises(GrowthError, match="would grow along"):
        make_plan(undeclared, GrowthOptions(width=2, width_operator="ligo"))
    assert make_plan(undeclared, GrowthOptions(depth=2))
