"""A growth that fails leaves model and optimizer as they were; where memory does not allow it, it says what is lost."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.optim import AdamW, Optimizer

import growkernels
from growkernels import live as live_module
from growkernels.executors import run as run_module
from growkernels.executors.sinks.graft import Graft
from growkernels.executors.sinks.module import ModuleSink
from growkernels.optim import grown as grown_module
from growkernels.optim import training as training_module
from growkernels.optim.grown import GrownOptimizer
from growkernels.optim.training import Training
from tests.families import make_model
from tests.live.support import Untouched
from tests.live.test_failures import Injected
from tests.optim.support import train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PLACES: dict[str, tuple[Any, str]] = {
    "the optimizer's state": (GrownOptimizer, "_read"),
    "its rules": (grown_module, "moment_rule"),
    "a check of moments": (live_module, "prepare"),
    "the op": (run_module.ops, "tile_rules_"),
    "a grown moment": (Training, "take"),
    "a place in a group": (training_module, "Place"),
    "the groups": (grown_module, "regrouped"),
    "the graft": (Graft, "apply"),
}


class Unmoved:
    """Remembers an optimizer; `check` asserts that nothing of it has changed."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._groups = [(group, dict(group), list(group["params"])) for group in optimizer.param_groups]
        self._state = {p: dict(held) for p, held in optimizer.state.items()}
        self._saved = copy.deepcopy(optimizer.state_dict())

    def check(self) -> None:
        assert len(self._optimizer.param_groups) == len(self._groups)
        for group, (was, options, params) in zip(self._optimizer.param_groups, self._groups, strict=True):
            assert (
                group is was and group == options and all(a is b for a, b in zip(group["params"], params, strict=True))
            )
        assert self._optimizer.state.keys() == self._state.keys()
        for p, held in self._optimizer.state.items():
            assert all(held[name] is value for name, value in self._state[p].items())
        now = self._optimizer.state_dict()
        assert now["param_groups"] == self._saved["param_groups"]
        for number, held in self._saved["state"].items():
            assert all(torch.equal(value, now["state"][number][name]) for name, value in held.items())


def fail_at(monkeypatch: pytest.MonkeyPatch, place: str, call: int) -> None:
    owner, name = PLACES[place]
    real, calls = getattr(owner, name), [0]

    def failing(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Injected
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize(
    ("place", "call"),
    [
        *((place, 1) for place in PLACES),
        ("a check of moments", 2),
        ("the op", 2),
        ("a grown moment", 11),
        ("its rules", 9),
    ],
)
def test_a_failure_leaves_model_and_optimizer_as_they_were(
    place: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModuleSink, "bucket", 4096)
    _, model = make_model("llama")
    optimizer = AdamW(model.parameters(), lr=1e-3)
    train(model, optimizer, range(2))
    before, its = Untouched(model), Unmoved(optimizer)
    with monkeypatch.context() as patch:
        fail_at(patch, place, call)
        with pytest.raises(Injected):
            growkernels.grow_model(model, optimizer, width=2, depth=2)
    before.check()
    its.check()
    # And both can still be grown, and train.
    growkernels.grow_model(model, optimizer, width=2, depth=2)
    train(model, optimizer, range(2, 4))


def test_where_both_do_not_fit_the_loss_of_moments_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = make_model("llama")
    optimizer = AdamW(model.parameters(), lr=1e-3)
    train(model, optimizer, range(2))
    monkeypatch.setattr(ModuleSink, "bucket", 4096)
    monkeypatch.setattr(live_module, "free_memory", lambda device: 0)
    fail_at(monkeypatch, "the op", 8)
    with (
        pytest.warns(UserWarning, match=r"freed as they are used.*some are lost\. Save the model first"),
        pytest.raises(Injected) as caught,
    ):
        growkernels.grow_model(model, optimizer, width=2)
    lost = sum(value.numel() == 0 for held in optimizer.state.values() for value in held.values())
    assert lost > 0
    [note] = caught.value.__notes__
    assert f"and {lost} entries of its optimizer's state" in note
    assert note.endswith("and the optimizer's state from the last checkpoint.")


def test_where_both_do_not_fit_a_growth_that_succeeds_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for free in (None, 0):
        _, model = make_model("llama")
        optimizer = AdamW(model.parameters(), lr=1e-3)
        train(model, optimizer, range(2))
        monkeypatch.setattr(ModuleSink, "bucket", 4096)
        if free is not None:
            monkeypatch.setattr(live_module, "free_memory", lambda device: 0)
        growkernels.grow_model(model, optimizer, width=2, depth=2)
        found.append((model, optimizer, train(model, optimizer, range(2, 5))))
    (_, first, losses), (_, second, others) = found
    assert losses == others
    for a, b in zip(first.state.values(), second.state.values(), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
