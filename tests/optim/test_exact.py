"""A grown model trains on as the source does: the same losses, step by step, up to the rounding of float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.optim.support import AFTER, BEFORE, Make, disturb, double, gap, quiet_growth, train, twins

#: Grouped-query attention with and without a tied head, biases and fused projections, parallel residuals.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "gpt2": ("gpt2", {}),
    "gpt_neox": ("gpt_neox", {}),
}


def adamw(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)


def compare(
    make: Make, family: str, variant: dict[str, Any], options: dict[str, Any], steps: int
) -> tuple[float, float]:
    """The gap of the grown model's losses to the source's, and that of the source disturbed by 1e-15."""
    model, optimizer, other, twin = twins(make, double(family, **variant))
    _, _, control, its = twins(make, double(family, **variant))
    disturb(control)
    quiet_growth(other, twin, **options)
    after = range(BEFORE, BEFORE + steps)
    wanted = train(model, optimizer, after)
    return gap(train(other, twin, after), wanted), gap(train(control, its, after), wanted)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "biases" in n else n for n in MODELS])
@pytest.mark.parametrize("options", [{"width": 2}, {"width": 3}], ids=str)
def test_adamw_goes_on_as_the_source(name: str, options: dict[str, Any]) -> None:
    family, variant = MODELS[name]
    found, chaos = compare(adamw, family, variant, options, AFTER)
    assert chaos < 1e-12, "training itself is chaotic here: lower the learning rate"
    assert found < 1e-12
