"""The table of families: what shapes and module classes cannot tell. Adding a family is adding a row, if it needs one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedConfig

from growkernels.layouts.base import Ratio, Symbol
from growkernels.layouts.family import HEADS, Declared, Family, Parts, Refusal
from growkernels.layouts.keys import words
from growkernels.layouts.knobs import scaled

#: Parts of what a tensor puts out, by ending, in every family that does not say otherwise.
OUTPUTS: Mapping[str, Declared] = {
    "gate_up_proj": 2,
    "shared_mlp.input_linear": 2,
    "block_sparse_moe.input_linear": 2,
    "mlp.Wi": 2,
}

_QKV: Parts = (("heads", 1), ("kv_heads", 1), ("kv_heads", 1))
_CROSS_ATTENTION = Refusal(
    "add_cross_attention", (False, None), "cross-attention reads another model's stream, whose width is not known here"
)
_ABSOLUTE = Refusal(
    "position_embedding_type",
    ("absolute", None),
    "transformers no longer computes relative positions, so that the model would run differently",
)
_SINUSOID = "sinusoids of the hidden size are computed by the class, and differ in a wider model"
_ALIBI = "the slopes of ALiBi depend on the number of heads, and differ in a wider model"


def _tasks(stem: str, *tasks: str) -> tuple[str, ...]:
    return tuple(stem + task for task in tasks)


_DECODER_TASKS = ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def _first(config: PreTrainedConfig, *names: str) -> int:
    return next(getattr(config, name) for name in names if getattr(config, name, None) is not None)


def _equal(symbol: Symbol, key: str, times: str) -> Callable[[PreTrainedConfig], Parts]:
    """As many parts as one key says, each of the size that another says."""
    return lambda config: ((symbol, getattr(config, key)),) * getattr(config, times)


def _mamba2(config: PreTrainedConfig) -> tuple[int, int, int]:
    heads = _first(config, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads")
    inner = heads * _first(config, "mamba_d_head", "mamba_head_dim", "mamba_headdim", "head_dim")
    groups = _first(config, "mamba_n_groups", "mamba_ngroups", "n_groups")
    return heads, inner, groups * _first(config, "mamba_d_state", "ssm_state_size", "state_size")


def _mamba2_projection(config: PreTrainedConfig) -> Parts:
    heads, inner, states = _mamba2(config)
    return ("inner", inner), ("inner", inner), ("groups", states), ("groups", states), ("inner", heads)


def _mamba2_convolution(config: PreTrainedConfig) -> Parts:
    _, inner, states = _mamba2(config)
    return ("inner", inner), ("groups", states), ("groups", states)


def _delta(config: PreTrainedConfig) -> Parts:
    """Queries, keys and values of linear attention by the delta rule."""
    keys = config.linear_num_key_heads * config.linear_key_head_dim
    values = config.linear_num_value_heads * config.linear_value_head_dim
    return ("inner", keys), ("inner", keys), ("inner", values)


def _falcon(config: PreTrainedConfig) -> Parts:
    """Queries, then one key and one value; heads of other kinds stand side by side and grow whole."""
    if config.multi_query and not config.new_decoder_architecture:
        return ("heads", config.hidden_size), ("fixed", 2 * config.head_dim)
    groups = config.num_kv_heads if config.new_decoder_architecture else config.num_attention_heads
    heads = config.num_attention_heads + 2 * groups
    return (("heads", heads * config.head_dim),)


def _bigcode(config: PreTrainedConfig) -> Parts:
    head = config.hidden_size // config.num_attention_heads
    if config.multi_query:
        return ("heads", config.hidden_size), ("fixed", 2 * head)
    return (("heads", 3 * config.hidden_size),)


def _lfm2_ffn(config: PreTrainedConfig, ratios: Mapping[Symbol, Ratio], layers: int) -> dict[str, Any]:
    """The ffn size itself: the class would round up another multiple of what the config says."""
    if not config.block_auto_adjust_ff_dim or ratios.get("ffn", 1) == 1:
        return {}
    size = int(2 * config.intermediate_size / 3)
    if config.block_ffn_dim_multiplier is not None:
        size = int(config.block_ffn_dim_multiplier * size)
    size = -(-size // config.block_multiple_of) * config.block_multiple_of
    return {"intermediate_size": scaled(size, ratios["ffn"]), "block_auto_adjust_ff_dim": False}


def _unequal_chunks(config: PreTrainedConfig) -> str:
    keys, _, values = (size for _, size in _delta(config))
    cut = "this file cuts the convolution of queries, keys and values into equal thirds, and not where they begin"
    return "" if keys == values else cut


def _zaya_channels(config: PreTrainedConfig) -> Parts:
    """The first half of the heads takes values of this token, the second those of the one before."""
    queries = config.num_attention_heads * config.head_dim // 2
    keys = config.num_key_value_heads * config.head_dim // 2
    return ("heads", queries), ("heads", queries), ("kv_heads", keys), ("kv_heads", keys)


def _per_layer(config: PreTrainedConfig) -> Parts:
    """A block for each layer."""
    return (("layers", config.num_hidden_layers * config.hidden_size_per_layer_input),)


_PER_LAYER: dict[str, Declared] = {"embed_tokens_per_layer": _per_layer, "per_layer_model_projection": _per_layer}
_MAMBA2: dict[str, Declared] = {
    "mamba.in_proj": _mamba2_projection,
    "mamba.conv1d": _mamba2_convolution,
    "mixer.in_proj": _mamba2_projection,
    "mixer.conv1d": _mamba2_convolution,
}
_DELTA: dict[str, Declared] = {"linear_attn.conv1d": _delta, "linear_attn.in_proj_qkv": _delta}
#: Fused parts of some types that others may have, too: what a type without a row is tried with.
KNOWN_PARTS: Mapping[str, Declared] = {
    **_MAMBA2,
    **_DELTA,
    "conv.in_proj": 3,
    "self_attn.qkv_proj": _QKV,
    "attn.c_attn": 3,
}
_HYPER = _equal("hidden", "hidden_size", "hc_count")
_ENCODER_DECODER: dict[str, Any] = {"layers": "decoder_layers encoder_layers", "encoder_decoder": True}
_BLT: dict[str, Symbol] = {
    "hidden_size": "hidden",
    "hidden_size_global": "hidden",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "intermediate_size": "ffn",
}
_BERT_REFUSALS = (_CROSS_ATTENTION, _ABSOLUTE)

#: Types that need no row: generic rules are enough.
PLAIN = words(
    "afmoe apertus arcee axk1 axk2  biogpt bitnet  cohere2 cohere2_moe "
    "cohere_compass_text cpmant cwm deepseek_v2 deepseek_v3 deepseek_v32 doge dots1 ernie4_5 ernie4_5_moe exaone4 "
    "exaone_moe flex_olmo fuyu git glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa got_ocr2 "
    "granite_swa granitemoe granitemoe_swa granitemoeshared hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax "
    "jais2 llama4_text  mellum mimo_v2_flash minimax minimax_m2 ministral ministral3 mistral mixtral "
    "nanochat olmo olmo2 olmo3  persimmon phimoe qwen3_moe seed_oss "
    "solar_open  xlm-roberta-xl youtu"
)

ROWS: tuple[Family, ...] = (
    Family("llama", architectures=_tasks("Llama", *_DECODER_TASKS), supersets=("LlamaForCausalLM",)),
    Family("qwen3", architectures=_tasks("Qwen3", *_DECODER_TASKS), supersets=("Qwen3ForCausalLM",)),
    Family(
        "gemma",
        architectures=_tasks("Gemma", *_DECODER_TASKS[:-1]),
        norm_offset=1.0,
        embedding_scaled=True,
        supersets=("GemmaForCausalLM",),
    ),
    Family(
        "gpt2",
        architectures=_tasks("GPT2", "LMHeadModel", *_DECODER_TASKS[1:]),
        ffn_default=4,
        outputs={"attn.c_attn": HEADS * 3},
        inputs={"attn.c_proj": HEADS},
        supersets=("GPT2LMHeadModel",),
        buffers=("attn.bias", "attn.masked_bias"),
        refusals=(_CROSS_ATTENTION,),
        depth_warnings={
            "scale_attn_by_inverse_layer_idx": "attention scores are divided by the layer's number, which changes"
        },
    ),
    Family(
        "gpt_neox",
        architectures=_tasks("GPTNeoX", *_DECODER_TASKS),
        outputs={"attention.query_key_value": (("heads", 3),)},
        inputs={"attention.dense": HEADS},
        supersets=("GPTNeoXForCausalLM",),
        buffers=("attention.bias", "attention.masked_bias"),
    ),
    Family(
        "bert",
        architectures=_tasks(
            "Bert",
            "Model",
            "ForMaskedLM",
            "ForPreTraining",
            "LMHeadModel",
            "ForSequenceClassification",
            "ForTokenClassification",
            "ForQuestionAnswering",
            "ForMultipleChoice",
            "ForNextSentencePrediction",
        ),
        head_norm="predictions.transform.LayerNorm",
        outputs={f"attention.self.{name}": HEADS for name in ("query", "key", "value")},
        inputs={"attention.output.dense": HEADS},
        supersets=("BertForPreTraining",),
        refusals=_BERT_REFUSALS,
    ),
    *(
        Family(name, refusals=_BERT_REFUSALS)
        for name in words(
            "bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta "
            "roberta-prelayernorm roformer xlm-roberta xmod"
        )
    ),
    # Classes that derive the size of a head from hidden and heads, whose features are not those of the stream.
    *(
        Family(name, outputs={"self_attn.q_proj": HEADS}, inputs={"self_attn.o_proj": HEADS})
        for name in words("qwen2 qwen2_moe granite starcoder2 cohere smollm3 olmoe")
    ),
    Family("phi", outputs={"self_attn.q_proj": HEADS}, inputs={"self_attn.dense": HEADS}),
    Family("emu3_text_model", architectures=("Emu3ForCausalLM",)),
    Family("mllama_text_model", architectures=("MllamaForCausalLM",)),
    *(Family(name, ffn_default=4) for name in ("gpt_neo", "gptj")),
    Family("gpt-sw3", ffn_default=4, outputs={"attn.c_attn": 3}),
    Family("openai-gpt", outputs={"attn.c_attn": 3}),
    Family("gpt_bigcode", ffn_default=4, outputs={"attn.c_attn": _bigcode}),
    Family("codegen", ffn_default=4, outputs={"attn.qkv_proj": 12}, inputs={"attn.out_proj": 4}),
    Family(
        "falcon",
        kv_tied=True,
        outputs={"self_attention.query_key_value": _falcon},
        width_refusal=lambda c: _ALIBI if c.alibi else "",
    ),
    Family("phi3", outputs={"self_attn.qkv_proj": _QKV}, inputs={"self_attn.o_proj": HEADS}),
    Family("phi4_multimodal", outputs={"self_attn.qkv_proj": _QKV}),
    Family(
        "diffllama",
        depth_warnings={
            "": "the weight of the second attention map of a layer depends on the layer's number, which changes: on tiny "
            "random models outputs differ by 0.2 to 0.5 of the largest one from those of the source's own layers in that order"
        },
        outputs={f"self_attn.{name}_proj": 2 for name in "qkv"},
    ),
    Family("modernbert-decoder", outputs={"attn.Wqkv": 3}),
    Family("moshi", outputs={"mlp.fc1": 2}),
    Family("helium", heads_tied=True),
    Family("gpt_oss", outputs={"experts.gate_up_proj": 1}),
    Family(
        "aria_text",
        outputs={"experts.fc1": 2},
        input_axes={"experts.fc1.weight": 1, "experts.fc2.weight": 1},
    ),
    Family(
        "jetmoe",
        outputs={"mlp.input_linear": 2, "self_attention.kv_proj": 2},
        input_axes={"input_linear.weight": 2, "output_linear.weight": 2},
    ),
    Family(
        "dbrx",
        keys={
            "attn_config.kv_n_heads": "kv_heads",
            "ffn_config.ffn_hidden_size": "ffn",
            "ffn_config.hidden_size": "hidden",
        },
        outputs={
            "norm_attn_norm.attn.Wqkv": _QKV,
            **{
                f"experts.mlp.{name}": lambda c: (("ffn", c.ffn_config.ffn_hidden_size),) * c.ffn_config.moe_num_experts
                for name in ("w1", "v1")
            },
        },
        inputs={"experts.mlp.w2": lambda c: (("ffn", c.ffn_config.ffn_hidden_size),) * c.ffn_config.moe_num_experts},
        input_axes={"experts.mlp.w1": 1, "experts.mlp.v1": 1, "experts.mlp.w2": 0},
    ),
    Family("laguna", keys={"num_attention_heads_per_layer": "heads"}),
    Family("inkling_text", keys={"swa_num_attention_heads": "heads", "swa_num_key_value_heads": "kv_heads"}),
    Family("minimax_m3_vl_text", norm_offset=1.0),
    Family("nemotron", norm_offset=1.0),
    Family("gemma2", norm_offset=1.0, embedding_scaled=True),
    Family("gemma3", norm_offset=1.0, embedding_scaled=True),
    Family("gemma3_text", norm_offset=1.0, embedding_scaled=True),
    Family("vaultgemma", norm_offset=1.0, embedding_scaled=True),
    Family(
        "recurrent_gemma",
        heads_tied=True,
        scale_dtype="bfloat16",
        norm_offset=1.0,
        embedding_scaled=True,
        keys={"lru_width": "inner"},
    ),
    Family(
        "gemma3n_text",
        head_norm="norm",
        embedding_scaled=True,
        outputs=_PER_LAYER,
        powers={"per_layer_model_projection.weight": -0.5, "modality_router.weight": -1.0},
    ),
    *(
        Family(
            name,
            head_norm="norm",
            embedding_scaled=True,
            outputs=_PER_LAYER,
            powers={"per_layer_model_projection.weight": -0.5, "router.proj.weight": -0.5},
        )
        for name in words("gemma4 gemma4_text gemma4_unified gemma4_unified_text")
    ),
    Family(
        "longcat_flash",
        keys={"q_lora_rank": "inner", "kv_lora_rank": "inner"},
        layers="num_layers",
        outputs={"kv_a_proj_with_mqa": lambda c: (("inner", c.kv_lora_rank), ("fixed", c.qk_rope_head_dim))},
    ),
    Family(
        "minicpm3",
        keys={"dim_model_base": "hidden"},
        # What a layer adds is divided by the square root of the number of layers.
        derived=lambda c, ratios, layers: {"scale_depth": c.scale_depth * (layers / c.num_hidden_layers) ** 0.5},
    ),
    Family(
        "deepseek_v4",
        keys={"o_groups": "groups"},
        heads_tied=True,
        inputs={
            name: _equal("hidden", "hidden_size", "hc_mult") for name in ("attn_hc.fn", "ffn_hc.fn", "hc_head.hc_fn")
        },
        input_axes={"attn_hc.fn": 1, "ffn_hc.fn": 1, "hc_head.hc_fn": 1},
    ),
    Family(
        "hy_v4",
        inputs={
            name: _equal("hidden", "hidden_size", "hc_mult") for name in ("attn_hc.fn", "ffn_hc.fn", "hc_head.hc_fn")
        },
        input_axes={"attn_hc.fn": 1, "ffn_hc.fn": 1, "hc_head.hc_fn": 1},
    ),
    *(
        Family(name, keys={"intermediate_size": "inner"}, outputs={"mixer.in_proj": 2})
        for name in ("mamba", "falcon_mamba")
    ),
    Family("jamba", outputs={"mamba.in_proj": 2}),
    Family("mamba2", keys={"num_heads": "inner", "n_groups": "groups"}, outputs=_MAMBA2),
    Family("bamba", outputs=_MAMBA2),
    Family("falcon_h1", keys={"mamba_d_ssm": "inner"}, outputs=_MAMBA2),
    Family("granitemoehybrid", outputs=_MAMBA2),
    Family("nemotron_h", layers="layers_block_type", keys={"n_groups": "groups"}, outputs=_MAMBA2),
    Family("lfm2", derived=_lfm2_ffn, outputs={"conv.in_proj": 3}),
    Family("lfm2_moe", outputs={"conv.in_proj": 3}),
    *(Family(name, outputs=_DELTA, norm_offset=1.0) for name in words("qwen3_next qwen3_5_text qwen3_5_moe_text")),
    Family("olmo_hybrid", outputs=_DELTA, width_refusal=_unequal_chunks),
    Family("kimi_linear", outputs={"self_attn.conv1d": 3}),
    Family(
        "qwen4_exp_text",
        head_norm="none",
        outputs={**_DELTA, "hc_norm": _HYPER, "input_mix_weight_up": _HYPER},
        inputs={"input_mix_weight_down": _HYPER, "block_inject_weight": _HYPER},
        width_refusal=lambda c: "the width of n-gram embeddings in layers is not known" if c.ple_layer_ids else "",
        depth_refusal=lambda c: "n-gram embeddings in layers depend on their number" if c.ple_layer_ids else "",
    ),
    Family(
        "rwkv",
        depth_warnings={
            "rescale_every": "at inference a layer's outputs are scaled by its number, which changes: what "
            "comes out is the same but for the eps of norms, 6e-5 of the largest output on a tiny random model"
        },
        keys={"attention_hidden_size": "inner"},
    ),
    Family("xlstm", layers="num_hidden_layers num_blocks"),
    Family(
        "zamba",
        keys={"attention_hidden_size": "inner"},
        inputs={f"shared_transf.self_attn.{name}_proj": 2 for name in "qkv"},
        outputs={"shared_transf.input_layernorm": 2},
    ),
    Family(
        "zamba2",
        depth_refusal="its shared block has adapters that are numbered by hybrid layers, which change with the layers",
        keys={"attention_hidden_size": "inner", "num_query_groups": "heads"},
        inputs={f"shared_transformer.self_attn.{name}_proj": 2 for name in "qkv"},
        outputs={
            **_MAMBA2,
            "shared_transformer.input_layernorm": 2,
            "gate_up_proj_adapter_list.{}.{}": 2,
        },
    ),
    Family(
        "zaya",
        outputs={
            "qkv_proj.q_proj": 2,
            "qkv_proj.k_proj": 2,
            "qkv_proj.conv_qk_depthwise": _zaya_channels,
            "qkv_proj.conv_qk_grouped": _zaya_channels,
            "qk_norm.temp": 2,
        },
        inputs={"self_attn.o_proj": 2},
    ),
    Family(
        "roc_bert",
        keys={"shape_embed_dim": "inner", "pronunciation_embed_dim": "inner"},
        inputs={
            "map_inputs_layer": lambda c: (
                ("hidden", c.hidden_size),
                ("inner", c.shape_embed_dim),
                ("inner", c.pronunciation_embed_dim),
            )
        },
        refusals=_BERT_REFUSALS,
    ),
    Family(
        "blt",
        keys={
            f"{part}_config.{key}": symbol for part in ("encoder", "decoder", "global") for key, symbol in _BLT.items()
        },
        layers="decoder_config.num_hidden_layers encoder_config.num_hidden_layers global_config.num_hidden_layers",
        stacks=words(
            "local_encoder.layers global_transformer.layers local_decoder.layers local_decoder.cross_attn_layers"
        ),
        outputs={"patch_embedding_projection": lambda c: (("hidden", c.decoder_config.hidden_size),) * c.cross_attn_k},
        inputs={"token_embedding_projection": lambda c: (("hidden", c.decoder_config.hidden_size),) * c.cross_attn_k},
    ),
    Family("gpt_neox_japanese"),
    Family("xlm", stacks=("attentions", "layer_norm1", "ffns", "layer_norm2")),
    *(
        Family(name, head_norm="final_layer_norm", **_ENCODER_DECODER)
        for name in words("bart blenderbot-small marian mvp plbart")
    ),
    *(Family(name, **_ENCODER_DECODER) for name in words("blenderbot bigbird_pegasus mbart pegasus")),
    # It knows the key, and multiplies by nothing.
    Family("whisper", embedding_scaled=False, **_ENCODER_DECODER),
    Family(
        "stablelm",
        width_refusal=lambda c: "its norms of queries and keys are a module for every head" if c.qk_layernorm else "",
    ),
    Family("trocr", head_norm="final_layer_norm"),
    Family(
        "t5",
        layers="num_decoder_layers num_layers",
        encoder_decoder=True,
        head_power=lambda c: -0.5 if c.scale_decoder_outputs else 0.0,
    ),
    Family("albert", layers_shared=True),
    Family("modernbert", outputs={"attn.Wqkv": 3}),
    *(Family(name) for name in words("clip_text_model deberta deberta-v2 distilbert mpnet vit")),
    Family(
        "opt",
        head_norm="decoder.final_layer_norm",
        outputs={f"self_attn.{name}_proj": HEADS for name in "qkv"},
        inputs={"self_attn.out_proj": HEADS},
    ),
    Family("hrm_text", layers="num_layers_per_stack"),
    Family(
        "bloom",
        heads_refusal=_ALIBI,
        outputs={"self_attention.query_key_value": (("heads", 3),)},
        inputs={"self_attention.dense": HEADS},
    ),
    Family("mpt", heads_refusal=_ALIBI, outputs={"attn.Wqkv": HEADS * 3}, inputs={"attn.out_proj": HEADS}),
    Family("ctrl", width_refusal=_SINUSOID),
    Family("xglm", width_refusal=_SINUSOID),
    Family("musicgen_decoder", architectures=("MusicgenForCausalLM",), width_refusal=_SINUSOID),
    Family("musicgen_melody_decoder", architectures=("MusicgenMelodyForCausalLM",), width_refusal=_SINUSOID),
    Family("xlnet", width_refusal=_SINUSOID),
    Family(
        "prophetnet",
        layers="num_decoder_layers",
        width_refusal="its n-gram self-attention depends on the width in a way that is not known",
    ),
)
