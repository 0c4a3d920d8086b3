"""The table of families: what shapes and module classes cannot tell. Adding a family is adding a row, if it needs one."""

from __future__ import annotations

from growkernels.layouts.family import HEADS, Family
from growkernels.layouts.keys import words
from growkernels.layouts.parts import (
    ALIBI,
    BERT_REFUSALS,
    BLT,
    CROSS_ATTENTION,
    DECODER_TASKS,
    DELTA,
    ENCODER_DECODER,
    HYPER,
    MAMBA2,
    PER_LAYER,
    QKV,
    SINUSOID,
    bigcode,
    equal,
    falcon,
    lfm2_ffn,
    tasks,
    unequal_chunks,
    zaya_channels,
)

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
    Family("llama", architectures=tasks("Llama", *DECODER_TASKS), supersets=("LlamaForCausalLM",)),
    Family("qwen3", architectures=tasks("Qwen3", *DECODER_TASKS), supersets=("Qwen3ForCausalLM",)),
    Family(
        "gemma",
        architectures=tasks("Gemma", *DECODER_TASKS[:-1]),
        norm_offset=1.0,
        embedding_scaled=True,
        supersets=("GemmaForCausalLM",),
    ),
    Family(
        "gpt2",
        architectures=tasks("GPT2", "LMHeadModel", *DECODER_TASKS[1:]),
        ffn_default=4,
        outputs={"attn.c_attn": HEADS * 3},
        inputs={"attn.c_proj": HEADS},
        supersets=("GPT2LMHeadModel",),
        buffers=("attn.bias", "attn.masked_bias"),
        refusals=(CROSS_ATTENTION,),
        depth_warnings={
            "scale_attn_by_inverse_layer_idx": "attention scores are divided by the layer's number, which changes"
        },
    ),
    Family(
        "gpt_neox",
        architectures=tasks("GPTNeoX", *DECODER_TASKS),
        outputs={"attention.query_key_value": (("heads", 3),)},
        inputs={"attention.dense": HEADS},
        supersets=("GPTNeoXForCausalLM",),
        buffers=("attention.bias", "attention.masked_bias"),
    ),
    Family(
        "bert",
        architectures=tasks(
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
        refusals=BERT_REFUSALS,
    ),
    *(
        Family(name, refusals=BERT_REFUSALS)
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
    Family("gpt_bigcode", ffn_default=4, outputs={"attn.c_attn": bigcode}),
    Family("codegen", ffn_default=4, outputs={"attn.qkv_proj": 12}, inputs={"attn.out_proj": 4}),
    Family(
        "falcon",
        kv_tied=True,
        outputs={"self_attention.query_key_value": falcon},
        width_refusal=lambda c: ALIBI if c.alibi else "",
    ),
    Family("phi3", outputs={"self_attn.qkv_proj": QKV}, inputs={"self_attn.o_proj": HEADS}),
    Family("phi4_multimodal", outputs={"self_attn.qkv_proj": QKV}),
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
            "norm_attn_norm.attn.Wqkv": QKV,
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
        outputs=PER_LAYER,
        powers={"per_layer_model_projection.weight": -0.5, "modality_router.weight": -1.0},
    ),
    *(
        Family(
            name,
            head_norm="norm",
            embedding_scaled=True,
            outputs=PER_LAYER,
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
            name: equal("hidden", "hidden_size", "hc_mult") for name in ("attn_hc.fn", "ffn_hc.fn", "hc_head.hc_fn")
        },
        input_axes={"attn_hc.fn": 1, "ffn_hc.fn": 1, "hc_head.hc_fn": 1},
    ),
    Family(
        "hy_v4",
        inputs={
            name: equal("hidden", "hidden_size", "hc_mult") for name in ("attn_hc.fn", "ffn_hc.fn", "hc_head.hc_fn")
        },
        input_axes={"attn_hc.fn": 1, "ffn_hc.fn": 1, "hc_head.hc_fn": 1},
    ),
    *(
        Family(name, keys={"intermediate_size": "inner"}, outputs={"mixer.in_proj": 2})
        for name in ("mamba", "falcon_mamba")
    ),
    Family("jamba", outputs={"mamba.in_proj": 2}),
    Family("mamba2", keys={"num_heads": "inner", "n_groups": "groups"}, outputs=MAMBA2),
    Family("bamba", outputs=MAMBA2),
    Family("falcon_h1", keys={"mamba_d_ssm": "inner"}, outputs=MAMBA2),
    Family("granitemoehybrid", outputs=MAMBA2),
    Family("nemotron_h", layers="layers_block_type", keys={"n_groups": "groups"}, outputs=MAMBA2),
    Family("lfm2", derived=lfm2_ffn, outputs={"conv.in_proj": 3}),
    Family("lfm2_moe", outputs={"conv.in_proj": 3}),
    *(Family(name, outputs=DELTA, norm_offset=1.0) for name in words("qwen3_next qwen3_5_text qwen3_5_moe_text")),
    Family("olmo_hybrid", outputs=DELTA, width_refusal=unequal_chunks),
    Family("kimi_linear", outputs={"self_attn.conv1d": 3}),
    Family(
        "qwen4_exp_text",
        head_norm="none",
        outputs={**DELTA, "hc_norm": HYPER, "input_mix_weight_up": HYPER},
        inputs={"input_mix_weight_down": HYPER, "block_inject_weight": HYPER},
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
            **MAMBA2,
            "shared_transformer.input_layernorm": 2,
            "gate_up_proj_adapter_list.{}.{}": 2,
        },
    ),
    Family(
        "zaya",
        outputs={
            "qkv_proj.q_proj": 2,
            "qkv_proj.k_proj": 2,
            "qkv_proj.conv_qk_depthwise": zaya_channels,
            "qkv_proj.conv_qk_grouped": zaya_channels,
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
        refusals=BERT_REFUSALS,
    ),
    Family(
        "blt",
        keys={
            f"{part}_config.{key}": symbol for part in ("encoder", "decoder", "global") for key, symbol in BLT.items()
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
        Family(name, head_norm="final_layer_norm", **ENCODER_DECODER)
        for name in words("bart blenderbot-small marian mvp plbart")
    ),
    *(Family(name, **ENCODER_DECODER) for name in words("blenderbot bigbird_pegasus mbart pegasus")),
    # It knows the key, and multiplies by nothing.
    Family("whisper", embedding_scaled=False, **ENCODER_DECODER),
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
        heads_refusal=ALIBI,
        outputs={"self_attention.query_key_value": (("heads", 3),)},
        inputs={"self_attention.dense": HEADS},
    ),
    Family("mpt", heads_refusal=ALIBI, outputs={"attn.Wqkv": HEADS * 3}, inputs={"attn.out_proj": HEADS}),
    Family("ctrl", width_refusal=SINUSOID),
    Family("xglm", width_refusal=SINUSOID),
    Family("musicgen_decoder", architectures=("MusicgenForCausalLM",), width_refusal=SINUSOID),
    Family("musicgen_melody_decoder", architectures=("MusicgenMelodyForCausalLM",), width_refusal=SINUSOID),
    Family("xlnet", width_refusal=SINUSOID),
    Family(
        "prophetnet",
        layers="num_decoder_layers",
        width_refusal="its n-gram self-attention depends on the width in a way that is not known",
    ),
)
