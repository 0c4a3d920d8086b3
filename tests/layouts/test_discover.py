"""Layouts of every family against the classes themselves, and the names that files bear."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from growkernels.layouts import ModelLayout, discover, grow_config
from growkernels.layouts.families import FAMILIES as ROWS
from growkernels.plans import TensorSpec
from tests.families import FAMILIES, VARIANTS, make_model, make_variant, read_folder, variants
from tests.layouts.support import class_shapes, predicted_shapes, specs, stored_config

#: Different primes, so that every shape tells which symbols made it.
RATIOS = {"hidden": 6, "heads": 6, "kv_heads": 3, "ffn": 5, "vocab": 7}
#: Families whose head_dim follows from hidden and heads.
DERIVED = {"gpt2", "gpt_neox", "bert"}


def layout_of(family: str, variant: str, folder) -> ModelLayout:
    _, model = make_variant(family, variant)
    model.save_pretrained(folder)
    return discover(*read_folder(folder))


def check_against_class(layout: ModelLayout, ratios: dict[str, int]) -> None:
    """The class, built from the grown config, has exactly the shapes that ratios and axes predict."""
    grown = grow_config(layout, ratios, range(layout.num_layers), untie=False, dtype=None)
    assert class_shapes(grown) == predicted_shapes(layout, ratios)


@pytest.mark.parametrize(("family", "variant"), variants())
def test_every_variant_matches_its_class(family, variant, tmp_path):
    layout = layout_of(family, variant, tmp_path)
    for turned in (("hidden", "heads"), ("hidden", "heads", "kv_heads"), ("ffn",), ("vocab",)):
        check_against_class(layout, dict.fromkeys(turned, 3))
    if family not in DERIVED:
        check_against_class(layout, {"hidden": 3})
    check_against_class(layout, RATIOS)


@pytest.mark.parametrize("architecture", [(family, name) for family in FAMILIES for name in ROWS[family].architectures])
def test_every_architecture_of_the_table(architecture, tmp_path):
    family, name = architecture
    _, model = make_model(family, architecture=name)
    model.save_pretrained(tmp_path)
    layout = discover(*read_folder(tmp_path))
    assert {tensor.parameter for tensor in layout.tensors.values()} == {name for name, _ in model.named_parameters()}
    assert not layout.dropped and not layout.duplicates
    check_against_class(layout, RATIOS)


@settings(max_examples=25, deadline=None)
@given(
    family=st.sampled_from(["llama", "qwen3", "gemma"]),
    groups=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    head_dim=st.sampled_from([2, 4, 6, 10]),
    width=st.integers(1, 4),
    ffn=st.integers(1, 50),
    vocab=st.integers(4, 60),
    layers=st.integers(1, 4),
    tied=st.booleans(),
    bias=st.booleans(),
    ratio=st.integers(1, 4),
    ffn_ratio=st.integers(1, 4),
)
@example("llama", 1, 1, 2, 1, 2, 4, 1, True, True, 2, 3)  # every size collides with another
@example("gemma", 3, 1, 10, 2, 6, 6, 2, True, False, 3, 1)  # MQA, ffn and hidden and vocab alike
def test_any_config_of_grouped_query_families(
    family, groups, kv_heads, head_dim, width, ffn, vocab, layers, tied, bias, ratio, ffn_ratio
):
    heads = groups * kv_heads
    config = stored_config(
        family,
        {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM", "gemma": "GemmaForCausalLM"}[family],
        hidden_size=heads * width,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=ffn,
        vocab_size=vocab,
        num_hidden_layers=layers,
        tie_word_embeddings=tied,
        attention_bias=bias,
        pad_token_id=None,
    )
    layout = discover(config, specs(class_shapes(config)))
    assert layout.sizes == {
        "hidden": heads * width,
        "heads": heads,
        "kv_heads": kv_heads,
        "ffn": ffn,
        "vocab": vocab,
        "head_dim": head_dim,
    }
    assert layout.num_layers == layers and layout.tied_head == tied
    kv_ratio = 1 if kv_heads == 1 else ratio
    check_against_class(layout, {"hidden": ratio, "heads": ratio, "kv_heads": kv_ratio, "ffn": ffn_ratio})


@settings(max_examples=25, deadline=None)
@given(
    family=st.sampled_from(sorted(DERIVED)),
    heads=st.integers(1, 4),
    head_dim=st.sampled_from([2, 4, 6]),
    ffn=st.one_of(st.none(), st.integers(1, 60)),
    vocab=st.integers(4, 60),
    layers=st.integers(1, 3),
    tied=st.booleans(),
    ratio=st.integers(1, 4),
    ffn_ratio=st.integers(1, 4),
)
@example("gpt2", 2, 4, None, 8, 1, True, 1, 3)  # ffn grows alone where its knob is null
@example("gpt2", 1, 2, 2, 4, 1, True, 2, 2)
@example("bert", 1, 4, 4, 4, 1, True, 3, 2)
def test_any_config_of_families_with_derived_heads(family, heads, head_dim, ffn, vocab, layers, tied, ratio, ffn_ratio):
    hidden = heads * head_dim
    if ffn is None and family != "gpt2":
        ffn = 4 * hidden
    names = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")
    if family == "gpt2":
        names = ("n_embd", "n_head", "n_inner", "n_layer")
    knobs = dict(zip(names, (hidden, heads, ffn, layers), strict=True))
    architecture = FAMILIES[family]["architecture"]
    config = stored_config(family, architecture, vocab_size=vocab, tie_word_embeddings=tied, pad_token_id=0, **knobs)
    layout = discover(config, specs(class_shapes(config)))
    assert layout.sizes["ffn"] == ffn or (ffn is None and layout.sizes["ffn"] == 4 * hidden)
    assert layout.tied_head == tied
    check_against_class(layout, {"hidden": ratio, "heads": ratio, "ffn": ffn_ratio})


@pytest.mark.parametrize("family", FAMILIES)
def test_input_axis_is_what_products_sum_over(family, tmp_path):
    """Feeding each Linear and Conv1D shows which axis its input has."""
    _, model = make_variant(family, "plain")
    model.save_pretrained(tmp_path)
    layout = discover(*read_folder(tmp_path))
    seen: dict[str, int] = {}

    def watch(name):
        def hook(module, inputs, output):
            weight = module.weight
            product = [weight.T, weight]
            bias = 0 if module.bias is None else module.bias
            for axis, matrix in enumerate((product[1], product[0])):
                if matrix.shape[0] == inputs[0].shape[-1] and torch.allclose(
                    inputs[0] @ matrix + bias, output, atol=1e-5
                ):
                    seen[f"{name}.weight"] = axis

        return hook

    for name, module in model.named_modules():
        if type(module).__name__ in ("Linear", "Conv1D"):
            module.register_forward_hook(watch(name))
    with torch.no_grad():
        model(torch.arange(5).reshape(1, 5))
    assert {t.parameter: t.input_axis for t in layout.tensors.values() if t.input_axis is not None} == {
        name: axis for name, axis in seen.items() if name in {t.parameter for t in layout.tensors.values()}
    }


def test_kinds():
    config = stored_config("gpt2", "GPT2LMHeadModel", n_embd=8, n_head=2, n_layer=1, n_positions=8, vocab_size=8)
    layout = discover(config, specs(class_shapes(config)))
    kinds = {tensor.group.removeprefix("transformer."): tensor.kind for tensor in layout.tensors.values()}
    assert kinds["wte.weight"] == "embedding" and kinds["wpe.weight"] == "position"
    assert kinds["h.{}.ln_1.weight"] == kinds["h.{}.ln_1.bias"] == kinds["ln_f.bias"] == "norm"
    assert kinds["h.{}.attn.c_attn.weight"] == "linear" and kinds["h.{}.attn.c_attn.bias"] == "bias"


def test_fused_parts():
    for family, architecture, suffix, expected in (
        ("gpt2", "GPT2LMHeadModel", "c_attn.weight", "heads | heads | heads"),
        ("gpt_neox", "GPTNeoXForCausalLM", "query_key_value.bias", "heads"),
    ):
        config = stored_config(family, architecture, hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
        layout = discover(config, specs(class_shapes(config)))
        tensor = next(t for t in layout.tensors.values() if t.name.endswith(suffix))
        assert str(tensor.axes[-1]) == expected and tensor.axes[-1].size == 48


def test_bert_file_of_old_names(tmp_path):
    """As the first BERT files: gamma and beta, a stored decoder, a buffer, and more heads than the config's class has."""
    _, model = make_variant("bert", "pretraining")
    model.save_pretrained(tmp_path)
    config, tensors = read_folder(tmp_path)
    config["architectures"] = ["BertForMaskedLM"]
    old = {}
    for name, spec in tensors.items():
        old[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = spec
    old["bert.embeddings.position_ids"] = TensorSpec((1, 64), "int64")
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    layout = discover(config, old)
    assert list(layout.tensors) == list(old)[: len(tensors)]
    assert layout.duplicates == {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    assert set(layout.dropped) == {"bert.embeddings.position_ids", "cls.predictions.decoder.weight"}
    assert layout.tied_head and layout.head_name == "cls.predictions.decoder.weight"
    assert set(layout.head_norm) == {f"cls.predictions.transform.LayerNorm.{n}" for n in ("gamma", "beta")}
    assert layout.ties["cls.predictions.decoder.bias"] == "cls.predictions.bias"
    norm = layout.tensors["bert.encoder.layer.1.output.LayerNorm.gamma"]
    assert (norm.parameter, norm.kind) == ("bert.encoder.layer.1.output.LayerNorm.weight", "norm")
    assert (norm.group, norm.layer) == ("bert.encoder.layer.{}.output.LayerNorm.gamma", 1)
    assert layout.tensors["cls.seq_relationship.weight"].kind == "linear"


@pytest.mark.parametrize(("family", "architecture"), [("gpt2", "GPT2LMHeadModel"), ("bert", "BertForMaskedLM")])
def test_files_without_prefix(family, architecture, tmp_path):
    base = {"gpt2": "GPT2Model", "bert": "BertModel"}[family]
    _, model = make_model(family, architecture=base)
    model.save_pretrained(tmp_path)
    config, tensors = read_folder(tmp_path)
    plain = discover(config, tensors)
    assert plain.head_name is None and plain.head_norm == () and not plain.tied_head
    if family == "gpt2":
        config["architectures"] = [architecture]
        tensors["h.0.attn.bias"] = TensorSpec((1, 1, 64, 64), "uint8")
        tensors["h.1.attn.masked_bias"] = TensorSpec((), "float32")
        layout = discover(config, tensors)
        assert layout.tensors["h.1.attn.c_attn.weight"].parameter == "transformer.h.1.attn.c_attn.weight"
        assert layout.tensors["h.1.attn.c_attn.weight"].group == "h.{}.attn.c_attn.weight"
        assert layout.tied_head and layout.head_norm == ("ln_f.bias", "ln_f.weight")
        assert set(layout.dropped) == {"h.0.attn.bias", "h.1.attn.masked_bias"}


@pytest.mark.parametrize(("family", "stored"), [("gpt_neox", "embed_out.weight"), ("gpt_neox", "lm_head.weight")])
def test_head_keeps_the_name_of_the_file(family, stored, tmp_path):
    _, model = make_variant(family, "plain")
    model.save_pretrained(tmp_path)
    config, tensors = read_folder(tmp_path)
    tensors[stored] = tensors.pop("embed_out.weight")
    layout = discover(config, tensors)
    assert layout.head_name == stored and layout.tensors[stored].kind == "head"
    assert layout.tensors[stored].parameter == "lm_head.weight"


def test_tied_tensor_under_the_name_of_the_head(tmp_path):
    """Some writers keep the first of two shared names in the alphabet."""
    _, model = make_variant("llama", "tied")
    model.save_pretrained(tmp_path)
    config, tensors = read_folder(tmp_path)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    layout = discover(config, tensors)
    assert layout.tied_head and layout.duplicates == {}
    assert layout.tensors["lm_head.weight"].kind == "embedding" and layout.tensors["lm_head.weight"].input_axis is None


def test_rotary_buffers_of_old_files_are_dropped(tmp_path):
    _, model = make_variant("llama", "plain")
    model.save_pretrained(tmp_path)
    config, tensors = read_folder(tmp_path)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = TensorSpec((4,), "float32")
    assert "buffer" in discover(config, tensors).dropped["model.layers.0.self_attn.rotary_emb.inv_freq"]


def test_gemma_says_how_it_stores_norms_and_embeddings(tmp_path):
    layout = layout_of("gemma", "mqa", tmp_path)
    assert layout.norm_offset == 1.0 and layout.embedding_scaled and layout.sizes["kv_heads"] == 1
    assert layout.tied_head and layout.head_norm == ("model.norm.weight",)


def test_depth_warning_only_where_the_layer_number_counts(tmp_path):
    for scaled in (False, True):
        _, model = make_model("gpt2", scale_attn_by_inverse_layer_idx=scaled)
        model.save_pretrained(tmp_path)
        assert bool(discover(*read_folder(tmp_path)).depth_warnings) is scaled


def test_big_models_take_seconds_at_most():
    config = stored_config(
        "llama",
        "LlamaForCausalLM",
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    tensors = specs(class_shapes(config), "bfloat16")
    start = time.perf_counter()
    layout = discover(config, tensors)
    assert time.perf_counter() - start < 10
    assert len(layout.tensors) == 80 * 9 + 3


def test_families_with_tiny_models_are_in_the_table():
    assert set(ROWS) >= set(FAMILIES) == set(VARIANTS)
