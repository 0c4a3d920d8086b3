"""How the norms of a family see the residual stream: what decides how it can grow at a ratio that is not whole.

Only families whose twins were grown and compared with their sources stand here; tests hold each to 1e-11 in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.keys import words


@dataclass(frozen=True, slots=True)
class Stream:
    """`norms`: what they divide by, the root mean square of the stream, or its deviation from the mean, which they take off.

    `post`: endings of the modules of norms that stand behind a block, and whose output is added to the stream.
    """

    norms: Literal["rms", "mean"]
    post: tuple[str, ...] = ()


_RMS, _MEAN = Stream("rms"), Stream("mean")
_GEMMA = Stream("rms", words("post_attention_layernorm post_feedforward_layernorm"))

#: By model type.
STREAMS: Mapping[str, Stream] = {
    **dict.fromkeys(
        words(
            "llama mistral ministral mixtral qwen2 qwen2_moe qwen3 qwen3_moe gemma phi3 granite smollm3 gpt_oss seed_oss glm"
        ),
        _RMS,
    ),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "glm4": Stream("rms", words("post_self_attn_layernorm post_mlp_layernorm")),
    **dict.fromkeys(words("gpt2 gpt_neox phi opt cohere starcoder2"), _MEAN),
}


def stream_of(layout: ModelLayout) -> Stream | None:
    """How the norms of a model see its stream; None where it is not known, or they stand in the stream itself."""
    if layout.config.get("do_layer_norm_before") is False:
        return None
    return STREAMS.get(layout.model_type)


def is_post_norm(layout: ModelLayout, tensor: TensorLayout) -> bool:
    """Whether a norm stands behind a block of the family."""
    stream = stream_of(layout)
    return stream is not None and tensor.parameter.rpartition(".")[0].endswith(stream.post)
