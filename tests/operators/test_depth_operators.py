"""Depth operators: which layers they give, what becomes of new ones, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growkernels.errors import GrowthError
from growkernels.layouts import discover
from growkernels.layouts.families import FAMILIES
from growkernels.layouts.identity import NO_IDENTITY, SHOWN, WRITERS
from growkernels.operators import DEPTH_OPERATORS, GrowthOptions, make_plan
from growkernels.plans import Fill, Learned, Plan, Rule, Tile
from tests import families
from tests.layouts.support import class_shapes, specs, stored_config
from tests.operators.support import make_source


def order(name: str, count: int, **options: Any) -> str:
    """The layers of an operator, those that are no plain copies marked: ' for identity, * for drawn, + for averaged."""
    layers = DEPTH_OPERATORS[name].layers(count, GrowthOptions(**options))
    return " ".join(f"{i.source}{chr(39) * i.identity}{'*' * i.fresh}{'+' * i.averaged}" for i in layers)


@pytest.mark.parametrize(
    ("name", "count", "options", "layers"),
    [
        ("llama_pro", 3, {"depth": 2}, "0 0' 1 1' 2 2'"),
        ("llama_pro", 4, {"num_layers": 6}, "0 1 1' 2 3 3'"),
        ("llama_pro", 4, {"num_layers": 5}, "0 1 2 3 3'"),
        ("llama_pro", 2, {"depth": 3}, "0 0' 0' 1 1' 1'"),
        ("llama_pro", 4, {"num_layers": 6, "block": 4}, "0 1 2 3 2' 3'"),
        ("llama_pro", 4, {"depth": 2, "block": 2}, "0 1 0' 1' 2 3 2' 3'"),
        ("llama_pro", 4, {"depth": 3, "block": 2}, "0 1 0' 1' 0' 1' 2 3 2' 3' 2' 3'"),
        ("zero", 3, {"depth": 2}, "0 1 2 0' 1' 2'"),
        ("zero", 3, {"num_layers": 5}, "0 1 0' 1' 2"),
        ("random", 3, {"depth": 2}, "0 1 2 0* 1* 2*"),
        ("average", 3, {"depth": 2}, "0 0+ 1 1+ 2 2+"),
        ("solar", 4, {"depth": 2}, "0 1 2 3 0 1 2 3"),
        ("solar", 8, {"num_layers": 12}, "0 1 2 3 4 5 2 3 4 5 6 7"),
        # Blocks 01 23 45: the middle one. Of two blocks, the lower one; LIDAS takes the layers around the middle.
        ("midas", 6, {"num_layers": 8}, "0 1 2 3 2 3 4 5"),
        ("midas", 4, {"num_layers": 6}, "0 1 0 1 2 3"),
        ("midas", 6, {"depth": 2, "block": 2}, "0 1 2 3 2 3 2 3 2 3 4 5"),
        ("lidas", 6, {"num_layers": 8}, "0 1 2 3 2 3 4 5"),
        ("lidas", 4, {"num_layers": 6}, "0 1 2 1 2 3"),
        ("lidas", 5, {"num_layers": 7, "block": 1}, "0 1 2 2 2 3 4"),
        ("interpolate", 4, {"depth": 2, "block": 2}, "0 1 0 1 2 3 2 3"),
        ("interpolate", 4, {"num_layers": 6, "block": 2}, "0 1 0 1 2 3"),
        *((name, 3, {"width": 2}, "0 1 2") for name in DEPTH_OPERATORS if name != "ligo"),
    ],
)
def test_orders(name: str, count: int, options: dict[str, Any], layers: str) -> None:
    assert order(name, count, **options) == layers


@given(st.sampled_from(["gstack", "interpolate", "llama_pro", "zero", "random", "average"]), st.data())
def test_any_number_of_layers_holds_every_layer_in_order(name: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    target = data.draw(st.integers(count, 4 * count))
    layers = DEPTH_OPERATORS[name].layers(count, GrowthOptions(num_layers=target))
    assert len(layers) == target and layers[-1].source == count - 1
    first = [
        layer.source for place, layer in enumerate(layers) if layer.source not in [x.source for x in layers[:place]]
    ]
    assert first == list(range(count))
    old = [layer.source for layer in layers if not (layer.identity or layer.fresh or layer.averaged)]
    assert name in ("gstack", "interpolate") or old == list(range(count))


@given(st.sampled_from(["midas", "lidas"]), st.integers(1, 12), st.integers(0, 24))
def test_middle_blocks_are_repeated_whole(name: str, count: int, new: int) -> None:
    index = [layer.source for layer in DEPTH_OPERATORS[name].layers(count, GrowthOptions(num_layers=count + new))]
    block = sorted(i for i in range(count) if index.count(i) > 1)
    assert len(index) == count + new and len(block) <= max(count / 2, 1)
    if new:
        start, copies = block[0], 1 + new // len(block)
        assert index == [*range(start), *block * copies, *range(start + len(block), count)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"depth_operator": "solar", "num_layers": 3},
            "solar makes an even number of layers .* 4 at most; 3 were asked",
        ),
        ({"depth_operator": "solar", "num_layers": 6}, "4 at most; 6 were asked"),
        ({"depth_operator": "solar", "layers": "0,0,1"}, "depth_operator solar and layers both say in which order"),
        ({"depth_operator": "midas", "layers": "0,0,1"}, "depth_operator midas and layers both say"),
        (
            {"depth_operator": "midas", "num_layers": 4, "block": 3},
            "block 3 does not fit.*divide the 2 new.*Possible: 1, 2",
        ),
        ({"depth_operator": "llama_pro", "num_layers": 3, "block": 1}, "block 1 does not fit"),
        ({"depth_operator": "llama_pro", "depth": 2, "block": 3}, "block 3 does not fit"),
        ({"depth_operator": "interpolate", "num_layers": 3, "block": 2}, "block 2 does not divide"),
        ({"depth": 2, "block": 2}, "block is 2, which depth_operator gstack .* do not read.*llama_pro"),
        ({"depth_operator": "llama_pro", "layers": "0,0,1", "block": 1}, "block 1 and layers '0,0,1' both say"),
        ({"width": 2, "fade": True}, "no layer is there twice"),
        ({"depth": 2, "fade": True, "depth_operator": "llama_pro"}, "depth_operator llama_pro makes no plain copies"),
        ({"depth": 2, "fade": True, "depth_operator": "ligo"}, "depth_operator ligo makes no plain copies"),
        (
            {"depth": 2, "width": 2, "width_operator": "ligo", "depth_operator": "average"},
            "ligo learns every layer",
        ),
        ({"depth": 2, "width": 2, "width_operator": "ligo", "fade": True}, "ligo learns every layer"),
        ({"depth": 2, "width": 2, "width_operator": "ligo", "depth_operator": "zero"}, "ligo learns every layer"),
        ({"depth": 2, "width": 2, "depth_operator": "average"}, "average makes a model deeper alone"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        make_source("llama").plan(**options)


@pytest.mark.parametrize("options", [{"depth_operator": "llama_pro"}, {"depth_operator": "zero"}, {"fade": True}])
def test_post_ln_has_no_layers_that_add_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(GrowthError, match=r"of bert cannot .*: a norm follows every sum of its residual stream"):
        make_source("bert").plan(depth=2, **options)


def test_a_type_of_which_nothing_is_shown_is_refused() -> None:
    layout = replace(make_source("llama").layout, identity_refusal="it is not shown")
    with pytest.raises(
        GrowthError, match="new layers of llama cannot start as ones that change nothing: it is not shown"
    ):
        make_plan(layout, GrowthOptions(depth=2, depth_operator="llama_pro"))
    assert make_plan(layout, GrowthOptions(depth=2))


def test_what_is_shown_is_of_known_types_and_not_refused_whatever_the_config() -> None:
    assert set(FAMILIES) >= SHOWN and set(FAMILIES) >= WRITERS.keys()
    assert not SHOWN & {name for name, reason in NO_IDENTITY.items() if isinstance(reason, str)}
    assert WRITERS.keys() <= SHOWN


def gemma2(**options: Any) -> Plan:
    """The plan of a growth of a tiny Gemma-2, which norms what its blocks put out and stores gains as gamma - 1.

    Its four layers are of two kinds, in turn.
    """
    sizes = {
        name: families.FAMILIES["gemma"][name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")
    }
    more = {"num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 97}
    config = stored_config("gemma2", "Gemma2ForCausalLM", **sizes, **more)
    return make_plan(discover(config, specs(class_shapes(config))), GrowthOptions(**options))


def by_name(plan: Plan, layer: int) -> dict[str, Rule]:
    return {rule.group.partition("{}.")[2]: rule for rule in plan.rules if rule.layer == layer}


def test_a_post_norm_is_zero_where_its_family_stores_gamma_minus_one() -> None:
    plan = gemma2(depth=2, depth_operator="llama_pro")
    new = by_name(plan, 1)
    zero = {name for name, rule in new.items() if isinstance(rule.how, Tile) and rule.how.draws_nothing}
    assert zero == {"post_attention_layernorm.weight", "post_feedforward_layernorm.weight"}
    assert all(new[name].how.fill[2] == Fill(-1.0, 0.0) for name in zero)
    assert plan.preserves_function and new["mlp.down_proj.weight"].is_copy


def test_layers_given_by_hand_are_new_from_their_second_place_on() -> None:
    plan = make_source("llama").plan(layers="0,0,1,0", depth_operator="llama_pro")
    zero = [bool(by_name(plan, place)["mlp.down_proj.weight"].how.draws_nothing) for place in range(4)]
    assert zero == [False, True, False, True]
    assert [claim.holds for claim in plan.claims] == ["exactly"]
    # What comes first is old: an order in which old layers moved is not preserved, whatever the new ones do.
    assert not make_source("llama").plan(layers="1,0,0", depth_operator="llama_pro").preserves_function
    assert plan.new_parameters == tuple(rule.target for rule in plan.rules if rule.layer in (1, 3))


def test_what_depends_on_a_layers_number_breaks_the_claim() -> None:
    plain = make_source("gpt2").plan(depth=2, depth_operator="llama_pro")
    moved = make_source("gpt2", scale_attn_by_inverse_layer_idx=True).plan(depth=2, depth_operator="llama_pro")
    assert plain.preserves_function and not moved.preserves_function
    assert "divided by the layer's number" in moved.claims[0].reason


def test_fade_divides_what_every_copy_of_a_layer_writes() -> None:
    plan = make_source("llama", "biases").plan(layers="0,1,1,1", fade=True)
    for place, divisor in enumerate((1, 3, 3, 3)):
        for name, rule in by_name(plan, place).items():
            assert rule.divisor == (divisor if "o_proj" in name or "down_proj" in name else 1), name
    assert plan.claims[0].holds == "no" and "second order" in plan.claims[0].reason
    # Post-norms: 1 + new = (1 + gamma - 1) / k.
    gemma = by_name(gemma2(depth=2, fade=True), 0)
    norm, down = gemma["post_feedforward_layernorm.weight"].how, gemma["mlp.down_proj.weight"]
    assert (norm.divisor, norm.shift) == (2.0, -0.5) and down.is_copy


def test_random_layers_are_those_of_a_new_model() -> None:
    plan = make_source("gpt2", initializer_range=0.3).plan(depth=2, depth_operator="random", seed=4)
    new = by_name(plan, 2)
    assert new["mlp.c_fc.weight"].how.fill[2] == Fill(0.0, 0.3) and new["mlp.c_fc.weight"].how.key
    assert new["ln_1.weight"].how.fill[2] == Fill(1.0, 0.0)
    assert new["ln_1.bias"].how.fill[2] == new["mlp.c_fc.bias"].how.fill[2] == Fill()
    gemma = by_name(make_source("gemma").plan(depth=2, depth_operator="random"), 2)
    assert gemma["input_layernorm.weight"].how.fill[2] == Fill(0.0, 0.0)
    assert gemma["mlp.up_proj.weight"].how.fill[2] == Fill(0.0, 0.02)
    assert all(rule.is_copy for rule in plan.rules if rule.layer in (0, 1, None))


def test_an_average_has_two_sources_and_learns_nothing() -> None:
    plan = make_source("llama").plan(depth=2, depth_operator="average")
    new = by_name(plan, 1)["mlp.up_proj.weight"]
    assert isinstance(new.how, Learned) and new.how.weights == (0.5, 0.5) and new.describe() == "mean of 2"
    assert new.sources == ("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight")
    # Nothing follows the last layer: its mean is with the one before.
    assert by_name(plan, 3)["mlp.up_proj.weight"].sources[1] == "model.layers.0.mlp.up_proj.weight"
    assert not plan.is_learned and Plan.from_json(plan.to_json()) == plan
    with pytest.raises(GrowthError, match=r"average needs two layers.*layer 0 of the source is the only one"):
        make_source("llama", num_hidden_layers=1).plan(depth=2, depth_operator="average")


def test_a_pattern_that_no_longer_comes_round_is_said() -> None:
    def said(**options: Any) -> list[str]:
        return [text for text in gemma2(**options).warnings if "come round" in text]

    (text,) = said(depth=2, depth_operator="interpolate")
    assert "every 2 layers in the source (sliding_attention, full_attention)" in text and "block 2" in text
    assert said(depth=2, depth_operator="llama_pro") and said(num_layers=5)
    assert not said(depth=2) and not said(width=2)
    assert not said(depth=2, depth_operator="interpolate", block=2)
    assert not said(depth=3, depth_operator="llama_pro", block=2)
    assert not make_source("llama").plan(depth=2, depth_operator="interpolate").warnings
