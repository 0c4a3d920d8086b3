"""What a fit does to its matrices at every step: the learning rate, and the norm that gradients are clipped to."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor

from growkernels import LearnedGrowth
from tests.learning.support import saved

BATCH = {"input_ids": torch.arange(24)[None] % 97, "labels": torch.arange(24)[None] % 97}
BOTH = {"depth": 2, "width": 2}
#: Of a factor in float64: a few roundings, those of the cosine and of its argument among them.
ROUNDING = 1e-15


def watched(growth: LearnedGrowth, note: Callable[[torch.optim.Optimizer], None]) -> LearnedGrowth:
    """The growth with a function that is called before each step of its optimizer."""
    growth._optimizer._adam.register_step_pre_hook(lambda adam, *_: note(adam))
    return growth


def rates_of(growth: LearnedGrowth, fits: list[int], steps: int, **settings: float) -> list[float]:
    """The learning rate of every step of fits of these numbers of batches, one after the other."""
    rates: list[float] = []
    watched(growth, lambda adam: rates.extend({group["lr"] for group in adam.param_groups}))
    for count in fits:
        growth.fit([BATCH] * count, steps=steps, **settings)
    return rates


def expected(steps: int, lr: float, warmup: int) -> list[float]:
    """Rising in equal parts to the peak; then half a wave of a cosine that ends at a tenth of it."""
    rising = [lr * step / warmup for step in range(1, warmup + 1)]
    falling = steps - warmup
    # (1 + cos x) / 2 is the square of cos x / 2.
    return rising + [lr * (0.1 + 0.9 * cos(pi * step / falling / 2) ** 2) for step in range(1, falling + 1)]


@pytest.mark.parametrize(
    ("steps", "settings", "warmup"),
    [(12, {"warmup": 4}, 4), (12, {}, 1), (30, {}, 3), (5, {"warmup": 0}, 0), (4, {"warmup": 4}, 4), (1, {}, 1)],
    ids=str,
)
def test_the_learning_rate_of_every_step(steps: int, settings: dict, warmup: int, tmp_path: Path) -> None:
    rates = rates_of(LearnedGrowth(saved(tmp_path, "llama"), **BOTH), [steps], steps, lr=2e-3, **settings)
    right = expected(steps, 2e-3, warmup)
    assert len(rates) == steps
    assert all(abs(rate - value) <= ROUNDING * 2e-3 for rate, value in zip(rates, right, strict=True)), (rates, right)
    if warmup < steps:
        assert rates[-1] == pytest.approx(2e-4, rel=ROUNDING)
    if warmup:
        assert max(rates) == rates[warmup - 1] == 2e-3
    # No two steps after the warm-up have the same rate.
    assert rates[warmup:] == sorted(set(rates[warmup:]), reverse=True)


def test_a_fit_that_goes_on_has_the_rates_of_one_without_a_pause(tmp_path: Path) -> None:
    whole, parts = (LearnedGrowth(saved(tmp_path, "llama"), **BOTH) for _ in range(2))
    assert rates_of(parts, [3, 1, 6], 10) == rates_of(whole, [10], 10)


def norm(gradients: dict[str, Tensor]) -> float:
    return sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients.values()))


@pytest.mark.parametrize("scale", [1 / 64, 64.0])
def test_gradients_are_clipped_at_norm_1(scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All by one factor, and only those of a larger norm. The loss is scaled to have either."""
    run = LearnedGrowth._run
    monkeypatch.setattr(LearnedGrowth, "_run", lambda *arguments: run(*arguments) * scale)

    def gradients(growth: LearnedGrowth) -> dict[str, Tensor]:
        return {name: m.grad.clone() for name, m in growth.matrices.items() if m.grad is not None}

    plain, growth = (LearnedGrowth(saved(tmp_path, "llama"), **BOTH) for _ in range(2))
    plain._load_weights()
    plain._loss_and_gradients(BATCH)
    before, used = gradients(plain), {}
    watched(growth, lambda _: used.update(gradients(growth))).fit([BATCH], steps=1)
    assert used.keys() == before.keys()
    if scale < 1:
        assert norm(before) < 1
        assert all(used[name].equal(gradient) for name, gradient in before.items())
        return
    assert norm(before) > 2
    # The sum of squares is rounded in float32, once for each addition at most, and so is every product with the factor.
    rounding = (sum(gradient.numel() for gradient in before.values()) + 4) * 2**-24
    # torch adds 1e-6 to the norm that it divides by.
    assert abs(norm(used) - 1) <= rounding + 1e-6
    for name, gradient in before.items():
        right = gradient.double() / norm(before)
        assert ((used[name].double() - right).abs() <= (rounding + 1e-6) * right.abs()).all(), name


def test_updates_are_those_of_adam_with_these_rates_and_norms(tmp_path: Path) -> None:
    """Matrices after steps that were recorded: Adam's formula in float64, on the gradients and rates it was given."""
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    records: list[tuple[float, dict[str, Tensor]]] = []

    def note(adam: torch.optim.Optimizer) -> None:
        grads = {name: m.grad.double() for name, m in growth.matrices.items() if m.grad is not None}
        records.append((adam.param_groups[0]["lr"], grads))

    start = {name: matrix.detach().double() for name, matrix in growth.matrices.items()}
    watched(growth, note).fit([BATCH] * 3, steps=3, lr=1e-2)
    for name in records[0][1]:
        value, first, second = start[name], 0.0, 0.0
        for step, (lr, grads) in enumerate(records, 1):
            first, second = 0.9 * first + 0.1 * grads[name], 0.95 * second + 0.05 * grads[name] ** 2
            value = value - lr * (first / (1 - 0.9**step)) / ((second / (1 - 0.95**step)).sqrt() + 1e-8)
        # Steps are at most about lr in size; some ten roundings in float32 each, of numbers no larger than the matrix's.
        bound = 3 * 10 * 2**-24 * (value.abs() + 3e-2)
        assert ((growth.matrices[name].detach().double() - value).abs() <= bound).all(), name
