"""The families that can be grown, and what stops growth in every one of them."""

from __future__ import annotations

from growkernels.layouts.family import HEADS, Family, Refusal
from growkernels.layouts.rows import PLAIN, ROWS

__all__ = ["BUFFERS", "ENCODER_DECODER", "FAMILIES", "HEADS", "REFUSALS", "REMEDIES", "Family"]

FAMILIES: dict[str, Family] = {row.model_type: row for row in (*ROWS, *map(Family, PLAIN))}

#: What stops growth in every family.
REFUSALS: tuple[Refusal, ...] = (
    Refusal("auto_map", ({}, None), "the model's code comes with the checkpoint, and remote code is never run"),
    Refusal("quantization_config", ({}, None), "quantized weights cannot be grown"),
    Refusal("pruned_heads", ({}, None), "heads were pruned, so that layers differ in width"),
    Refusal("peft_type", (None,), "this is an adapter, not a model"),
)

#: What stops growth in families of decoders alone.
ENCODER_DECODER = Refusal("is_encoder_decoder", (False, None), "the encoder of this model is not supported")

#: What to do about each, by key; the rest is a matter of another checkpoint.
REMEDIES: dict[str, str] = {
    "auto_map": "convert the checkpoint to the class of the same model in transformers",
    "quantization_config": "start from the checkpoint before quantization, or dequantize it and save it again",
    "peft_type": "merge the adapter into its base model (merge_and_unload in peft) and grow the merged model",
}

#: Endings of file names of buffers that any family may hold.
BUFFERS: tuple[str, ...] = ("rotary_emb.inv_freq", "rotary_emb.original_inv_freq", "position_ids", "token_type_ids")
