"""What goes wrong in other ways of growing a training run: found and refused, or handled."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adadelta, AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import growkernels
from growkernels.errors import GrowthError
from tests.families import make_model
from tests.live.support import Untouched
from tests.optim.support import BEFORE, batch, double, gap, loss_of, quiet_growth, train


def adamw(model: nn.Module) -> AdamW:
    return AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)


class Eight(AdamW):
    """Stands for an optimizer of bitsandbytes."""


Eight.__module__ = "bitsandbytes.optim.adamw"


class Mine(AdamW):
    """A class of the user's own."""


def half_state(optimizer: AdamW) -> AdamW:
    for held in optimizer.state.values():
        held["exp_avg"] = held["exp_avg"].to(torch.int8)
    return optimizer


def strange_state(optimizer: AdamW) -> AdamW:
    next(iter(optimizer.state.values()))["preconditioner"] = torch.ones(2)
    return optimizer


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "unknown class": (
        lambda m: Mine(m.parameters()),
        {},
        r"test_traps\.Mine cannot be grown: what its state means is not",
    ),
    "LBFGS": (lambda m: LBFGS(m.parameters()), {}, r"LBFGS cannot be grown.*Known are AdamW, Adam, "),
    "Adadelta": (lambda m: Adadelta(m.parameters()), {}, "Adadelta cannot be grown"),
    "8 bit": (lambda m: Eight(m.parameters()), {}, "bitsandbytes's Eight keeps its state in quantized blocks"),
    "no optimizer": (lambda m: m, {}, r"LlamaForCausalLM is no optimizer; expected one of torch\.optim"),
    "another model's": (
        lambda m: AdamW(make_model("llama")[1].parameters()),
        {},
        r"AdamW has a parameter of shape \[97, 32\] that is none of the LlamaForCausalLM's",
    ),
    "whole numbers": (
        lambda m: half_state(stepped(m)),
        {},
        r"exp_avg of model\.\S+ in AdamW is torch\.int8, not a plain",
    ),
    "unknown state": (lambda m: strange_state(stepped(m)), {}, "has 'preconditioner', and how that grows is not known"),
    "twice": (
        lambda m: [SGD(m.parameters(), 0.1), SGD([m.model.norm.weight], 0.1)],
        {},
        r"model\.norm\.weight is in two groups or optimizers",
    ),
    "state": (adamw, {"state": "reset"}, "state is 'reset'; expected one of grow, fresh, asymmetric"),
    "multipliers": (adamw, {"multipliers": "steps"}, "multipliers is 'steps'; expected step, groups or None"),
    "masters": (
        adamw,
        {"masters": {torch.ones(2): nn.Parameter(torch.ones(2))}},
        r"masters names a parameter of shape \[2\] that is none",
    ),
}


def stepped(model: nn.Module) -> AdamW:
    optimizer = adamw(model)
    train(model, optimizer, range(1))
    return optimizer


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_leave_model_and_optimizer_alone(name: str) -> None:
    make, options, message = REFUSED[name]
    _, model = make_model("llama")
    optimizer = make(model)
    before = Untouched(model)
    groups = [dict(g) for one in optimizer for g in one.param_groups] if isinstance(optimizer, list) else []
    with pytest.raises(GrowthError, match=message):
        growkernels.grow_model(model, optimizer, width=2, **options)
    before.check()
    assert not groups or groups == [g for one in optimizer for g in one.param_groups]


def test_a_state_without_an_optimizer_is_a_mistake() -> None:
    with pytest.raises(GrowthError, match="no optimizer is given"):
        growkernels.grow_model(make_model("llama")[1], width=2, state="grow")
    _, model = make_model("llama")
    with pytest.raises(GrowthError, match="masters are given, and no optimizer"):
        growkernels.grow_model(model, width=2, masters={torch.ones(97, 32): model.model.embed_tokens.weight})


def test_gradients_between_backward_and_step_are_not_lost() -> None:
    _, model = make_model("llama")
    optimizer = adamw(model)
    loss_of(model, 0).backward()
    with pytest.raises(
        GrowthError, match=r"have gradients, which would be lost: grow between optimizer\.zero_grad\(\)"
    ):
        growkernels.grow_model(model, optimizer, width=2)
    optimizer.step()
    optimizer.zero_grad()
    quiet_growth(model, optimizer, width=2)


def test_moments_that_are_not_finite_are_named() -> None:
    _, model = make_model("llama")
    optimizer = stepped(model)
    optimizer.state[model.model.norm.weight]["exp_avg"][3] = float("nan")
    with pytest.raises(GrowthError, match=r"exp_avg of model\.norm\.weight has 1 NaN"):
        quiet_growth(model, optimizer, width=2)


def test_an_optimizer_that_was_not_given_warns() -> None:
    _, model = make_model("llama")
    matrices, others = AdamW([p for p in model.parameters() if p.ndim == 2]), AdamW([model.model.norm.weight])
    quiet_growth(model, matrices, width=2)
    loss_of(model, 0).backward()
    matrices.step()
    with pytest.warns(UserWarning, match="1 of the 1 parameters of this AdamW were emptied"):
        others.step()


def test_a_stale_ddp_refuses_its_next_forward_pass(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        _, model = make_model("llama")
        wrapped = nn.parallel.DistributedDataParallel(model)
        with pytest.raises(GrowthError, match=r"grow its \.module, and wrap it again"):
            growkernels.grow_model(wrapped, adamw(model), width=2)
        quiet_growth(model, adamw(model), width=2)
        with pytest.raises(GrowthError, match="Wrap the grown model again"):
            wrapped(input_ids=batch(0))
        assert nn.parallel.DistributedDataParallel(model)(input_ids=batch(0)).logits.shape[-1] == 97
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("compiled", ["before", "after"])
def test_a_compiled_step_takes_the_factors(compiled: str) -> None:
    def run(grow_at: int | None) -> list[float]:
        torch._dynamo.reset()
        model = double("gpt2")
        optimizer = adamw(model)
        step = optimizer.step
        losses = []
        for number in range(10):
            if number == grow_at:
                quiet_growth(model, optimizer, width=2)
            if (number, compiled) in ((2, "before"), (6, "after")):
                step = torch.compile(optimizer.step, backend="eager")
            loss = loss_of(model, number)
            loss.backward()
            step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    assert gap(run(4), run(None)) < 1e-12


def test_a_compiled_model_compiles_again() -> None:
    model, other = double("gpt2"), double("gpt2")
    model.compile(backend="eager")
    optimizer, twin = adamw(model), adamw(other)
    for one, its in ((model, optimizer), (other, twin)):
        train(one, its, range(2))
        quiet_growth(one, its, width=2)
    assert gap(train(model, optimizer, range(2, 6)), train(other, twin, range(2, 6))) < 1e-12


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"foreach": False}], ids=str)
def test_a_gradient_scaler_skips_and_goes_on(options: dict[str, Any]) -> None:
    def run(grow_at: int | None) -> tuple[list[float], float]:
        _, model = make_model("llama")
        optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        losses = []
        for step in range(10):
            if step == grow_at:
                quiet_growth(model, optimizer, width=2)
            loss = loss_of(model, step)
            scaler.scale(loss).backward()
            if step == 6:
                next(model.parameters()).grad[0, 0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses, scaler.get_scale()

    (found, scale), (wanted, other) = run(4), run(None)
    assert scale == other
    assert gap(found, wanted) < 1e-5  # float32: sums of 40 products in another order, over 6 steps


def test_master_weights_grow_and_the_model_is_cast_from_them() -> None:
    _, model = make_model("llama")
    model.to(torch.bfloat16)
    parameters = list(model.parameters())
    masters = {nn.Parameter(p.detach().float() * 1.0001): p for p in parameters}
    optimizer = AdamW(list(masters), lr=1e-3)
    for master in masters:
        master.grad = torch.randn(master.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    optimizer.zero_grad()
    old = {name: master.detach().clone() for (name, _), master in zip(model.named_parameters(), masters, strict=True)}
    quiet_growth(model, optimizer, masters=masters, width=2, noise_snr_db=10.0)
    assert list(masters.values()) == list(model.parameters())
    assert list(masters) == optimizer.param_groups[0]["params"]
    for master, p in masters.items():
        assert master.dtype == torch.float32 and p.dtype == torch.bfloat16
        assert torch.equal(master.to(torch.bfloat16), p)
        assert optimizer.state[master]["exp_avg"].shape == master.shape
    up = dict(zip((n for n, _ in model.named_parameters()), masters, strict=True))["model.layers.0.mlp.up_proj.weight"]
    rows, columns = old["model.layers.0.mlp.up_proj.weight"].shape
    # The noise of the two copies of an input cancels, in the master's own precision.
    total = up[:rows, :columns] + up[:rows, columns:]
    torch.testing.assert_close(total, old["model.layers.0.mlp.up_proj.weight"], rtol=0, atol=1e-6)


def test_an_average_of_the_weights_grows_by_the_same_plan() -> None:
    _, model = make_model("llama")
    optimizer = adamw(model)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    train(model, optimizer, range(2))
    averaged.update_parameters(model)
    quiet_growth(model, optimizer, width=2, noise_snr_db=10.0)
    quiet_growth(averaged.module, None, width=2, noise_snr_db=10.0)
    train(model, optimizer, range(2, 4))
    averaged.update_parameters(model)
    assert int(averaged.n_averaged) == 2
    assert averaged.module.config.hidden_size == model.config.hidden_size


def test_the_wrapper_of_an_optimizer_is_unwrapped() -> None:
    class Wrapper:
        def __init__(self, optimizer: AdamW) -> None:
            self.optimizer = optimizer

    model, other = double("gpt2"), double("gpt2")
    optimizer, twin = adamw(model), adamw(other)
    for one, its in ((model, optimizer), (other, twin)):
        train(one, its, range(BEFORE))
    quiet_growth(model, Wrapper(optimizer), width=2)
    assert gap(train(model, optimizer, range(6, 10)), train(other, twin, range(6, 10))) < 1e-12
    assert growkernels.optim.attach(Wrapper(copy.copy(optimizer))).optimizer is not optimizer
