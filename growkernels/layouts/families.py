"""The table of model families: what shapes and module classes cannot tell. Adding a family is adding a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from growkernels.layouts.base import Symbol

#: Parts of an axis in order; each is a symbol and how many times its features stand side by side in every head.
Parts = tuple[tuple[Symbol, int], ...]

HEADS: Parts = (("heads", 1),)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A config key that stops growth unless it holds one of `allowed`."""

    key: str
    allowed: tuple[Any, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`.

    `knobs` are the stored config keys of the sizes. `head_dim` is the key that pins it; without one it is hidden / heads,
    and both grow together. `outputs` and `inputs` give the parts of an axis by the ending of the module's name, where
    probing the class cannot: fused projections, and heads that have no knob apart from hidden.
    """

    model_type: str
    architectures: tuple[str, ...]
    head_norm: str
    knobs: Mapping[Symbol, str]
    layers: str = "num_hidden_layers"
    positions: str = "max_position_embeddings"
    head_dim: str | None = None
    #: Where the ffn knob is null: this times hidden.
    ffn_default: int | None = None
    outputs: Mapping[str, Parts] = field(default_factory=dict)
    inputs: Mapping[str, Parts] = field(default_factory=dict)
    norm_offset: float = 0.0
    embedding_scaled: bool = False
    #: Classes to look up tensors in that the config's own class does not know (files often hold more).
    supersets: tuple[str, ...] = ()
    #: Endings of file names that hold buffers, which every class computes itself.
    buffers: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    #: Config keys that, when true, make a layer depend on its place in the stack.
    depth_warnings: Mapping[str, str] = field(default_factory=dict)


_KNOBS: dict[Symbol, str] = {
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
}
_GQA_KNOBS: dict[Symbol, str] = {**_KNOBS, "kv_heads": "num_key_value_heads"}

_CROSS_ATTENTION = Refusal(
    "add_cross_attention", (False, None), "cross-attention reads another model's stream, whose width is not known here"
)


def _tasks(stem: str, *tasks: str) -> tuple[str, ...]:
    return tuple(stem + task for task in tasks)


_DECODER_TASKS = ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")

FAMILIES: dict[str, Family] = {
    row.model_type: row
    for row in (
        Family(
            "llama",
            architectures=_tasks("Llama", *_DECODER_TASKS),
            knobs=_GQA_KNOBS,
            head_dim="head_dim",
            head_norm="norm",
            supersets=("LlamaForCausalLM",),
        ),
        Family(
            "qwen3",
            architectures=_tasks("Qwen3", *_DECODER_TASKS),
            knobs=_GQA_KNOBS,
            head_dim="head_dim",
            head_norm="norm",
            supersets=("Qwen3ForCausalLM",),
        ),
        Family(
            "gemma",
            architectures=_tasks("Gemma", *_DECODER_TASKS[:-1]),
            knobs=_GQA_KNOBS,
            head_dim="head_dim",
            head_norm="norm",
            norm_offset=1.0,
            embedding_scaled=True,
            supersets=("GemmaForCausalLM",),
        ),
        Family(
            "gpt2",
            architectures=_tasks("GPT2", "LMHeadModel", *_DECODER_TASKS[1:]),
            knobs={"hidden": "n_embd", "heads": "n_head", "ffn": "n_inner", "vocab": "vocab_size"},
            layers="n_layer",
            positions="n_positions",
            ffn_default=4,
            head_norm="ln_f",
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
            knobs=_KNOBS,
            head_norm="final_layer_norm",
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
            knobs=_KNOBS,
            head_norm="predictions.transform.LayerNorm",
            outputs={f"attention.self.{name}": HEADS for name in ("query", "key", "value")},
            inputs={"attention.output.dense": HEADS},
            supersets=("BertForPreTraining",),
            refusals=(
                _CROSS_ATTENTION,
                Refusal(
                    "position_embedding_type",
                    ("absolute", None),
                    "transformers no longer computes relative positions, so that the model would run differently",
                ),
            ),
        ),
    )
}

#: What stops growth in every family.
REFUSALS: tuple[Refusal, ...] = (
    Refusal("auto_map", ({}, None), "the model's code comes with the checkpoint, and remote code is never run"),
    Refusal("quantization_config", ({}, None), "quantized weights cannot be grown"),
    Refusal("pruned_heads", ({}, None), "heads were pruned, so that layers differ in width"),
    Refusal("peft_type", (None,), "this is an adapter, not a model"),
    Refusal("is_encoder_decoder", (False, None), "encoder-decoder models are not supported"),
)

#: What to do about each, by key; the rest is a matter of another checkpoint.
REMEDIES: dict[str, str] = {
    "auto_map": "convert the checkpoint to the class of the same model in transformers",
    "quantization_config": "start from the checkpoint before quantization, or dequantize it and save it again",
    "peft_type": "merge the adapter into its base model (merge_and_unload in peft) and grow the merged model",
}

#: Endings of file names of buffers that any family may hold.
BUFFERS: tuple[str, ...] = ("rotary_emb.inv_freq", "rotary_emb.original_inv_freq", "position_ids", "token_type_ids")

#: Config lists with one entry per layer.
LAYER_LISTS: tuple[str, ...] = ("layer_types", "mlp_layer_types", "no_rope_layers")
#: Config lists of layer numbers.
LAYER_NUMBERS: tuple[str, ...] = ("mlp_only_layers",)
#: Config values that count the first layers of a kind, and the list that says the same layer by layer.
LAYER_COUNTS: dict[str, str] = {"max_window_layers": "layer_types"}
