"""What a grown optimizer saves: an attached one goes on with the same bits, another one refuses to load it."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adafactor, AdamW, Optimizer
from transformers import PreTrainedModel

import growkernels
from growkernels.errors import GrowthError
from tests.families import make_model
from tests.optim.support import BEFORE, quiet_growth, train

MAKES: dict[str, Any] = {
    "AdamW": lambda ps: AdamW(ps, lr=1e-3, weight_decay=0.1),
    "SGD": lambda ps: SGD(ps, lr=1e-2, momentum=0.9, weight_decay=0.01),
    "Adafactor": lambda ps: Adafactor(ps, lr=1e-2),
    "AdamW, lr a tensor": lambda ps: AdamW(ps, lr=torch.tensor(1e-3), weight_decay=0.1),
}


def two_groups(model: PreTrainedModel) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    return [
        {"params": [(n, p) for n, p in named if p.ndim == 2]},
        {"params": [(n, p) for n, p in named if p.ndim != 2], "weight_decay": 0.0},
    ]


def grown(make: Any) -> tuple[PreTrainedModel, Optimizer]:
    _, model = make_model("llama")
    optimizer = make(two_groups(model))
    train(model, optimizer, range(BEFORE))
    quiet_growth(model, optimizer, width=3)
    train(model, optimizer, range(BEFORE, BEFORE + 2))
    return model, optimizer


def saved(optimizer: Optimizer) -> dict[str, Any]:
    """The state through a file, as it is read safely."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same_bits(a: PreTrainedModel, b: PreTrainedModel) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", MAKES)
def test_an_attached_optimizer_goes_on_with_the_same_bits(name: str) -> None:
    model, optimizer = grown(MAKES[name])
    other = copy.deepcopy(model)
    state = saved(optimizer)
    resumed = growkernels.optim.attach(MAKES[name](two_groups(other)))
    resumed.load_state_dict(state)
    wanted = train(model, optimizer, range(20, 24))
    assert train(other, resumed, range(20, 24)) == wanted
    assert same_bits(model, other)
    # A file of a file is the same.
    again = saved(resumed)
    assert [group["params"] for group in again["param_groups"]] == [group["params"] for group in state["param_groups"]]


@pytest.mark.parametrize("name", MAKES)
def test_an_optimizer_that_is_not_attached_refuses(name: str) -> None:
    model, optimizer = grown(MAKES[name])
    plain = MAKES[name](two_groups(copy.deepcopy(model)))
    with pytest.raises(ValueError, match="different number of parameter groups"):
        plain.load_state_dict(saved(optimizer))


def test_one_factor_for_all_refuses_as_well() -> None:
    _, model = make_model("llama")
    norms = [p for name, p in model.named_parameters() if "layernorm" in name]
    optimizer = SGD(norms, lr=1e-2, momentum=0.9)
    train(model, optimizer, range(1))
    model.zero_grad()
    quiet_growth(model, optimizer, width=2)
    state = saved(optimizer)
    fresh = SGD([p for name, p in model.named_parameters() if "layernorm" in name], lr=1e-2, momentum=0.9)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        fresh.load_state_dict(state)
    growkernels.optim.attach(fresh).load_state_dict(state)
    assert saved(fresh)["param_groups"] == state["param_groups"]


def test_what_is_saved_has_the_options_in_effect() -> None:
    model, optimizer = grown(MAKES["AdamW"])
    state = optimizer.state_dict()
    names = [name for name, p in model.named_parameters() if p.ndim == 2]
    by_name = {name: g for g in state["param_groups"] for name in g["param_names"]}
    q = by_name["model.layers.0.self_attn.q_proj.weight"]
    assert (q["lr"], q["weight_decay"]) == (1e-3 * (1 / 3.0), 0.1 * 3.0)
    embedding = by_name["model.embed_tokens.weight"]
    assert (embedding["lr"], embedding["weight_decay"], embedding["eps"]) == (1e-3, 0.1, 1e-8 * (1 / 3))
    assert sorted(by_name) == sorted(name for name, _ in model.named_parameters())
    # In memory the groups are whole, and what schedulers write to.
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(names), len(by_name) - len(names)]
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-3]


def test_a_state_of_before_the_growth_loads_into_an_attached_optimizer() -> None:
    _, model = make_model("llama")
    optimizer = growkernels.optim.attach(MAKES["AdamW"](two_groups(model)))
    train(model, optimizer, range(2))
    state = saved(optimizer)
    other = growkernels.optim.attach(MAKES["AdamW"](two_groups(model)))
    other.load_state_dict(state)
    assert saved(other)["param_groups"] == state["param_groups"]


def test_parts_that_are_missing_are_found() -> None:
    model, optimizer = grown(MAKES["AdamW"])
    state = optimizer.state_dict()
    del state["param_groups"][1]
    resumed = growkernels.optim.attach(MAKES["AdamW"](two_groups(model)))
    with pytest.raises(GrowthError, match="parts of them are missing"):
        resumed.load_state_dict(state)


def test_groups_without_factors_load_where_multipliers_are_none() -> None:
    _, model = make_model("llama")
    optimizer = MAKES["AdamW"](two_groups(model))
    train(model, optimizer, range(2))
    quiet_growth(model, optimizer, width=2, multipliers=None)
    state = saved(optimizer)
    plain = MAKES["AdamW"](two_groups(model))
    plain.load_state_dict(state)
    # Norms of gradients are known all the same.
    assert plain.param_groups[0]["growkernels"]["K"][1] == 4


def test_a_step_that_raises_leaves_the_groups_to_the_next_call() -> None:
    model, optimizer = grown(MAKES["AdamW"])
    groups = optimizer.param_groups

    class Failing(Exception):
        pass

    def closure() -> float:
        raise Failing

    with pytest.raises(Failing):
        optimizer.step(closure)
    train(model, optimizer, range(30, 31))
    assert optimizer.param_groups is groups
    with pytest.raises(Failing):
        optimizer.step(closure)
    assert len(optimizer.state_dict()["param_groups"]) > len(groups)
    assert optimizer.param_groups is groups


def test_parameters_that_came_after_a_growth_need_a_group_of_their_own() -> None:
    model, optimizer = grown(MAKES["AdamW"])
    extra = torch.nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [("extra", extra)]})
    extra.grad = torch.ones(3)
    optimizer.step()
    assert (extra != 1).all()
    optimizer.param_groups[0]["params"].append(torch.nn.Parameter(torch.ones(3)))
    with pytest.raises(GrowthError, match="into a group of their own"):
        optimizer.step()
    del model
