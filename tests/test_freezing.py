"""`freeze_old`: what is new is trained, nothing else, however the model came to be grown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import growkernels
from growkernels.errors import GrowthError
from tests.end_to_end.support import saved, tokens
from tests.families import make_model

GROWTH = {"depth": 2, "depth_operator": "llama_pro"}
#: Layers 0 0' 1 1'.
NEW = ("model.layers.1.", "model.layers.3.")


def check(model: torch.nn.Module, trained: tuple[str, ...]) -> None:
    wanted = [name for name, _ in model.named_parameters() if name.startswith(NEW)]
    assert list(trained) == wanted and len(wanted) == 2 * 9
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == wanted


def test_a_report_names_what_is_new_and_a_step_trains_nothing_else(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama")
    report = growkernels.grow_checkpoint(source, tmp_path / "grown", **GROWTH)
    assert len(report.new_parameters) == 2 * 9 and all(name.startswith(NEW) for name in report.new_parameters)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "grown")
    check(model, growkernels.freeze_old(model, report))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2, weight_decay=0.0)
    for _ in range(2):
        ids = tokens(model)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    # Of the first step, only writers have a gradient; from the second on, all that they read has one: no unit is dead.
    assert changed == set(report.new_parameters)


def test_a_model_grown_in_memory_and_one_from_its_folder_need_no_report(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama")
    live = growkernels.grow_model(make_model("llama")[1], **GROWTH)
    loss = live(input_ids=tokens(live), labels=tokens(live)).loss
    loss.backward()
    check(live, growkernels.freeze_old(live))
    assert all(parameter.grad is None for name, parameter in live.named_parameters() if not name.startswith(NEW))
    loaded = growkernels.load_grown(source, **GROWTH)
    check(loaded, growkernels.freeze_old(loaded))
    growkernels.grow_checkpoint(source, tmp_path / "grown", no_verify=True, **GROWTH)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "grown")
    check(stock, growkernels.freeze_old(stock))


def test_names_may_be_those_of_modules(tmp_path: Path) -> None:
    model = growkernels.load_grown(saved(tmp_path, "llama"), **GROWTH)
    check(model, growkernels.freeze_old(model, ["model.layers.1", "model.layers.3"]))
    assert growkernels.freeze_old(model, growkernels.plan(saved(tmp_path, "llama"), **GROWTH))
    assert growkernels.freeze_old(model, ["model.layers.1.mlp.down_proj.weight"]) == (
        "model.layers.1.mlp.down_proj.weight",
    )


def test_experts_that_the_file_holds_one_by_one_are_trained_as_a_stack(tmp_path: Path) -> None:
    from tests.coverage import twins

    twins.make_model("mixtral", twins.make_config("mixtral")).save_pretrained(tmp_path / "source")
    report = growkernels.grow_checkpoint(
        tmp_path / "source", tmp_path / "grown", num_layers=5, depth_operator="llama_pro"
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "grown")
    trained = growkernels.freeze_old(model, report)
    assert any("experts.1.down_proj" in name or "experts.1.w2" in name for name in report.new_parameters)
    assert "model.layers.4.mlp.experts.down_proj" in trained and all(".4." in name for name in trained)


def test_refusals(tmp_path: Path) -> None:
    model = make_model("llama")[1]
    with pytest.raises(GrowthError, match="nobody knows what is new in this LlamaForCausalLM"):
        growkernels.freeze_old(model)
    wide = growkernels.plan(saved(tmp_path, "llama"), width=2)
    for nothing in (wide, [], ["model.layers.7"]):
        with pytest.raises(GrowthError, match="no parameter of LlamaForCausalLM is new"):
            growkernels.freeze_old(model, nothing)
    assert all(parameter.requires_grad for parameter in model.parameters())
