"""What a plan warns of: units that never train, noise that the stored type cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from growkernels.layouts import ModelLayout, discover
from growkernels.operators import GrowthOptions, make_plan
from growkernels.operators.dead import dead_units
from growkernels.plans import Fill, IndexVector, Rule, Tile
from tests.layouts.support import class_shapes, specs, stored_config
from tests.operators.support import make_source

Change = Callable[[Tile], Tile]


def zeros(tile: Tile) -> Tile:
    return Tile.zeros(tile.shape, tile.sum_axis)


def drawn(tile: Tile) -> Tile:
    return Tile.filled(tile.shape, Fill(0.0, 0.02), tile.sum_axis)


def wider(axis: int, fill: Fill) -> Change:
    """Ten new units along an axis of a rule that is else a copy."""

    def change(tile: Tile) -> Tile:
        axes = tuple(IndexVector.extend(a.size, 10) if n == axis else a for n, a in enumerate(tile.axes))
        return replace(tile, axes=axes, fill=(fill, fill, fill))

    return change


def warned(layout: ModelLayout, changes: dict[str, Change], family: str = "llama") -> list[str]:
    """The warnings of the family's plan with the tensors of layer 1 that end so changed."""
    rules: list[Rule] = []
    for rule in make_source(family).plan(depth=2).rules:
        change = next((c for ending, c in changes.items() if rule.layer == 1 and rule.target.endswith(ending)), None)
        if change is not None:
            assert isinstance(rule.how, Tile)
            how = change(rule.how)
            rule = replace(rule, how=how, spec=replace(rule.spec, shape=how.shape))
        rules.append(rule)
    return dead_units(rules, layout)


ZERO, RANDOM = Fill(), Fill(0.0, 0.02)


def units(gate: Fill, up: Fill, down: Fill) -> dict[str, Change]:
    """Ten new units whose gate, up and down are filled so."""
    return {"gate_proj.weight": wider(0, gate), "up_proj.weight": wider(0, up), "down_proj.weight": wider(1, down)}


@pytest.mark.parametrize(
    ("family", "changes", "dead"),
    [
        ("llama", {"down_proj.weight": zeros}, 0),
        ("llama", {"down_proj.weight": zeros, "up_proj.weight": drawn}, 0),
        ("llama", {"down_proj.weight": zeros, "up_proj.weight": zeros}, 40),
        ("llama", {"gate_proj.weight": zeros, "up_proj.weight": zeros}, 40),
        ("llama", units(RANDOM, ZERO, RANDOM), 0),
        ("llama", units(RANDOM, ZERO, ZERO), 10),
        ("llama", units(ZERO, ZERO, RANDOM), 10),
        ("gpt2", {"mlp.c_proj.weight": zeros, "mlp.c_fc.weight": zeros}, 0),
        ("gpt2", {"mlp.c_proj.weight": zeros, "mlp.c_fc.weight": zeros, "mlp.c_fc.bias": zeros}, 128),
        ("gpt2", {"mlp.c_fc.weight": zeros, "mlp.c_fc.bias": zeros}, 0),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_units_with_two_zero_factors(family: str, changes: dict[str, Change], dead: int) -> None:
    found = warned(make_source(family).layout, changes, family)
    assert [text.partition(" ")[0] for text in found] == ([str(dead)] if dead else [])


@pytest.mark.parametrize("key", ["hidden_act", "activation_function"])
def test_what_a_flat_activation_is_applied_to_must_not_be_zero(key: str) -> None:
    layout = make_source("llama").layout
    flat = replace(layout, config={**layout.config, key: "relu2"})
    assert len(warned(flat, {"gate_proj.weight": zeros})) == 1 and not warned(layout, {"gate_proj.weight": zeros})
    assert not warned(flat, {"up_proj.weight": zeros}) and not warned(flat, {"down_proj.weight": zeros})
    gpt2 = make_source("gpt2").layout
    plain = replace(gpt2, config={**gpt2.config, "activation_function": "relu"})
    zero = {"mlp.c_fc.weight": zeros, "mlp.c_fc.bias": zeros}
    assert len(warned(plain, zero, "gpt2")) == 1 and not warned(gpt2, zero, "gpt2")


@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 54), ("float16", 72), ("float32", 150)])
def test_noise_that_the_stored_type_cannot_hold_is_warned_of(dtype: str, most: int) -> None:
    def lost(decibels: float) -> list[str]:
        plan = make_source("llama", dtype=dtype).plan(width=2, noise_snr_db=decibels)
        return [text for text in plan.warnings if "less than half a step" in text]

    (text,) = lost(most + 1)
    assert f"half a step between {dtype} numbers" in text and f"Up to {most} dB" in text
    assert not lost(most - 1)


def test_noise_on_experts_is_looked_at_too() -> None:
    config = stored_config(
        "mixtral", "MixtralForCausalLM", hidden_size=32, intermediate_size=40, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=97, num_local_experts=2,
    )  # fmt: skip
    layout = discover(config, specs(class_shapes(config), "bfloat16"))
    for decibels, lost in ((60, True), (40, False)):
        plan = make_plan(layout, GrowthOptions(expert_copies=2, noise_snr_db=decibels))
        assert any("less than half a step" in text for text in plan.warnings) is lost


def test_plans_of_ours_have_no_dead_units() -> None:
    for family in ("llama", "gpt2", "gpt_neox", "gemma"):
        for operator in ("llama_pro", "zero", "random"):
            plan = make_source(family).plan(depth=2, depth_operator=operator)
            assert not any("never train" in text for text in plan.warnings)
