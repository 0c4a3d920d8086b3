"""What goes on training a grown model: an optimizer of before warns at its next step, once."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Sequence

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, optimizer
from transformers import PreTrainedModel

import growkernels
from tests.families import make_model

IDS = torch.arange(9)[None]


def hooks() -> int:
    return len(optimizer._global_optimizer_pre_hooks)


def steps(model: PreTrainedModel, optimizers: Sequence[torch.optim.Optimizer], count: int = 4) -> list[str]:
    """Train, and return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(count):
            model(IDS, labels=IDS).loss.backward()
            for one in optimizers:
                one.step()
                one.zero_grad()
    return [str(warning.message) for warning in caught]


def grown(**options: int) -> tuple[PreTrainedModel, AdamW]:
    _, model = make_model("llama")
    before = AdamW(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return growkernels.grow_model(model, **options), before


@pytest.fixture(autouse=True)
def no_hooks_stay() -> None:
    gc.collect()
    optimizer._global_optimizer_pre_hooks.clear()


def test_an_optimizer_of_emptied_parameters_warns_at_its_next_step() -> None:
    model, before = grown(width=2)
    assert hooks() == 1
    [text] = steps(model, [before])
    count = len(before.param_groups[0]["params"])
    assert f"{count} of the {count} parameters of this AdamW were emptied when LlamaForCausalLM was grown" in text
    assert "Make a new optimizer of model.parameters()" in text
    assert hooks() == 0


def test_an_optimizer_without_the_new_layers_warns_at_its_second_step() -> None:
    model, before = grown(depth=2)
    assert steps(model, [before], 1) == []
    [text] = steps(model, [before])
    new = len(list(model.parameters())) - len(before.param_groups[0]["params"])
    assert f"no optimizer holds {new} parameters that came when LlamaForCausalLM was grown" in text
    assert hooks() == 0


@pytest.mark.parametrize("options", [{"width": 2}, {"depth": 2}], ids=str)
def test_new_optimizers_warn_of_nothing(options: dict) -> None:
    model, before = grown(**options)
    del before
    gc.collect()
    parameters = list(model.parameters())
    matrices = [parameter for parameter in parameters if parameter.ndim == 2]
    others = [parameter for parameter in parameters if parameter.ndim != 2]
    assert steps(model, [AdamW(matrices), SGD(others)]) == []
    assert hooks() == 0


def test_optimizers_of_other_models_are_let_be() -> None:
    model, before = grown(width=2)
    other = nn.Linear(2, 2)
    for parameter in other.parameters():
        nn.init.constant_(parameter, 4.0)
        parameter.grad = torch.ones_like(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            SGD(other.parameters(), lr=0.5).step()
    assert all((parameter == 2.5).all() for parameter in other.parameters())
    assert len(steps(model, [before])) == 1


def test_frozen_parameters_need_no_optimizer() -> None:
    _, model = make_model("llama")
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.ndim == 2)
    growkernels.grow_model(model, depth=2)
    assert steps(model, [AdamW([p for p in model.parameters() if p.requires_grad])]) == []


def test_copies_of_layers_that_were_compiled_by_themselves_are_spoken_of() -> None:
    _, model = make_model("llama")
    for layer in model.model.layers:
        layer.compile(backend="aot_eager")
    with pytest.warns(
        UserWarning, match=r"model\.layers\.0, model\.layers\.1 .*copies of them are not: compile the layers"
    ):
        growkernels.grow_model(model, depth=2)
    _, plain = make_model("llama")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        growkernels.grow_model(plain, depth=2)
