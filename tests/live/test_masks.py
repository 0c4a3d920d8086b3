"""`GrowthMask`: at 0 the source's function, at 1 the grown model, trained in between and after, and saved with plain names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

import growkernels
from growkernels.errors import GrowthError
from growkernels.verification.logits import load_model
from tests.coverage import twins
from tests.end_to_end.support import all_in_float64, saved, tokens
from tests.families import make_model, make_variant
from tests.live.support import Untouched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

#: Rounding of float64 through two layers; the errors measured are below 2e-15.
BOUND = 1e-11
DEPTH = {"depth": 2, "depth_operator": "random"}
FFN = {"intermediate_size": 57, "width_operator": "random"}
HIDDEN = {"hidden_size": 48, "intermediate_size": 57, "num_heads": 6, "num_kv_heads": 3, "width_operator": "random"}
TWICE = {"width": 2, "width_operator": "random"}


def logits(model: PreTrainedModel) -> torch.Tensor:
    """The logits of some tokens in float64, all casts left out."""
    with all_in_float64(), torch.no_grad():
        found: torch.Tensor = model(input_ids=tokens(model, 2, 24)).logits
    return found


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def grown(family: str, variant: str, **options: Any) -> tuple[torch.Tensor, PreTrainedModel]:
    """The logits of a source in float64, and the model that it was grown to in place."""
    model = make_variant(family, variant)[1].double()
    model.set_attn_implementation("eager")
    wanted = logits(model)
    return wanted, growkernels.grow_model(model, **options)


def train(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(input_ids=tokens(model), labels=tokens(model)).loss.backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("family", "variant", "options"),
    [
        ("llama", "plain", DEPTH),
        ("llama", "biases", DEPTH),
        ("gpt_neox", "plain", DEPTH),
        ("llama", "plain", FFN),
        ("bert", "plain", FFN),
        ("qwen3", "plain", HIDDEN),
        ("llama", "tied", {**DEPTH, **HIDDEN}),
        ("gpt2", "plain", {**DEPTH, **TWICE}),
        ("llama", "plain", {**DEPTH, "width": 2}),
    ],
)
def test_zero_is_the_source_and_one_the_grown_model(family: str, variant: str, options: dict[str, Any]) -> None:
    wanted, model = grown(family, variant, **options)
    loud = logits(model)
    parameters = {name: (one, one.detach().clone()) for name, one in model.named_parameters()}
    assert error(loud, wanted) > 1e-4
    mask = growkernels.GrowthMask(model, steps=3)
    assert mask.value == 0.0 and error(logits(model), wanted) <= BOUND
    mask.step()
    assert mask.value == 1 / 3 and min(error(logits(model), wanted), error(logits(model), loud)) > 1e-4
    mask.step()
    mask.step()
    assert mask.value == 1.0 and torch.equal(logits(model), loud)
    # Folded: the same objects under the same names in the same order, with the same bits.
    assert list(parameters) == [name for name, _ in model.named_parameters()]
    assert all(one is parameters[name][0] for name, one in model.named_parameters())
    assert all(torch.equal(one, before) for one, before in parameters.values())
    mask.step()
    assert mask.value == 1.0


@pytest.mark.parametrize("family", ["mixtral", "gemma2"])
def test_stacked_experts_and_gains_behind_blocks_are_masked(family: str) -> None:
    """The experts' last projections are ranges of a stack; gains stored as gamma - 1 are silent at -1."""
    model = twins.make_model(family, twins.make_config(family)).double().eval()
    model.set_attn_implementation("eager")
    model.config._experts_implementation = "eager"
    wanted = logits(model)
    growkernels.grow_model(model, **DEPTH)
    assert error(logits(model), wanted) > 1e-4
    mask = growkernels.GrowthMask(model, steps=2)
    assert error(logits(model), wanted) <= BOUND
    count = sum("parametrizations" in name for name, _ in model.named_parameters())
    assert count == 2 * (model.config.num_hidden_layers // 2)  # attention and experts, or two norms, of each new layer
    mask.fold()
    assert error(logits(model), wanted) <= BOUND


def test_an_optimizer_trains_what_is_new_before_and_after_the_fold() -> None:
    model = growkernels.grow_model(make_model("llama")[1], **DEPTH, **FFN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    old, new = model.model.layers[0].mlp.down_proj, model.model.layers[3].mlp.down_proj
    weights, before = (old.weight, new.weight), (old.weight.detach().clone(), new.weight.detach().clone())
    mask = growkernels.GrowthMask(model, steps=2)
    assert old.parametrizations.weight.original is weights[0] and new.parametrizations.weight.original is weights[1]
    train(model, optimizer)
    # At 0, only what reads the source's units moves.
    assert torch.equal(new.parametrizations.weight.original, before[1])
    changed = old.parametrizations.weight.original != before[0]
    assert changed[:, :40].all() and not changed[:, 40:].any()
    mask.step()
    train(model, optimizer)
    assert (weights[1] != before[1]).all() and (weights[0] != before[0])[:, 40:].all()
    mask.step()
    assert old.weight is weights[0] and new.weight is weights[1]
    last = weights[1].detach().clone()
    train(model, optimizer)
    assert (new.weight != last).all()


@pytest.mark.parametrize("fold", [False, True])
def test_what_is_saved_half_way_has_plain_names_and_computes_the_same(fold: bool, tmp_path: Path) -> None:
    wanted, model = grown("llama", "tied", **DEPTH, **HIDDEN)
    names = list(model.state_dict())
    mask = growkernels.GrowthMask(model, steps=4)
    mask.step()
    found = logits(model)
    assert error(found, wanted) > 1e-4
    assert sorted(model.state_dict()) == sorted(names)
    if fold:
        mask.fold()
        assert mask.value == 1.0 and list(model.state_dict()) == names
    model.save_pretrained(tmp_path / "half")
    assert "lm_head.weight" not in load_file(tmp_path / "half" / "model.safetensors")
    loaded, unmatched = load_model(tmp_path / "half", torch.float64)
    loaded.set_attn_implementation("eager")
    assert not unmatched and torch.equal(logits(loaded), found)
    # Not what was saved before.
    if not fold:
        mask.step()
        assert not torch.equal(model.state_dict()["lm_head.weight"], loaded.state_dict()["lm_head.weight"])


def test_a_checkpoint_needs_no_plan_and_a_model_of_unknown_growth_does(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama", dtype=torch.float64)
    report = growkernels.grow_checkpoint(source, tmp_path / "grown", **DEPTH)
    wanted = logits(load_model(source, torch.float64)[0])
    for model, plan in (
        (AutoModelForCausalLM.from_pretrained(tmp_path / "grown"), None),
        (growkernels.load_grown(source, **DEPTH), None),
        (growkernels.load_grown(source, **DEPTH), report),
        (growkernels.load_grown(source, **DEPTH), growkernels.plan(source, **DEPTH)),
    ):
        growkernels.GrowthMask(model, plan)
        assert error(logits(model), wanted) <= BOUND
    with pytest.raises(GrowthError, match="nobody knows how this LlamaForCausalLM was grown"):
        growkernels.GrowthMask(make_model("llama")[1])


def test_refusals_leave_the_model_untouched() -> None:
    model = growkernels.grow_model(make_model("llama")[1], **DEPTH)
    untouched = Untouched(model)
    for steps in (0, 1.5, True):
        with pytest.raises(GrowthError, match=r"steps is .*; expected a whole number of at least 1"):
            growkernels.GrowthMask(model, steps=steps)
    untouched.check()
    growkernels.GrowthMask(model)
    with pytest.raises(GrowthError, match="expected a bare LlamaForCausalLM as it was grown, without another mask"):
        growkernels.GrowthMask(model)
    with pytest.raises(GrowthError, match=r"is parametrized: .*fold\(\) of its GrowthMask"):
        growkernels.grow_model(model, depth=2)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("llama", {"depth": 2}, "this growth is by gstack in depth and hypercloning in width"),
        ("llama", {**FFN, "depth": 2}, "the rest of this growth .depth. changes it"),
        ("llama", {**DEPTH, "noise_after": 0.2}, "the rest of this growth .noise. changes it"),
        ("llama", {"layers": "1,0,1", "depth_operator": "random"}, "the rest of this growth .depth. changes it"),
        ("llama", {"vocab_size": 120, "width_operator": "random"}, "nothing ramps in"),
        ("bert", DEPTH, "new layers of bert cannot start as ones that change nothing: a norm follows every sum"),
    ],
)
def test_growths_that_no_mask_can_silence(family: str, options: dict[str, Any], message: str) -> None:
    model = growkernels.grow_model(make_model(family)[1], **options)
    untouched = Untouched(model)
    with pytest.raises(GrowthError, match=message):
        growkernels.GrowthMask(model)
    untouched.check()
