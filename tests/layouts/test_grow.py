"""The grown config: stored keys, pinned sizes, lists that follow the layers."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig

from growkernels.errors import GrowthError
from growkernels.layouts import discover, grow_config
from tests.layouts.support import class_shapes, specs, stored_config

SIZES = {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 11}
QWEN = {**SIZES, "num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 24}
DOUBLE = {"hidden": 2, "heads": 2, "kv_heads": 2, "ffn": 2}


def layout_from(config):
    return discover(config, specs(class_shapes(config)))


def minimal(family, architecture, **settings):
    """A config that stores these keys and no others, as the first releases wrote them."""
    config = {"model_type": family, "architectures": [architecture], "initializer_range": 0.5, **settings}
    return config, layout_from(config)


def changed(before, after):
    """Keys that differ, with their new values."""
    return {k: after.get(k) for k in {**before, **after} if before.get(k, "absent") != after.get(k, "absent")}


def test_only_stored_keys_change_and_the_source_stays():
    config, layout = minimal(
        "llama", "LlamaForCausalLM", **SIZES, num_key_value_heads=2, intermediate_size=24, my_key={"a": [1]}
    )
    before = copy.deepcopy(config)
    grown = grow_config(layout, DOUBLE, [0, 1, 2, 0, 1, 2], untie=False, dtype=None)
    assert config == before
    assert changed(config, grown) == {
        "hidden_size": 32,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": 6,
    }
    grown["my_key"]["a"].append(2)
    assert config == before


@pytest.mark.parametrize("hidden_key", ["n_embd", "hidden_size"])
def test_gpt2_keys_grow_as_they_are_stored(hidden_key):
    config, layout = minimal(
        "gpt2", "GPT2LMHeadModel", **{hidden_key: 16}, n_head=4, n_layer=1, vocab_size=11, n_positions=8
    )
    grown = grow_config(layout, {**DOUBLE, "hidden": 2}, [0], untie=False, dtype=None)
    assert changed(config, grown) == {hidden_key: 32, "n_head": 8, "tie_word_embeddings": True}
    assert grow_config(layout, DOUBLE, [0], untie=True, dtype=None)["tie_word_embeddings"] is False


def test_null_ffn_is_written_only_where_its_ratio_differs():
    settings_ = {"n_embd": 16, "n_head": 4, "n_layer": 1, "vocab_size": 11, "n_positions": 8, "n_inner": None}
    _, layout = minimal("gpt2", "GPT2LMHeadModel", **settings_)
    assert grow_config(layout, DOUBLE, [0], untie=False, dtype=None)["n_inner"] is None
    assert grow_config(layout, {"ffn": 3}, [0], untie=False, dtype=None)["n_inner"] == 192
    assert grow_config(layout, {**DOUBLE, "ffn": 1}, [0], untie=False, dtype=None)["n_inner"] == 64


def test_head_dim_is_pinned_where_the_class_would_derive_another():
    _, layout = minimal("llama", "LlamaForCausalLM", **SIZES, intermediate_size=24)
    assert "head_dim" not in grow_config(layout, DOUBLE, [0], untie=False, dtype=None)
    grown = grow_config(layout, {"hidden": 2}, [0], untie=False, dtype=None)
    assert grown["head_dim"] == 4 and grown["num_attention_heads"] == 4
    # Qwen3's default of 128 is no function of the widths: it stays, written or not.
    _, layout = minimal("qwen3", "Qwen3ForCausalLM", **SIZES, num_key_value_heads=2, intermediate_size=24)
    assert layout.sizes["head_dim"] == 128
    assert "head_dim" not in grow_config(layout, DOUBLE, [0], untie=False, dtype=None)


def test_absent_kv_heads_follow_the_heads_or_are_written():
    _, layout = minimal("llama", "LlamaForCausalLM", **SIZES, intermediate_size=24)
    assert "num_key_value_heads" not in grow_config(layout, DOUBLE, [0], untie=False, dtype=None)
    grown = grow_config(layout, {**DOUBLE, "kv_heads": 1}, [0], untie=False, dtype=None)
    assert (grown["num_attention_heads"], grown["num_key_value_heads"]) == (8, 4)


def test_single_kv_head_stays():
    config = stored_config("gemma", "GemmaForCausalLM", **{**QWEN, "num_key_value_heads": 1})
    grown = grow_config(layout_from(config), {**DOUBLE, "kv_heads": 1}, [0, 1, 2], untie=False, dtype=None)
    assert (grown["num_attention_heads"], grown["num_key_value_heads"], grown["head_dim"]) == (8, 1, 4)


def test_heads_apart_from_hidden_need_a_head_dim():
    config = stored_config("gpt_neox", "GPTNeoXForCausalLM", **SIZES, intermediate_size=24)
    with pytest.raises(GrowthError, match="grow hidden and heads by the same ratio"):
        grow_config(layout_from(config), {"hidden": 2}, [0], untie=False, dtype=None)


@pytest.mark.parametrize("keys", [["dtype"], ["torch_dtype"], ["dtype", "torch_dtype"], []])
def test_dtype(keys):
    _, layout = minimal("bert", "BertForMaskedLM", **SIZES, intermediate_size=24, **dict.fromkeys(keys, "float32"))
    grown = grow_config(layout, {}, [0, 1, 2], untie=False, dtype="bfloat16")
    assert {k: v for k, v in grown.items() if k.endswith("dtype")} == dict.fromkeys(keys or ["dtype"], "bfloat16")
    kept = grow_config(layout, {}, [0, 1, 2], untie=False, dtype=None)
    assert {k: v for k, v in kept.items() if k.endswith("dtype")} == dict.fromkeys(keys, "float32")


def test_untied_config_builds_the_parameters_of_the_ties():
    for family, architecture in (
        ("bert", "BertForMaskedLM"),
        ("llama", "LlamaForCausalLM"),
        ("gpt_neox", "GPTNeoXForCausalLM"),
    ):
        config = stored_config(
            family, architecture, **SIZES, intermediate_size=24, tie_word_embeddings=True, pad_token_id=0
        )
        layout = layout_from(config)
        untied = class_shapes(grow_config(layout, {}, [0, 1, 2], untie=True, dtype=None))
        names = {name.replace("embed_out", "lm_head") for name in layout.ties}
        assert names == untied.keys() - class_shapes(config).keys()


@settings(max_examples=20, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["full_attention", "sliding_attention"]), min_size=1, max_size=5),
    picks=st.lists(st.integers(0, 99), min_size=1, max_size=10),
    count=st.integers(0, 5),
    listed=st.booleans(),
    used=st.booleans(),
)
@example(["full_attention"] * 2, [0, 1, 0, 1], 1, False, True)  # full, sliding, full, sliding: no count says this
@example(["full_attention"] * 2, [0, 0, 1, 1], 1, False, True)
@example(["full_attention"] * 2, [0, 1, 0, 1], 2, False, False)
def test_kinds_of_layers_follow_the_layers(kinds, picks, count, listed, used):
    index = [pick % len(kinds) for pick in picks]
    settings_ = {
        **QWEN,
        "num_hidden_layers": len(kinds),
        "max_window_layers": count,
        "use_sliding_window": used,
        "sliding_window": 8,
    }
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], **settings_}
    if listed:
        config["layer_types"] = kinds
    layout = layout_from(config)
    grown = grow_config(layout, {}, index, untie=False, dtype=None)

    def read(data):
        data = json.loads(json.dumps(data))
        return AutoConfig.for_model(data.pop("model_type"), **data).layer_types

    assert read(grown) == [read(config)[source] for source in index]
    # A later switch of `layer_types` to null must not change what the count says, where it can say it.
    below = [source < count for source in index]
    if below == sorted(below, reverse=True):
        assert grown["max_window_layers"] == sum(below)
