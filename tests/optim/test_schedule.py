"""Growths at given steps of a plain loop: what they do and say, and that a run that is killed and resumed is the same run."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

import growkernels
from growkernels.errors import GrowthError
from growkernels.optim.schedule import Hop
from tests.families import make_model
from tests.optim.support import loss_of

HOPS: dict[int, dict[str, Any]] = {2: {"width": 2}, 4: {"depth": 2, "width": 2}}
STEPS = 6


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Noise goes into|.*order that they were not trained")
        yield


class Run:
    """A training run that can be saved after any step."""

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        _, self.model = make_model("llama")
        start = 0
        if saved is not None:
            self.model, start = copy.deepcopy(saved["model"]), saved["step"]
        self.optimizer = growkernels.optim.attach(AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.1))
        self.scheduler = CosineAnnealingLR(self.optimizer, STEPS)
        if saved is not None:
            self.optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
            self.scheduler.load_state_dict(saved["scheduler"])
        self.hops: list[Hop] = []
        self.schedule = growkernels.GrowthSchedule(HOPS, start=start, on_hop=self.hops.append)
        self.step = start

    def go(self, until: int) -> None:
        while self.step < until:
            loss = loss_of(self.model, self.step)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            self.step += 1
            self.schedule.after_step(self.step, self.model, self.optimizer, lambda: loss_of(self.model, 99))

    def saved(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": copy.deepcopy(self.model),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "scheduler": self.scheduler.state_dict(),
        }


def test_a_run_that_is_killed_anywhere_and_resumed_is_the_same() -> None:
    whole = Run()
    whole.go(STEPS)
    for stop in range(1, STEPS):
        first = Run()
        first.go(stop)
        second = Run(first.saved())
        second.go(STEPS)
        for (name, p), q in zip(whole.model.named_parameters(), second.model.parameters(), strict=True):
            assert torch.equal(p, q), (stop, name)


def test_a_hop_says_what_it_did() -> None:
    run = Run()
    run.go(STEPS)
    assert [hop.step for hop in run.hops] == [2, 4]
    first, second = run.hops
    assert first.parameters[1] == second.parameters[0] > 3 * first.parameters[0]
    assert first.loss[0] == pytest.approx(first.loss[1], rel=1e-5)
    text = str(first)
    assert text.startswith("step 2: grown by width=2: 20,192 -> 68,032 parameters, loss 5.05")
    assert "GB" in text and text.endswith(" s")
    # Width alone preserves the function; depth does not, and nothing is said of its loss.
    assert second.loss[0] != pytest.approx(second.loss[1], rel=1e-5)


def test_a_loss_that_jumps_where_it_must_not_is_warned_of() -> None:
    _, model = make_model("llama")
    optimizer = AdamW(model.parameters())
    schedule = growkernels.GrowthSchedule({1: {"width": 2}}, on_hop=lambda hop: None)
    with pytest.warns(UserWarning, match=r"the loss went from .* over a growth that preserves the function"):
        # A term outside of the model's class that depends on its size.
        schedule.after_step(
            1, model, optimizer, lambda: loss_of(model, 0) + 0.1 * model.model.embed_tokens.weight.square().sum()
        )


def test_the_mode_of_every_module_comes_back() -> None:
    _, model = make_model("llama")
    model.train()
    model.model.layers[0].eval()
    schedule = growkernels.GrowthSchedule({1: {"width": 2}}, on_hop=lambda hop: None)
    schedule.after_step(1, model, AdamW(model.parameters()), lambda: loss_of(model, 0))
    assert model.training and not model.model.layers[0].training and model.model.layers[1].training


@pytest.mark.parametrize(
    ("hops", "message"),
    [
        ({0: {"width": 2}}, "hops has the step 0; expected whole numbers from 1"),
        ({True: {"width": 2}}, "hops has the step True"),
        ({5: {"widht": 2}}, "unknown option widht"),
        ({5: {}}, "nothing to grow"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused_at_once(hops: dict[int, Any], message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        growkernels.GrowthSchedule(hops)
