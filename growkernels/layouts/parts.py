"""Parts and refusals that the table of families names: what shapes and module classes cannot tell, computed from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedConfig

from growkernels.layouts.base import Ratio, Symbol
from growkernels.layouts.family import Declared, Parts, Refusal
from growkernels.layouts.knobs import scaled

#: Parts of what a tensor puts out, by ending, in every family that does not say otherwise.
OUTPUTS: Mapping[str, Declared] = {
    "gate_up_proj": 2,
    "shared_mlp.input_linear": 2,
    "block_sparse_moe.input_linear": 2,
    "mlp.Wi": 2,
}

QKV: Parts = (("heads", 1), ("kv_heads", 1), ("kv_heads", 1))
CROSS_ATTENTION = Refusal(
    "add_cross_attention", (False, None), "cross-attention reads another model's stream, whose width is not known here"
)
ABSOLUTE = Refusal(
    "position_embedding_type",
    ("absolute", None),
    "transformers no longer computes relative positions, so that the model would run differently",
)
SINUSOID = "sinusoids of the hidden size are computed by the class, and differ in a wider model"
ALIBI = "the slopes of ALiBi depend on the number of heads, and differ in a wider model"


def tasks(stem: str, *tasks: str) -> tuple[str, ...]:
    return tuple(stem + task for task in tasks)


DECODER_TASKS = ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def first(config: PreTrainedConfig, *names: str) -> int:
    return next(getattr(config, name) for name in names if getattr(config, name, None) is not None)


def equal(symbol: Symbol, key: str, times: str) -> Callable[[PreTrainedConfig], Parts]:
    """As many parts as one key says, each of the size that another says."""
    return lambda config: ((symbol, getattr(config, key)),) * getattr(config, times)


def mamba2(config: PreTrainedConfig) -> tuple[int, int, int]:
    heads = first(config, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads")
    inner = heads * first(config, "mamba_d_head", "mamba_head_dim", "mamba_headdim", "head_dim")
    groups = first(config, "mamba_n_groups", "mamba_ngroups", "n_groups")
    return heads, inner, groups * first(config, "mamba_d_state", "ssm_state_size", "state_size")


def mamba2_projection(config: PreTrainedConfig) -> Parts:
    heads, inner, states = mamba2(config)
    return ("inner", inner), ("inner", inner), ("groups", states), ("groups", states), ("inner", heads)


def mamba2_convolution(config: PreTrainedConfig) -> Parts:
    _, inner, states = mamba2(config)
    return ("inner", inner), ("groups", states), ("groups", states)


def delta(config: PreTrainedConfig) -> Parts:
    """Queries, keys and values of linear attention by the delta rule."""
    keys = config.linear_num_key_heads * config.linear_key_head_dim
    values = config.linear_num_value_heads * config.linear_value_head_dim
    return ("inner", keys), ("inner", keys), ("inner", values)


def falcon(config: PreTrainedConfig) -> Parts:
    """Queries, then one key and one value; heads of other kinds stand side by side and grow whole."""
    if config.multi_query and not config.new_decoder_architecture:
        return ("heads", config.hidden_size), ("fixed", 2 * config.head_dim)
    groups = config.num_kv_heads if config.new_decoder_architecture else config.num_attention_heads
    heads = config.num_attention_heads + 2 * groups
    return (("heads", heads * config.head_dim),)


def bigcode(config: PreTrainedConfig) -> Parts:
    head = config.hidden_size // config.num_attention_heads
    if config.multi_query:
        return ("heads", config.hidden_size), ("fixed", 2 * head)
    return (("heads", 3 * config.hidden_size),)


def lfm2_ffn(config: PreTrainedConfig, ratios: Mapping[Symbol, Ratio], layers: int) -> dict[str, Any]:
    """The ffn size itself: the class would round up another multiple of what the config says."""
    if not config.block_auto_adjust_ff_dim or ratios.get("ffn", 1) == 1:
        return {}
    size = int(2 * config.intermediate_size / 3)
    if config.block_ffn_dim_multiplier is not None:
        size = int(config.block_ffn_dim_multiplier * size)
    size = -(-size // config.block_multiple_of) * config.block_multiple_of
    return {"intermediate_size": scaled(size, ratios["ffn"]), "block_auto_adjust_ff_dim": False}


def unequal_chunks(config: PreTrainedConfig) -> str:
    keys, _, values = (size for _, size in delta(config))
    cut = "this file cuts the convolution of queries, keys and values into equal thirds, and not where they begin"
    return "" if keys == values else cut


def zaya_channels(config: PreTrainedConfig) -> Parts:
    """The first half of the heads takes values of this token, the second those of the one before."""
    queries = config.num_attention_heads * config.head_dim // 2
    keys = config.num_key_value_heads * config.head_dim // 2
    return ("heads", queries), ("heads", queries), ("kv_heads", keys), ("kv_heads", keys)


def per_layer(config: PreTrainedConfig) -> Parts:
    """A block for each layer."""
    return (("layers", config.num_hidden_layers * config.hidden_size_per_layer_input),)


PER_LAYER: dict[str, Declared] = {"embed_tokens_per_layer": per_layer, "per_layer_model_projection": per_layer}
MAMBA2: dict[str, Declared] = {
    "mamba.in_proj": mamba2_projection,
    "mamba.conv1d": mamba2_convolution,
    "mixer.in_proj": mamba2_projection,
    "mixer.conv1d": mamba2_convolution,
}
DELTA: dict[str, Declared] = {"linear_attn.conv1d": delta, "linear_attn.in_proj_qkv": delta}
#: Fused parts of some types that others may have, too: what a type without a row is tried with.
KNOWN_PARTS: Mapping[str, Declared] = {
    **MAMBA2,
    **DELTA,
    "conv.in_proj": 3,
    "self_attn.qkv_proj": QKV,
    "attn.c_attn": 3,
}
HYPER = equal("hidden", "hidden_size", "hc_count")
ENCODER_DECODER: dict[str, Any] = {"layers": "decoder_layers encoder_layers", "encoder_decoder": True}
BLT: dict[str, Symbol] = {
    "hidden_size": "hidden",
    "hidden_size_global": "hidden",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "intermediate_size": "ffn",
}
BERT_REFUSALS = (CROSS_ATTENTION, ABSOLUTE)
