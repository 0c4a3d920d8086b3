"""The generic table of config keys: what they count, in every family that does not say otherwise."""

from __future__ import annotations

from growkernels.layouts.base import Symbol


def words(text: str) -> tuple[str, ...]:
    """The words of a text: how the tables write lists of names."""
    return tuple(text.split())


_NAMES: dict[Symbol, str] = {
    "hidden": "hidden_size n_embd d_model dim embedding_dim emb_dim",
    "heads": (
        "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads "
        "num_decoder_attention_heads num_encoder_attention_heads"
    ),
    "kv_heads": "num_key_value_heads num_kv_heads kv_n_heads",
    "ffn": (
        "intermediate_size ffn_dim n_inner d_ff dff dim_ff hidden_dim ffn_hidden_size decoder_ffn_dim encoder_ffn_dim "
        "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size "
        "shared_intermediate_size intermediate_size_mlp dense_intermediate_size prefix_dense_intermediate_size "
        "expert_ffn_hidden_size"
    ),
    "inner": "mamba_n_heads mamba_num_heads n_mamba_heads linear_num_key_heads linear_num_value_heads linear_num_heads",
    "groups": "mamba_n_groups mamba_ngroups",
    "vocab": "vocab_size",
}

#: Key -> what it counts. The first of a symbol that a config has names the size of the model.
SYMBOLS: dict[str, Symbol] = {key: symbol for symbol, keys in _NAMES.items() for key in keys.split()}

#: Sizes of embeddings that classes project to and from hidden, unless they are the same: then they stay the same.
SAME_AS_HIDDEN = words("word_embed_proj_dim embedding_size pooler_hidden_size")

#: Keys of the number of layers; the first that a config has counts.
LAYERS = words("num_hidden_layers n_layer n_layers num_layers num_blocks decoder_layers")

#: Keys of the length of position tables.
POSITIONS = words("max_position_embeddings n_positions n_ctx max_seq_len context_length")

#: Sizes that some classes derive from widths where they are not stored: they must stay what they are.
PINNED = words("head_dim time_step_rank mamba_dt_rank mamba_d_head mamba_head_dim mamba_headdim attention_head_dim")

#: Last names of modules that are repeated, a layer each.
STACKS = frozenset(words("layers layer h blocks block"))

#: Config lists with one entry per layer.
LAYER_LISTS = frozenset(
    words(
        "layer_types mlp_layer_types no_rope_layers layers_block_type attention_layers indexer_types "
        "layer_rope_theta activation_sparsity_pattern num_attention_heads_per_layer intermediate_size"
    )
)
#: Config keys of the labels of a classifier.
LABELS = ("num_labels", "id2label", "label2id")
#: Config lists of layer numbers, counted from the value.
LAYER_NUMBERS: dict[str, int] = {
    "mlp_only_layers": 0,
    "moe_layers": 0,
    "local_layer_ids": 0,
    "cross_attention_layers": 0,
    "hybrid_layer_ids": 0,
    "full_attn_idxs": 0,
    "attn_layer_indices": 0,
    "ple_layer_ids": 1,
}
#: Config values that count the first layers of a kind, and the list that says the same layer by layer if it is there.
FIRST_LAYERS: dict[str, str | None] = {
    "max_window_layers": "layer_types",
    "first_k_dense_replace": "mlp_layer_types",
    "num_dense_layers": None,
    "moe_layer_start_index": None,
}
#: Config values that count the last layers of a kind.
LAST_LAYERS = ("num_kv_shared_layers",)
#: Config value that is the number of the last layer of a kind.
LAST_NUMBER = "moe_layer_end_index"
#: Config lists of kinds that come round again until every layer has one.
CYCLES = ("block_types",)
