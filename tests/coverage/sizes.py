"""Sizes of the tiny twins: what each config key is set to, and what single types need beside.

All sizes of a twin differ where the class lets them: an axis that is taken for another is seen.
"""

from __future__ import annotations

from typing import Any

LAYERS = 4
_HIDDEN, _FFN, _VOCAB = 24, 36, 51

_SIZES: dict[int | float, str] = {
    _HIDDEN: (
        "hidden_size n_embd d_model dim embedding_dim emb_dim backbone_hidden_size lru_width word_embed_proj_dim "
        "embedding_size embed_dim"
    ),
    _FFN: (
        "intermediate_size ffn_dim n_inner d_ff ffn_hidden_size decoder_ffn_dim dff dim_ff d_inner feed_forward_size "
        "hidden_dim"
    ),
    _VOCAB: "vocab_size decoder_vocab_size vocab_size_per_layer_input",
    LAYERS: (
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_blocks num_encoder_layers "
        "num_decoder_layers image_token_id image_token_index linear_num_value_heads linear_num_heads num_attention_heads "
        "n_head n_heads num_heads decoder_attention_heads encoder_attention_heads attention_heads "
        "num_encoder_attention_heads num_decoder_attention_heads num_experts num_local_experts n_routed_experts "
        "moe_num_experts rotary_dim"
    ),
    38: "encoder_ffn_dim",
    14: "expert_ffn_hidden_size moe_intermediate_size kv_lora_rank qk_head_dim",
    22: "intermediate_size_mlp dense_intermediate_size prefix_dense_intermediate_size",
    18: ("shared_expert_intermediate_size moe_shared_expert_intermediate_size shared_intermediate_size q_lora_rank"),
    40: (
        "max_position_embeddings n_positions n_ctx max_seq_len context_length seq_length max_target_positions "
        "model_max_length original_max_position_embeddings audio_vocab_size"
    ),
    20: "max_source_positions",
    16: "image_size",
    12: "eoa_token_index_",
    11: "boa_token_id",
    10: "head_dim v_head_dim query_pre_attn_scalar vision_end_token_id",
    9: "vision_start_token_id eoa_token_index",
    8: (
        "qk_nope_head_dim index_head_dim mamba_d_state mamba_n_heads state_size ssm_state_size mamba_num_heads patch_size "
        "linear_value_head_dim eoi_token_index eoi_token_id num_buckets dim_model_base"
    ),
    7: "boi_token_index boi_token_id",
    6: (
        "qk_rope_head_dim o_lora_rank mamba_d_head mamba_head_dim linear_key_head_dim linear_head_dim local_attention "
        "attention_chunk_size audio_token_id d_kv dim_head kv_channels"
    ),
    5: (
        "index_topk mamba_chunk_size chunk_size mamba_dt_rank time_step_rank sliding_window attention_window_size "
        "window_size sliding_window_size hidden_size_per_layer_input video_token_id video_token_index"
    ),
    3: "mamba_d_conv conv_kernel linear_conv_kernel_dim unk_token_id type_vocab_size num_channels hc_mult",
    2: (
        "num_key_value_heads num_kv_heads num_experts_per_tok num_experts_per_token moe_topk moe_k top_k_experts n_group "
        "index_n_heads o_groups mamba_n_groups n_groups linear_num_key_heads eos_token_id sep_token_id forced_eos_token_id "
        "max_window_layers n_mamba_heads"
    ),
    1: (
        "num_shared_experts n_shared_experts moe_num_shared_experts topk_group num_expert_group bos_token_id "
        "decoder_start_token_id first_k_dense_replace num_hidden_groups"
    ),
    0: "pad_token_id num_nextn_predict_layers num_logits_to_keep",
}
#: Key -> value. A key that is null in the default config stays so, unless it is in `EVEN_NULL`.
SIZES: dict[str, int | float] = {key: size for size, keys in _SIZES.items() for key in keys.split()}
EVEN_NULL = frozenset(("n_inner", "num_key_value_heads", "ffn_hidden_size", "num_kv_heads"))

#: Left out of the twin's config.
DROP: Any = object()

_MLA = (
    "axk1 axk2 deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa kimi_linear minicpm3 longcat_flash youtu"
)
_DECODERS = (
    "bert roberta bert-generation big_bird camembert data2vec-text ernie megatron-bert rembert roberta-prelayernorm roc_bert "
    "roformer xlm-roberta xlm-roberta-xl xmod electra"
)
_ALTERNATING = ["sliding_attention", "full_attention"] * 2
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 2, 2]}
_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 4,
    "indexer_compress_ratio": 2,
    "hc_count": 3,
    "hc_lowrank": 5,
    "ple_embed_dim": 12,
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 31,
    "make_ngram_vocab_size_divisible_by": 2,
    "split_ngram_parts": 2,
}
_BLT = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 6,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
}

#: What single types need beside; nested configs as dictionaries.
NEEDS: dict[str, dict[str, Any]] = {
    **{name: {"num_key_value_heads": 4, "head_dim": DROP} for name in _MLA.split()},
    **{name: {"is_decoder": True} for name in _DECODERS.split()},
    **{name: {"hidden_size": 32} for name in ("phi", "persimmon")},
    **{name: {"head_dim": 10} for name in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention", "sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.0] * 6,
        "intermediate_size": [36] * 6,
    },
    "fuyu": {
        "hidden_size": 32,
        "text_config": {
            "hidden_size": 32,
            "intermediate_size": 36,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "vocab_size": 51,
        },
    },
    "helium": {"head_dim": 6},
    "mamba2": {"head_dim": 6, "num_heads": 8},
    "falcon_h1": {"mamba_d_ssm": 48},
    "blt": {
        "encoder_hash_byte_group_vocab": 50,
        "encoder_hash_byte_group_size": [2, 3],
        "patch_in_forward": False,
        "patcher_config": _BLT,
        "global_config": _BLT,
        "encoder_config": {**_BLT, "hidden_size_global": 24},
        "decoder_config": {**_BLT, "hidden_size_global": 24},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 24, "ffn_hidden_size": 14, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 6},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "hybrid_layer_ids": DROP,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "num_key_value_heads": 4,
    },
    "zamba": {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "num_key_value_heads": 4,
        "attention_head_dim": 12,
        "attention_hidden_size": 48,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 7, "head_dim": 6},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _MROPE, "sliding_attention": _MROPE}},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "num_key_value_heads": 1},
    "nemotron_h": {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]},
    "rwkv": {"rescale_every": 0, "attention_hidden_size": 24},
    "roc_bert": {
        "is_decoder": True,
        "shape_embed_dim": 7,
        "pronunciation_embed_dim": 9,
        "shape_vocab_size": 51,
        "pronunciation_vocab_size": 51,
    },
    "longcat_flash": {
        "num_key_value_heads": 4,
        "head_dim": 6,
        "num_layers": 4,
        "num_hidden_layers": DROP,
        "zero_expert_num": 1,
    },
    "deepseek_v2": {
        "num_key_value_heads": 4,
        "head_dim": DROP,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "topk_method": "greedy",
    },
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "mllama": {"text_config": {"cross_attention_layers": [1, 3]}},
    "qwen4_exp_text": _QWEN4,
    "qwen4_exp": {"text_config": _QWEN4},
    **{
        name: {
            "text_config": {"global_head_dim": 12, "num_kv_shared_layers": 0, "layer_types": _ALTERNATING},
        }
        for name in ("gemma4", "gemma4_unified")
    },
    **{name: {"global_head_dim": 12, "layer_types": _ALTERNATING} for name in ("gemma4_text", "gemma4_unified_text")},
    "musicgen": {"num_codebooks": 2},
    "musicgen_melody": {"num_codebooks": 2},
    "laguna": {"num_attention_heads_per_layer": [4, 8, 4, 8]},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "share_att_key": True,
        "position_biased_input": False,
        "norm_rel_ebd": "layer_norm",
        "pooler_hidden_size": 24,
        "legacy": True,
    },
    "albert": {"embedding_size": 14, "inner_group_num": 1},
    "t5": {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 16},
    "clip_text_model": {"projection_dim": 10},
}

#: Types whose default config is of another name, and those whose text model's config is the twin's.
CONFIGS = {"musicgen": "musicgen_decoder", "musicgen_melody": "musicgen_melody_decoder"}
TEXT_ONLY = frozenset(("qwen3_5", "qwen3_5_moe", "qwen4_exp", "llama4", "emu3", "mllama"))

#: Classes beside that of the causal language model, by the name that a twin of them has.
CLASSES = {
    "roberta@mlm": "RobertaForMaskedLM",
    "electra@mlm": "ElectraForMaskedLM",
    "bert@mlm": "BertForMaskedLM",
    "xlm-roberta@mlm": "XLMRobertaForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
    "deberta": "DebertaForMaskedLM",
    "deberta-v2": "DebertaV2ForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "mpnet": "MPNetForMaskedLM",
    "t5": "T5ForConditionalGeneration",
    "t5@v11": "T5ForConditionalGeneration",
    "bart@s2s": "BartForConditionalGeneration",
    "whisper@s2s": "WhisperForConditionalGeneration",
    "vit": "ViTForImageClassification",
    "clip_text_model": "CLIPTextModel",
}

#: Options of a type that change what its tensors mean, by the name of the twin that has them.
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"is_decoder": False} for name in CLASSES if name.endswith("@mlm")},
    "t5@v11": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bart@s2s": {},
    "whisper@s2s": {},
    "bart@scale": {"scale_embedding": True},
    "codegen@8": {"n_head": 8, "n_embd": 48},
    "rwkv@rescale": {"rescale_every": 2},
    "cohere@qk": {"use_qk_norm": True},
    "deepseek_v3@noq": {"q_lora_rank": None, "first_k_dense_replace": 0},
    "electra@proj": {"embedding_size": 14},
    "falcon@alibi": {"alibi": True},
    "falcon@mha": {"multi_query": False, "new_decoder_architecture": False, "num_kv_heads": 4},
    "falcon@new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gemma2@cap": {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 4.0},
    "gemma4_text@keqv": {"attention_k_eq_v": True, "num_global_key_value_heads": 2},
    "gemma4_text@moe": {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 14},
    "gemma4_text@shared": {"num_kv_shared_layers": 2, "use_double_wide_mlp": True},
    "gpt_bigcode@mha": {"multi_query": False},
    "gpt_neox@serial": {"use_parallel_residual": False},
    "granite@mult": {
        "embedding_multiplier": 3.0,
        "logits_scaling": 2.5,
        "residual_multiplier": 0.3,
        "attention_multiplier": 0.21,
    },
    "jamba@auto": {"mamba_dt_rank": "auto"},
    "lfm2@round": {"block_multiple_of": 16},
    "llama4_text@mixed": {"moe_layers": [1, 3], "no_rope_layers": [1, 1, 0, 1]},
    "llama@bias": {"attention_bias": True, "mlp_bias": True},
    "llama@mqa": {"num_key_value_heads": 1},
    "mamba2@g1": {"n_groups": 1},
    "mamba@auto": {"time_step_rank": "auto"},
    "marian@scale": {"scale_embedding": True},
    "opt@proj": {"word_embed_proj_dim": 14, "do_layer_norm_before": False},
    "persimmon@qk": {"qk_layernorm": True},
    "qwen2_moe@step2": {"decoder_sparse_step": 2},
    "qwen3_moe@mixed": {"mlp_only_layers": [1]},
    "qwen4_exp_text@ple": {
        "ple_layer_ids": [1],
        "eos_token_id": 2,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
    "stablelm@qk": {"qk_layernorm": True, "use_parallel_residual": True},
}

#: Numbers of layers other than `LAYERS`, and an odd order of them.
COUNTS = {"gemma3n_text": 6, "blt": 2}
#: Types whose classes cannot run in float64.
SINGLE = frozenset(("nemotron_h", "xglm"))
#: Types that do not build here, with the reason.
NOT_RUN = {
    "reformer": "axial positions and hashed attention: its default config does not shrink to a twin",
    "gemma3n": "its vision tower needs the timm package; the text model is gemma3n_text",
    "gemma4_assistant": "has no default config of its own: it reads the stream of another model",
    "gemma4_unified_assistant": "has no default config of its own: it reads the stream of another model",
}
