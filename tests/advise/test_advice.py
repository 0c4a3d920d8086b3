"""The advice as a whole: shapes from configs, costs, multipliers, what is warned of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from growkernels.advise import advise
from growkernels.advise.continuation import continuation
from growkernels.advise.evidence import depth_saving
from growkernels.advise.shapes import target_of_config, target_of_size
from growkernels.errors import GrowthError
from tests.families import FAMILIES, make_model


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_of_the_model(family: str, tmp_path: Path) -> None:
    _, model = make_model(family)
    model.save_pretrained(tmp_path)
    target = target_of_config(json.loads((tmp_path / "config.json").read_text()))
    assert target.stored == sum(p.numel() for p in model.parameters())
    inside = [p for name, p in model.named_parameters() if ".0." in name or ".1." in name]
    assert sum(target.in_layers) == sum(p.numel() for p in inside)
    # Without embeddings and head a 2-layer model is its layers and a final norm or transform.
    rest = target.parameters - sum(target.in_layers)
    assert 0 <= rest < target.embeddings
    assert (target.layers, target.hidden) == (2, 32)


def mixture(tmp_path: Path, **changes: Any) -> Path:
    config = AutoConfig.for_model(
        "mixtral",
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=97,
        num_local_experts=4,
        num_experts_per_tok=1,
        architectures=["MixtralForCausalLM"],
        **changes,
    )
    config.save_pretrained(tmp_path)
    return tmp_path


def test_a_mixture_counts_the_experts_that_answer(tmp_path: Path) -> None:
    advice = advise(tokens="1B", config=mixture(tmp_path))
    experts = 4 * 4 * 3 * 32 * 40
    assert advice.target.parameters - advice.target.active == experts * 3 / 4
    assert any("mixture of experts" in text for text in advice.warnings)


def test_the_small_model_is_a_quarter_of_the_layers_and_its_flops_are_counted(tmp_path: Path) -> None:
    advice = advise(tokens="1B", config=mixture(tmp_path))
    small, target, flops = advice.small, advice.target, advice.flops
    assert small.config == {"num_hidden_layers": 1} and small.factor == 4
    assert small.parameters == target.parameters - sum(target.in_layers[1:])
    grown_at = advice.timing.tokens
    assert flops.scratch == 6 * (target.active + target.head) * 1e9
    assert flops.small == 6 * (small.active + target.head) * grown_at > 0
    assert flops.same_tokens == pytest.approx(flops.scratch * (1 - grown_at / 1e9) + flops.small, rel=1e-12)
    assert flops.small < flops.equal_loss_best < flops.equal_loss_worst == flops.scratch + flops.small
    assert advice.growth.bytes_written == target.stored * target.bytes_each


def test_savings_are_those_of_the_paper_where_it_measured_and_nothing_elsewhere() -> None:
    # 300 B tokens from scratch, 194 B of the grown model.
    near = depth_saving(7e9, 300e9)
    assert near.basis == "measured nearby" and near.high == pytest.approx(1 - 194 / 300, abs=1e-3)
    far = depth_saving(8e9, 15e12)
    assert (far.low, far.basis) == (0.0, "extrapolated") and "15 T" in far.reason


def test_multipliers_are_the_ratios_of_real_gradients() -> None:
    """A model of three products, and the same with every feature twice: each copy's gradient against its source's."""
    generator = torch.Generator().manual_seed(0)
    embedding, matrix, head = (torch.randn(4, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    token = torch.randn(4, generator=generator, dtype=torch.float64)

    def gradients(*weights: torch.Tensor) -> list[torch.Tensor]:
        e, m, h = (w.clone().requires_grad_() for w in weights)
        (h @ torch.tanh(m @ (e @ token))).square().sum().backward()
        assert e.grad is not None and m.grad is not None and h.grad is not None
        return [e.grad, m.grad, h.grad]

    small = gradients(embedding, matrix, head)
    large = gradients(embedding.tile(2, 1), matrix.tile(2, 2) / 2, head.tile(1, 2) / 2)
    inside, stream, apart, *_ = continuation(2)
    for row, old, new, times in zip((stream, inside, apart), small, large, ((2, 1), (2, 2), (1, 2)), strict=True):
        # Sums of four products in float64 differ by rounding alone: a few units of 1e-16 of the largest entry.
        assert (new - old.tile(*times) * row.exp_avg).abs().max() < 1e-14 * old.abs().max()
        assert row.exp_avg_sq == row.exp_avg**2 and row.lr * row.weight_decay == 1


def test_a_guess_is_said_to_be_one() -> None:
    guess = target_of_size(8e9)
    assert guess.layers % 4 == 0 and guess.hidden % 64 == 0 and guess.guessed
    assert 12 * guess.layers * guess.hidden**2 == pytest.approx(8e9, rel=0.1)
    assert any("guessed" in text for text in advise("8B", "300B").warnings)


@pytest.mark.parametrize(("source_tokens", "row"), [(None, 0), ("1B", 0), ("2T", 1)])
def test_the_case_at_hand_is_marked(source_tokens: str | None, row: int) -> None:
    rows = advise("8B", "15T", source_tokens=source_tokens).situations
    assert [i for i, situation in enumerate(rows) if situation.applies] == [row]


def test_layers_that_do_not_stack_and_odd_shapes_are_warned_of(tmp_path: Path) -> None:
    config, _ = make_model("llama", num_hidden_layers=7)
    config.save_pretrained(tmp_path)
    texts = " ".join(advise(tokens="1B", config=tmp_path).warnings)
    assert "7 layers divide by none of 2, 3 and 4" in texts
    assert "too deep a model" in texts and "embeddings are larger" not in texts


@pytest.mark.parametrize("value", ["", "many", "-1", "nan", "inf", "0", "1e400", "8Q", True])
def test_numbers_that_are_none(value: Any) -> None:
    with pytest.raises(GrowthError, match="expected a number of at least 1"):
        advise(value, "15T")
