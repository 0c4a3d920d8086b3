"""What puts out the residual stream's summands, where generic rules cannot tell, and where zero there changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from transformers import PreTrainedConfig

from growkernels.layouts.keys import words

_POST_NORMS = words("post_attention_layernorm.weight post_feedforward_layernorm.weight")
_BERT = words("attention.output.dense.weight output.dense.weight")
_FALCON = words("self_attention.dense.weight mlp.dense_4h_to_h.weight")
_PERSIMMON = words("self_attn.dense.weight mlp.dense_4h_to_h.weight")
_BART = words("self_attn.out_proj.weight encoder_attn.out_proj.weight fc2.weight")
_MODERNBERT = words("attn.Wo.weight mlp.Wo.weight")

#: Endings of the parameters that write the stream, by type. Where a norm follows a block before the sum, it is that norm's
#: gain: after one step of training, the norm would blow up what a projection puts out that started at zero.
WRITERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(words("exaone4 flex_olmo gemma2 gemma3 gemma3_text olmo2 olmo3"), _POST_NORMS),
    "afmoe": words("post_attention_layernorm.weight post_mlp_layernorm.weight"),
    "hyperclovax": words("post_norm1.weight post_norm2.weight"),
    "glm4": words("post_self_attn_layernorm.weight post_mlp_layernorm.weight"),
    **dict.fromkeys(words("megatron-bert roberta-prelayernorm xlm-roberta-xl"), _BERT),
    **dict.fromkeys(words("bloom falcon"), _FALCON),
    **dict.fromkeys(words("fuyu persimmon"), _PERSIMMON),
    **dict.fromkeys(words("musicgen_decoder musicgen_melody_decoder xglm"), _BART),
    **dict.fromkeys(words("modernbert modernbert-decoder"), _MODERNBERT),
    "ctrl": words("multi_head_attention.dense.weight ffn.2.weight"),
    "jetmoe": words("output_linear.weight mlp.bias self_attention.experts.bias"),
    "mpt": words("attn.out_proj.weight ffn.down_proj.weight"),
    "phi": words("self_attn.dense.weight mlp.fc2.weight"),
    "rwkv": words("attention.output.weight feed_forward.value.weight"),
    "t5": words("SelfAttention.o.weight EncDecAttention.o.weight DenseReluDense.wo.weight"),
    "stablelm": words("self_attn.o_proj.weight mlp.down_proj.weight"),
}

#: Types of which a tiny twin with new layers of zero writers computes what it did before, in float64 (`make coverage`).
SHOWN = frozenset(
    words(
        "afmoe apertus arcee aria_text axk1 axk2 bamba bigbird_pegasus biogpt bitnet blenderbot bloom clip_text_model codegen "
        "cohere cohere2 cohere2_moe cohere_compass_text cpmant ctrl cwm dbrx deepseek_v2 deepseek_v3 deepseek_v32 dots1 "
        "emu3_text_model ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo fuyu gemma gemma2 "
        "gemma3 gemma3_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa got_ocr2 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss "
        "gptj granite granite_swa granitemoe granitemoe_swa granitemoehybrid granitemoeshared helium hrm_text hunyuan_v1_dense "
        "hunyuan_v1_moe hy_v3 hyperclovax inkling_text jais2 jamba jetmoe kimi_linear laguna lfm2 lfm2_moe llama llama4_text "
        "mamba mamba2 mbart megatron-bert mellum mimo_v2_flash minicpm3 minimax_m2 minimax_m3_vl_text ministral ministral3 "
        "mistral mixtral mllama_text_model modernbert modernbert-decoder moshi mpt musicgen_decoder musicgen_melody_decoder "
        "nanochat nemotron nemotron_h olmo olmo2 olmo3 olmoe opt pegasus persimmon phi phi3 phi4_multimodal phimoe qwen2 "
        "qwen2_moe qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen4_exp_text recurrent_gemma "
        "roberta-prelayernorm rwkv seed_oss smollm3 solar_open stablelm starcoder2 t5 vaultgemma vit whisper xglm "
        "xlm-roberta-xl xlstm youtu zamba "
    )
)

_POST_LN = "a norm follows every sum of its residual stream, and changes the stream even where a layer adds nothing"
_SCALED = "each layer scales the stream itself by numbers of its own, so that one that adds nothing still changes it"
_HYPER = "each layer mixes several streams, by weights that are never quite the identity"

#: Why there are no such layers.
NO_IDENTITY: Mapping[str, str | Callable[[PreTrainedConfig], str]] = {
    **dict.fromkeys(
        words(
            "albert bart bert bert-generation big_bird blenderbot-small camembert data2vec-text deberta deberta-v2 distilbert "
            "electra ernie git marian mpnet mvp openai-gpt plbart prophetnet rembert roberta roc_bert roformer trocr xlm "
            "xlm-roberta xlnet xmod"
        ),
        _POST_LN,
    ),
    **dict.fromkeys(
        words("doge gemma3n_text gemma4 gemma4_text gemma4_unified gemma4_unified_text minimax zaya"), _SCALED
    ),
    **dict.fromkeys(words("deepseek_v4 hy_v4"), _HYPER),
    "bloom": lambda config: _POST_LN if config.apply_residual_connection_post_layernorm else "",
    "diffllama": "what a layer computes depends on its number, which changes",
    "hyperclovax": lambda config: "" if config.use_post_norm else "it is shown only where use_post_norm is true",
    "longcat_flash": "its zero experts add their input to the stream",
    "opt": lambda config: "" if config.do_layer_norm_before else _POST_LN,
}
