"""What cannot be grown is refused with the reason and the remedy."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import MarianConfig, MarianMTModel

import growkernels
from growkernels.errors import GrowthError
from growkernels.layouts import discover
from growkernels.plans import TensorSpec
from tests.layouts.support import class_shapes, specs, stored_config

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 11}
CLASSES = {
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertForMaskedLM",
}


def sound(family="llama"):
    sizes = {**SIZES, "pad_token_id": 0}
    if family == "gpt2":
        sizes.pop("intermediate_size")
    config = stored_config(family, CLASSES[family], **sizes)
    return config, specs(class_shapes(config), "bfloat16")


SOUND = {family: sound(family) for family in CLASSES}
KEYS = sorted({key for config, _ in SOUND.values() for key in config})
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(), st.text(max_size=3), st.sampled_from([[], {}, [[]]])
)


def test_keys_of_text_models_that_are_none():
    """transformers takes whatever a file calls decoder for the config of the text model."""
    config, tensors = SOUND["llama"]
    for key in ("decoder", "text_config"):
        for value in ([0.5], [], "x", {}, {"vocab_size": 5}, None, 5):
            try:
                found = discover({**config, key: value}, tensors)
            except GrowthError:
                continue
            assert found.sizes == discover(config, tensors).sizes


def refused(config, tensors, *words):
    with pytest.raises(GrowthError) as caught:
        discover(config, tensors)
    message = str(caught.value)
    for word in words:
        assert re.search(word, message), message
    return message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "mine", ["'mine' is not supported", "llama, qwen3, gemma, gpt2, gpt_neox, bert"]),
        ("model_type", None, ["names no model_type", "llama"]),
        ("quantization_config", {"quant_method": "gptq"}, ["quantized", "before quantization"]),
        ("peft_type", "LORA", ["adapter", "merge_and_unload"]),
        ("pruned_heads", {"0": [1]}, ["pruned_heads", "differ in width"]),
        ("is_encoder_decoder", True, ["is_encoder_decoder", "encoder of this model"]),
        ("architectures", ["LlamaForVision"], ["'LlamaForVision' is not supported", "LlamaForCausalLM"]),
        ("architectures", None, ["names no architecture", "LlamaForCausalLM"]),
        (
            "num_hidden_layers",
            3,
            ["is 3 in config.json", r"but 2 \(0 to 1\) in the checkpoint", "incomplete", "same checkpoint"],
        ),
        ("num_hidden_layers", 1, ["is 1 in config.json", r"but 2 \(0 to 1\) in"]),
        ("num_hidden_layers", 10**12, ["is 1000000000000 in config.json, but 2"]),
        ("model_type", ["llama"], ["not supported"]),
        ("num_attention_heads", 3, ["not a multiple of the number of attention", "Fix"]),
        ("num_attention_heads", 0, ["cannot read this llama config", "Fix"]),
        ("num_key_value_heads", 0, ["kv_heads is 0", "positive whole number"]),
        ("vocab_size", -11, ["vocab is -11", "positive whole number"]),
        ("hidden_size", "wide", ["hidden_size", "Fix"]),
        (
            "intermediate_size",
            25,
            [r"mlp\.\w+_proj\.weight has shape \[\d+, \d+\]", r"config.json gives \[\d+, \d+\]", "same checkpoint"],
        ),
        ("vocab_size", 12, [r"has shape \[11, 16\]", r"gives \[12, 16\]"]),
        ("attention_bias", True, [r"self_attn\.\w_proj\.bias", "missing"]),
    ],
)
def test_configs(key, value, words):
    config, tensors = sound()
    refused({**config, key: value}, tensors, *words)


@pytest.mark.parametrize(
    ("family", "key", "value", "words"),
    [
        ("gpt2", "add_cross_attention", True, ["add_cross_attention", "another model's stream"]),
        ("bert", "add_cross_attention", True, ["add_cross_attention"]),
        ("bert", "position_embedding_type", "relative_key", ["relative positions"]),
        ("gpt2", "architectures", ["GPT2DoubleHeadsModel"], ["GPT2DoubleHeadsModel", "GPT2LMHeadModel"]),
    ],
)
def test_options_of_a_family(family, key, value, words):
    config, tensors = sound(family)
    refused({**config, key: value}, tensors, *words)


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", ["nn", "Tensor", [], [[]], float("nan"), 2])
def test_a_dtype_that_is_none(family, key, value):
    config, tensors = sound(family)
    config.pop("dtype", None)
    refused({**config, key: value}, tensors, "dtype to", "dtype, such as bfloat16")


def test_harmless_values_pass():
    config, tensors = sound("bert")
    harmless = {
        "add_cross_attention": False,
        "position_embedding_type": "absolute",
        "pruned_heads": {},
        "auto_map": None,
    }
    assert discover({**config, **harmless}, tensors).tied_head


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float8_e4m3fn", "complex64", "bool"])
def test_dtypes(dtype):
    config, tensors = sound()
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = TensorSpec(tensors[name].shape, dtype)
    refused(config, tensors, re.escape(name), dtype, "bfloat16", "before quantization")


def test_remote_code_is_refused_unless_the_class_is_one_of_transformers():
    config, tensors = sound()
    config = {**config, "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}
    (note,) = discover(config, tensors).notes
    assert "never run" in note and "LlamaForCausalLM of transformers" in note
    for change in ({"architectures": ["MineForCausalLM"]}, {"model_type": "mine"}):
        refused({**config, **change}, tensors, "remote code is never run", "convert the checkpoint", "declare_layout")


def test_missing_head_names_the_tie():
    config, tensors = sound()
    del tensors["lm_head.weight"]
    refused(config, tensors, r"lm_head\.weight", "missing", "tie_word_embeddings to true")


def test_missing_tensors_are_named():
    config, tensors = sound()
    del tensors["model.layers.1.mlp.up_proj.weight"]
    refused(config, tensors, r"model\.layers\.1\.mlp\.up_proj\.weight", "missing", "incomplete")


def test_many_missing_tensors_are_counted():
    config, tensors = sound()
    kept = {name: spec for name, spec in tensors.items() if "layers.1." not in name or "down" in name}
    refused(config, kept, r"model\.layers\.1\.\S+ and 5 more tensors", "missing", "incomplete")


def test_missing_tensor_of_the_configs_class_is_not_hidden_by_a_superset():
    """A pooler that BertModel needs is missing from a file of BertForPreTraining's other tensors."""
    config, tensors = sound("bert")
    refused({**config, "architectures": ["BertModel"]}, tensors, r"pooler\.dense\.weight", "missing")


def test_unknown_tensors():
    config, tensors = sound()
    tensors["model.vision.weight"] = TensorSpec((4, 4), "bfloat16")
    refused(config, tensors, r"model\.vision\.weight", "unknown to LlamaForCausalLM")


def test_adapter_tensors():
    config, tensors = sound()
    tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"] = TensorSpec((4, 16), "bfloat16")
    refused(config, tensors, "lora_A", "merge_and_unload")


def test_one_parameter_under_two_names():
    config, tensors = sound()
    tensors["norm.weight"] = tensors["model.norm.weight"]
    refused(config, tensors, r"model\.norm\.weight and norm\.weight both hold", "remove one")


def test_empty_file():
    config, _ = sound()
    refused(config, {}, "is 2 in config.json, but 0 in the checkpoint")


@settings(max_examples=60, deadline=None)
@given(family=st.sampled_from(sorted(CLASSES)), key=st.sampled_from(KEYS), junk=JUNK)
@example("bert", "architectures", 1)
@example("llama", "tie_word_embeddings", True)
def test_junk_in_a_config_is_refused_or_harmless(family, key, junk):
    config, tensors = SOUND[family]
    mangled = {**config, key: junk}
    try:
        layout = discover(mangled, tensors)
    except GrowthError:
        return
    assert layout.tensors.keys() | layout.duplicates.keys() == tensors.keys()


def test_what_most_tensors_are_unknown_by_is_not_to_be_removed() -> None:
    config, tensors = SOUND["llama"]
    for names, words in (
        (list(tensors), "config.json names another class than they were saved from, or a wrapper"),
        (list(tensors)[:1], "name the class that has them in architectures, or remove them if nothing"),
    ):
        renamed = {f"x.{name}" if name in names else name: spec for name, spec in tensors.items()}
        with pytest.raises(GrowthError, match=words):
            discover(config, renamed)


def test_counters_and_empty_tensors_are_named_as_such() -> None:
    config, tensors = SOUND["llama"]
    with pytest.raises(GrowthError, match=r"model\.step is a counter, one int64, .* remove it from the checkpoint"):
        discover(config, {**tensors, "model.step": TensorSpec((), "int64")})
    with pytest.raises(GrowthError, match="start from the checkpoint before quantization"):
        discover(config, {**tensors, "model.step": TensorSpec((4, 4), "int8")})
    with pytest.raises(GrowthError, match=r"is empty, of shape \[0\] .* DeepSpeed ZeRO-3"):
        discover(config, {name: TensorSpec((0,), spec.dtype) for name, spec in tensors.items()})


def test_what_a_class_computes_and_never_stores_stops_width_alone(tmp_path):
    config = MarianConfig(
        d_model=24,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=36,
        decoder_ffn_dim=36,
        vocab_size=50,
        pad_token_id=0,
        decoder_start_token_id=0,
        max_position_embeddings=40,
    )
    model = MarianMTModel(config)
    model.save_pretrained(tmp_path / "source")
    assert "model.encoder.embed_positions.weight" not in load_file(tmp_path / "source" / "model.safetensors")
    words = r"computes model\.decoder\.embed_positions\.weight from the width and never stores it"
    with pytest.raises(GrowthError, match=words):
        growkernels.plan(tmp_path / "source", width=2)
    with pytest.raises(GrowthError, match=words):
        growkernels.grow_model(model, width=2)
    growkernels.grow_checkpoint(tmp_path / "source", tmp_path / "deep", depth=2, no_verify=True)
    _, found = MarianMTModel.from_pretrained(tmp_path / "deep", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
