"""Schedulers, and loops that write lr themselves, go on over a growth as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import AdamW, Optimizer, lr_scheduler

from growkernels.optim import clip_grad_norm_
from tests.optim.support import BEFORE, double, gap, loss_of, quiet_growth

STEPS = 16


def sequential(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    first = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
    second = lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    return lr_scheduler.SequentialLR(optimizer, [first, second], [8])


SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 30, eta_min=1e-4),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 2e-3, total_steps=40),
    "sequential": sequential,
    "step": lambda o: lr_scheduler.StepLR(o, 5, 0.5),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.5),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 1e-4, 2e-3, 5, cycle_momentum=False),
}


def run(schedule: Callable[[Optimizer], Any], lr: Any, grow_at: int | None) -> list[float]:
    model = double("gpt2")
    optimizer = AdamW(model.parameters(), lr=lr(), weight_decay=0.1)
    scheduler = schedule(optimizer)
    losses = []
    for step in range(STEPS):
        if step == grow_at:
            groups = list(optimizer.param_groups)
            quiet_growth(model, optimizer, width=2)
            assert all(a is b for a, b in zip(groups, optimizer.param_groups, strict=True))
        loss = loss_of(model, step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(step)
        else:
            scheduler.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("lr", [lambda: 1e-3, lambda: torch.tensor(1e-3, dtype=torch.float64)], ids=["float", "tensor"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_on(name: str, lr: Any) -> None:
    assert gap(run(SCHEDULERS[name], lr, BEFORE), run(SCHEDULERS[name], lr, None)) < 1e-12


def test_a_loop_that_writes_lr_to_every_group_goes_on() -> None:
    def written(grow_at: int | None) -> list[float]:
        model = double("gpt2")
        optimizer = AdamW(model.parameters(), weight_decay=0.1)
        losses = []
        for step in range(STEPS):
            if step == grow_at:
                quiet_growth(model, optimizer, width=2)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 / (1 + step)
            loss = loss_of(model, step)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    assert gap(written(BEFORE), written(None)) < 1e-12


@pytest.mark.parametrize(("family", "variant"), [("llama", {"tie_word_embeddings": True}), ("gpt_neox", {})])
def test_clipping_is_by_the_norm_of_the_source(family: str, variant: dict[str, Any]) -> None:
    def clipped(grow_at: int | None) -> tuple[list[float], list[float]]:
        model = double(family, **variant)
        optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        losses, norms = [], []
        for step in range(STEPS):
            if step == grow_at:
                quiet_growth(model, optimizer, width=3)
            loss = loss_of(model, step)
            loss.backward()
            norms.append(clip_grad_norm_(optimizer, 0.3).item())
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses, norms

    (found, norms), (wanted, others) = clipped(BEFORE), clipped(None)
    assert min(others) > 0.3, "nothing was clipped"
    assert gap(found, wanted) < 1e-12
    assert gap(norms, others) < 1e-12
