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
_POST = words("post_attention_layernorm post_feedforward_layernorm")

#: By model type.
STREAMS: Mapping[str, Stream] = {
    **dict.fromkeys(words("llama qwen3 gemma"), _RMS),
    **dict.fromkeys(words("gpt2 gpt_neox"), _MEAN),
}


def is_post_norm(layout: ModelLayout, tensor: TensorLayout) -> bool:
    """Whether a norm stands behind a block of the family."""
    stream = STREAMS.get(layout.model_type)
    return stream is not None and tensor.parameter.rpartition(".")[0].endswith(stream.post)
