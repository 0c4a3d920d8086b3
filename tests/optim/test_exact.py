"""A grown model trains on as the source does: the same losses, step by step, up to the rounding of float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from tests.optim.support import AFTER, BEFORE, Make, disturb, double, gap, quiet_growth, train, twins

#: Grouped-query attention with and without a tied head, biases and fused projections, parallel residuals.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama one kv head": ("llama", {"num_key_value_heads": 1}),
    "qwen3": ("qwen3", {"tie_word_embeddings": True}),
    "gpt2": ("gpt2", {}),
    "gpt2 untied": ("gpt2", {"tie_word_embeddings": False}),
    "gpt_neox": ("gpt_neox", {}),
    "bert": ("bert", {}),
}
QUICK = {("llama", 2), ("llama tied", 3), ("gpt2", 2), ("gpt_neox", 3)}
GRID = [
    pytest.param(name, n, marks=() if (name, n) in QUICK else pytest.mark.slow, id=f"{name} {n}")
    for name in MODELS
    for n in (2, 3)
]


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


@pytest.mark.parametrize(("name", "n"), GRID)
def test_adamw_goes_on_as_the_source(name: str, n: int) -> None:
    found, chaos = compare(adamw, *MODELS[name], {"width": n}, AFTER)
    assert chaos < 1e-12, "training itself is chaotic here: lower the learning rate"
    assert found < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"width": 2, "ffn": 4}, {"width": 2, "variant": "diagonal"}, {"width": 3, "variant": "diagonal"}],
    ids=str,
)
def test_other_growths_in_width_go_on_as_the_source(options: dict[str, Any]) -> None:
    found, chaos = compare(adamw, "llama", {"tie_word_embeddings": True}, options, AFTER)
    assert max(found, chaos) < 1e-12


@pytest.mark.slow
def test_gemma_goes_on_up_to_the_rounding_of_its_embedding_scale() -> None:
    """sqrt(hidden) is a float32 number in the class; norms are stored less 1, which a decay would pull at."""

    def make(model: torch.nn.Module) -> torch.optim.Optimizer:
        matrices = [p for p in model.parameters() if p.ndim == 2]
        vectors = [p for p in model.parameters() if p.ndim != 2]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)

    found, chaos = compare(make, "gemma", {}, {"width": 2}, AFTER)
    assert chaos < 1e-12
    assert found < 1e-8


@pytest.mark.parametrize("copies", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_clones_of_experts_go_on_as_the_source(copies: int) -> None:
    steps = AFTER if copies == 3 else 20

    def run(grow_at: int | None) -> list[float]:
        torch.manual_seed(0)
        config = MixtralConfig(
            vocab_size=97,
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=4,
            num_experts_per_tok=2,
        )
        model = MixtralForCausalLM(config).double()
        model.set_experts_implementation("eager")  # the grouped products know no float64
        optimizer = adamw(model)
        losses = train(model, optimizer, range(BEFORE))
        if grow_at is not None:
            quiet_growth(model, optimizer, expert_copies=copies)
        return losses + train(model, optimizer, range(BEFORE, BEFORE + steps))

    assert gap(run(BEFORE), run(None)) < 1e-12
