"""Types that the table does not know: adopted if a tiny twin confirms a guess, refused if none does."""

from __future__ import annotations

import pytest

from growkernels.errors import GrowthError
from growkernels.layouts import discover, families
from tests.layouts.support import class_shapes, specs, stored_config

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "head_dim": 8,
}


OWN = {
    "lfm2": {"block_auto_adjust_ff_dim": False},
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "q_lora_rank": 12,
        "kv_lora_rank": 10,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
}


@pytest.fixture
def unknown(monkeypatch):
    """Takes a type out of the table and gives its config and tensors."""

    def forget(model_type, architecture, **settings):
        monkeypatch.delitem(families.FAMILIES, model_type)
        config = stored_config(model_type, architecture, **{**SIZES, **settings})
        return config, specs(class_shapes(config))

    before = dict(families.FAMILIES)
    yield forget
    families.FAMILIES.clear()
    families.FAMILIES.update(before)


@pytest.mark.parametrize(
    ("model_type", "architecture", "offset", "scaled"),
    [
        ("mistral", "MistralForCausalLM", 0.0, False),
        ("gemma2", "Gemma2ForCausalLM", 1.0, True),
        ("qwen3_moe", "Qwen3MoeForCausalLM", 0.0, False),
        # Parts that a row of another type names.
        ("phi3", "Phi3ForCausalLM", 0.0, False),
        ("lfm2", "Lfm2ForCausalLM", 0.0, False),
        # The first layer alone is dense: the stack again cannot be said, and each layer twice can.
        ("deepseek_v3", "DeepseekV3ForCausalLM", 0.0, False),
    ],
)
def test_a_twin_confirms_how_norms_and_embeddings_are_stored(unknown, model_type, architecture, offset, scaled):
    known = families.FAMILIES[model_type]
    experts = {"num_experts": 4, "moe_intermediate_size": 24, "num_experts_per_tok": 2}
    config, tensors = unknown(model_type, architecture, **experts, **OWN.get(model_type, {}))
    layout = discover(config, tensors)
    assert (layout.norm_offset, layout.embedding_scaled) == (offset, scaled)
    assert families.FAMILIES[model_type].derived_row
    families.FAMILIES[model_type] = known
    assert layout.tensors == discover(config, tensors).tensors


@pytest.mark.parametrize(
    ("model_type", "architecture", "words"),
    [
        # Halves that shapes do not show, and a layer that depends on its number.
        (
            "moshi",
            "MoshiForCausalLM",
            r"first differs from it at decoder|first differs from it at model\.layers\.0\.mlp",
        ),
        ("diffllama", "DiffLlamaForCausalLM", r"first differs from it at model\.layers\.0\.self_attn"),
    ],
)
def test_what_no_guess_fits_is_refused_with_the_place(unknown, model_type, architecture, words):
    config, tensors = unknown(model_type, architecture, ffn_dim=48)
    with pytest.raises(GrowthError, match=words):
        discover(config, tensors)
    assert model_type not in families.FAMILIES
