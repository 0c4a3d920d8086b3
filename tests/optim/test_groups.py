"""The groups of a grown optimizer: the same objects, refilled in the order in which a new optimizer would have them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adagrad, AdamW, Muon, Optimizer
from transformers import PreTrainedModel

from tests.families import make_model
from tests.optim.support import BEFORE, double, quiet_growth, train

GROWTHS = [{"width": 2}, {"depth": 2}, {"width": 2, "depth": 2}, {"width": 2, "untie": True}]


def decayed(model: PreTrainedModel, named: bool = True) -> list[dict[str, Any]]:
    """As the Trainer groups parameters: those with decay, and the others."""
    pairs = [(name, p) if named else p for name, p in model.named_parameters() if p.ndim == 2]
    others = [(name, p) if named else p for name, p in model.named_parameters() if p.ndim != 2]
    return [{"params": pairs, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


@pytest.mark.parametrize("options", GROWTHS, ids=str)
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_a_new_optimizer_takes_the_state_and_steps_the_same(options: dict[str, Any], named: bool) -> None:
    _, model = make_model("llama", tie_word_embeddings="untie" in options)
    optimizer = AdamW(decayed(model, named), lr=1e-3)
    train(model, optimizer, range(2))
    quiet_growth(model, optimizer, multipliers=None, **options)
    fresh = AdamW(decayed(model, named), lr=1e-3)
    assert [g["params"] for g in optimizer.param_groups] == [g["params"] for g in fresh.param_groups]
    assert [g.get("param_names") for g in optimizer.param_groups] == [g.get("param_names") for g in fresh.param_groups]
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # loading shares tensors
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    after = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for p, old in zip(model.parameters(), before, strict=True):
            p.copy_(old)
    fresh.step()
    assert all(torch.equal(p, wanted) for p, wanted in zip(model.parameters(), after, strict=True))


def test_objects_stay() -> None:
    _, model = make_model("llama")
    optimizer = AdamW(decayed(model), lr=1e-3)
    train(model, optimizer, range(2))
    groups, state = optimizer.param_groups, optimizer.state
    lists = [group["params"] for group in groups]
    quiet_growth(model, optimizer, width=2)
    assert optimizer.param_groups is groups and optimizer.state is state
    assert all(group["params"] is found for group, found in zip(groups, lists, strict=True))
    assert {id(p) for p in state} == {id(p) for p in model.parameters()}


def test_names_keep_the_prefix_of_a_wrapper() -> None:
    _, model = make_model("llama")
    optimizer = AdamW([(f"module.{name}", p) for name, p in model.named_parameters()])
    train(model, optimizer, range(1))
    quiet_growth(model, optimizer, depth=2)
    assert optimizer.param_groups[0]["param_names"] == [f"module.{name}" for name, _ in model.named_parameters()]


def test_frozen_parameters_and_those_of_no_group_stay_so() -> None:
    _, model = make_model("llama")
    model.model.embed_tokens.weight.requires_grad_(False)
    model.model.norm.weight.requires_grad_(False)
    held = [p for name, p in model.named_parameters() if "embed" not in name]
    optimizer = AdamW(held)
    train(model, optimizer, range(2))
    quiet_growth(model, optimizer, width=2)
    names = {id(p): name for name, p in model.named_parameters()}
    assert "model.embed_tokens.weight" not in {names[id(p)] for p in optimizer.param_groups[0]["params"]}
    assert not model.model.norm.weight.requires_grad
    assert model.model.norm.weight in set(optimizer.param_groups[0]["params"])
    assert model.model.norm.weight not in optimizer.state
    train(model, optimizer, range(2, 4))


def test_two_optimizers_grow_together() -> None:
    def pair(model: PreTrainedModel) -> list[Optimizer]:
        matrices = [p for name, p in model.named_parameters() if "proj" in name]
        others = [p for name, p in model.named_parameters() if "proj" not in name]
        return [Muon(matrices, lr=1e-2), AdamW(others, lr=1e-3)]

    _, model = make_model("llama")
    both = pair(model)
    for _ in range(2):
        model(input_ids=torch.arange(9)[None], labels=torch.arange(9)[None]).loss.backward()
        for one in both:
            one.step()
            one.zero_grad()
    quiet_growth(model, both, width=2, depth=2)
    for one, fresh in zip(both, pair(model), strict=True):
        assert one.param_groups[0]["params"] == fresh.param_groups[0]["params"]
        assert all(value.shape == p.shape for p, held in one.state.items() for value in held.values() if value.ndim)


def test_depth_copies_the_moments_of_each_layer() -> None:
    _, model = make_model("llama")
    optimizer = AdamW(model.parameters())
    train(model, optimizer, range(3))
    old = {name: optimizer.state[p] for name, p in model.named_parameters()}
    quiet_growth(model, optimizer, depth=2)
    for name, p in model.named_parameters():
        source = name.replace("layers.2", "layers.0").replace("layers.3", "layers.1")
        found, wanted = optimizer.state[p], old[source]
        for entry in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(found[entry], wanted[entry])
            assert (found[entry].data_ptr() == wanted[entry].data_ptr()) == (source == name)
    assert "growkernels" not in optimizer.param_groups[0]


def test_groups_of_their_own_hold_the_options() -> None:
    model = double("gpt2")
    lr = torch.tensor(1e-3, dtype=torch.float64)
    optimizer = AdamW([{"params": list(model.parameters()), "lr": lr, "initial_lr": 1e-3}], weight_decay=0.1)
    train(model, optimizer, range(BEFORE))
    quiet_growth(model, optimizer, width=2, multipliers="groups")
    for group in optimizer.param_groups:
        assert float(group["lr"]) == 1e-3 * group.get("lr_mult", 1.0)
        assert group["initial_lr"] == 1e-3 * group.get("lr_mult", 1.0)
        assert group["weight_decay"] == 0.1 * group.get("wd_mult", 1.0)
    assert len({id(group["lr"]) for group in optimizer.param_groups}) == len(optimizer.param_groups) > 1
    # The step that they take is that of the default.
    other = double("gpt2")
    twin = AdamW([{"params": list(other.parameters()), "lr": lr.clone()}], weight_decay=0.1)
    train(other, twin, range(BEFORE))
    quiet_growth(other, twin, width=2)
    assert train(model, optimizer, range(10, 20)) == train(other, twin, range(10, 20))


def test_a_fresh_state_is_one_of_a_new_optimizer() -> None:
    for make in (AdamW, lambda ps: Adagrad(ps, initial_accumulator_value=0.1), lambda ps: SGD(ps, 0.1)):
        _, model = make_model("llama")
        optimizer = make(model.parameters())
        train(model, optimizer, range(2))
        quiet_growth(model, optimizer, width=2, depth=2, state="fresh")
        fresh = make(model.parameters())
        assert {p: set(held) for p, held in optimizer.state.items()} == {
            p: set(held) for p, held in fresh.state.items()
        }
        for p, held in fresh.state.items():
            assert all(torch.equal(value, optimizer.state[p][name]) for name, value in held.items())
        train(model, optimizer, range(2, 4))


def test_a_second_growth_goes_on_from_the_first() -> None:
    model = double("gpt2")
    source = double("gpt2")
    optimizer, its = (AdamW(m.parameters(), lr=1e-3, weight_decay=0.1) for m in (model, source))
    train(source, its, range(8))
    train(model, optimizer, range(4))
    quiet_growth(model, optimizer, width=2)
    train(model, optimizer, range(4, 8))
    quiet_growth(model, optimizer, width=3)
    found, wanted = train(model, optimizer, range(8, 20)), train(source, its, range(8, 20))
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 1e-12
    assert max(optimizer.param_groups[0]["growkernels"]["K"]) == 36
