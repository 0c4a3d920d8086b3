"""Every optimizer that can be grown goes on as the source's, beside the control of the source disturbed by 1e-15."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adafactor, Adagrad, Adam, Adamax, AdamW, Muon, NAdam, Optimizer, RAdam, RMSprop

from growkernels.optim.kinds import KINDS
from tests.optim.lion import Lion
from tests.optim.support import BEFORE, Make, disturb, double, gap, loss_of, quiet_growth, train, twins

DECAY = {"weight_decay": 0.1}


def schedule_free(name: str, **options: Any) -> Make:
    def make(model: nn.Module) -> Optimizer:
        module = pytest.importorskip("schedulefree", reason="schedulefree is not installed")
        optimizer = getattr(module, name)(model.parameters(), **options)
        optimizer.train()
        return optimizer

    return make


MAKES: dict[str, Make] = {
    "AdamW": lambda m: AdamW(m.parameters(), lr=1e-3, **DECAY),
    "AdamW amsgrad, foreach": lambda m: AdamW(m.parameters(), lr=1e-3, amsgrad=True, foreach=True, **DECAY),
    "AdamW fused": lambda m: AdamW(m.parameters(), lr=1e-3, fused=True, **DECAY),
    "Adam": lambda m: Adam(m.parameters(), lr=1e-3, **DECAY),
    "NAdam": lambda m: NAdam(m.parameters(), lr=1e-3, **DECAY),
    "NAdam decoupled": lambda m: NAdam(m.parameters(), lr=1e-3, decoupled_weight_decay=True, **DECAY),
    "RAdam": lambda m: RAdam(m.parameters(), lr=1e-3, **DECAY),
    "Adamax": lambda m: Adamax(m.parameters(), lr=1e-3, **DECAY),
    "SGD": lambda m: SGD(m.parameters(), lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSprop": lambda m: RMSprop(m.parameters(), lr=1e-4, momentum=0.9, centered=True, weight_decay=0.01),
    "Adagrad": lambda m: Adagrad(m.parameters(), lr=1e-2, initial_accumulator_value=0.1, weight_decay=0.01),
    "Adafactor": lambda m: Adafactor(m.parameters(), lr=1e-2, weight_decay=0.01),
    "Lion": lambda m: Lion(m.parameters(), lr=1e-4, weight_decay=0.1),
    "AdamWScheduleFree": schedule_free("AdamWScheduleFree", lr=1e-3, warmup_steps=10, **DECAY),
    "SGDScheduleFree": schedule_free("SGDScheduleFree", lr=1e-2, warmup_steps=10, weight_decay=0.01),
}
#: No biases of keys, whose gradient is nothing but rounding, which Adafactor and Lion make as large as any other.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "gpt2": ("gpt2", {}),
    "gpt_neox": ("gpt_neox", {}),
}
QUICK = {("SGD", "llama tied", 2), ("Adafactor", "llama", 3), ("Lion", "gpt_neox", 2), ("AdamWScheduleFree", "gpt2", 2)}
GRID = [
    pytest.param(name, family, n, marks=() if (name, family, n) in QUICK else pytest.mark.slow)
    for name in MAKES
    for family in FAMILIES
    for n in (2, 3)
]


def test_every_kind_is_tested() -> None:
    assert {name for _, name in KINDS} - {"Muon"} <= {name.split()[0] for name in MAKES}


@pytest.mark.parametrize(("name", "family", "n"), GRID)
def test_a_grown_optimizer_goes_on_as_the_source(name: str, family: str, n: int) -> None:
    kind, variant = FAMILIES[family]
    make = MAKES[name]
    quick = (name, family, n) in QUICK
    model, optimizer, other, twin = twins(make, double(kind, **variant))
    _, _, control, its = twins(make, double(kind, **variant))
    disturb(control)
    quiet_growth(other, twin, width=n)
    after = range(BEFORE, BEFORE + (20 if quick else 100))
    wanted = train(model, optimizer, after)
    chaos, found = gap(train(control, its, after), wanted), gap(train(other, twin, after), wanted)
    # A trajectory that a last bit disturbs by more than 1e-13 is chaotic: the growth may depart from it as far, not further.
    assert found < max(1e-12, 20 * chaos), f"chaos {chaos:.1e}"


def newton_schulz(gradient: torch.Tensor, coefficients: tuple[float, ...], steps: int, eps: float) -> torch.Tensor:
    """torch's, in float64: in bfloat16 its rounding alone is 1e-3."""
    a, b, c = coefficients
    x = gradient.double()
    if flip := x.size(0) > x.size(1):
        x = x.T
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if flip else x


@pytest.mark.parametrize(
    ("adjust", "options"),
    [
        ("original", {"width": 2}),
        pytest.param("match_rms_adamw", {"width": 2}, marks=pytest.mark.slow),
        pytest.param("original", {"width": 3}, marks=pytest.mark.slow),
        pytest.param("match_rms_adamw", {"width": 2, "ffn": 4}, marks=pytest.mark.slow),
    ],
)
def test_muon_goes_on_as_the_source(adjust: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 15 steps: its rounding noise grows in what the copies have no part in (1e-9 after 40)."""
    monkeypatch.setattr(importlib.import_module("torch.optim._muon"), "_zeropower_via_newtonschulz", newton_schulz)

    def run(grow_at: int | None) -> list[float]:
        model = double("llama")
        matrices = [p for name, p in model.named_parameters() if "proj" in name]
        others = [p for name, p in model.named_parameters() if "proj" not in name]
        both = [Muon(matrices, lr=1e-2, weight_decay=0.1, adjust_lr_fn=adjust), AdamW(others, lr=1e-3)]
        losses = []
        for step in range(20):
            if step == grow_at:
                quiet_growth(model, both, **options)
            loss = loss_of(model, step)
            loss.backward()
            for one in both:
                one.step()
                one.zero_grad()
            losses.append(loss.item())
        return losses

    assert gap(run(5), run(None)) < 1e-12


def test_schedule_free_goes_on_in_eval_mode() -> None:
    make = MAKES["AdamWScheduleFree"]
    model, optimizer, other, twin = twins(make, double("gpt2"))
    for one in (optimizer, twin):
        one.eval()
    quiet_growth(other, twin, width=2)
    assert abs(loss_of(model, 50).item() - loss_of(other, 50).item()) < 1e-12
    for one in (optimizer, twin):
        one.train()
    assert gap(train(other, twin, range(20)), train(model, optimizer, range(20))) < 1e-12
    for one in (optimizer, twin):
        one.eval()
    assert abs(loss_of(model, 50).item() - loss_of(other, 50).item()) < 1e-12
    assert [group["k"] for group in twin.param_groups] == [group["k"] for group in optimizer.param_groups] == [26]
    assert twin.param_groups[0]["scheduled_lr"] == pytest.approx(optimizer.param_groups[0]["scheduled_lr"], rel=1e-15)


def test_noise_of_a_second_set_of_weights_is_that_of_the_first() -> None:
    make = MAKES["AdamWScheduleFree"]
    _, _, other, twin = twins(make, double("gpt2"))
    twin.eval()
    quiet_growth(other, twin, width=2, noise_snr_db=10.0)
    weight = other.transformer.h[0].mlp.c_fc.weight
    z = twin.state[weight]["z"]
    half = weight.shape[0] // 2
    noise = weight[:half] - weight[half:]
    torch.testing.assert_close(z[:half] - z[half:], noise, rtol=0, atol=1e-15)
    assert noise.abs().max() > 1e-3
