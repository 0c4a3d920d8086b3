"""What is inside the heads of attention: which features are queries, keys and values, and how positions turn them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import FAMILIES
from growkernels.layouts.keys import words

#: Queries, keys, values, and what reads the values of all heads.
Role = Literal["q", "k", "v", "o"]


@dataclass(frozen=True, slots=True)
class Heads:
    """`rotary`: whether pairs of features, one in each half of a head, are turned by the position.

    `scaled`: whether scores are divided by the square root of a head's size, and not by a number of the config.
    """

    rotary: bool
    scaled: bool = True


_ROTARY = Heads(rotary=True)
#: By model type; those whose twins were grown and compared with their sources.
HEADS: Mapping[str, Heads] = {
    **dict.fromkeys(words("llama mistral mixtral qwen3 qwen3_moe gemma gpt_oss phi gpt_neox"), _ROTARY),
    **dict.fromkeys(words("gemma2 gemma3_text"), Heads(rotary=True, scaled=False)),
    **dict.fromkeys(words("gpt2 opt bert bloom mpt"), Heads(rotary=False)),
}
_ROLES: Mapping[str, tuple[Role, ...]] = {
    **dict.fromkeys(words("q_proj query q_norm"), ("q",)),
    **dict.fromkeys(words("k_proj key k_norm"), ("k",)),
    **dict.fromkeys(words("v_proj value"), ("v",)),
    **dict.fromkeys(words("c_attn qkv_proj Wqkv query_key_value"), ("q", "k", "v")),
}


def roles_of(tensor: TensorLayout, axis: int, layout: ModelLayout) -> tuple[Role, ...]:
    """What the features of an axis are, in turn; empty where they are not those of heads. Raises GrowthError if unknown."""
    in_heads = any(part.symbol in ("heads", "kv_heads") for part in tensor.axes[axis].parts)
    if axis == tensor.input_axis:
        return ("o",) if in_heads else ()
    module = tensor.parameter.rpartition(".")[0].rpartition(".")[2]
    found = _ROLES.get(module, ())
    if tensor.kind == "norm":
        return found
    # One number for each head is no feature of it.
    if in_heads and not found and tensor.axes[axis].size > layout.sizes["heads"]:
        raise GrowthError(f"head_dim cannot grow: what {tensor.name} puts out by heads is not known.")
    return found if in_heads else ()


def check_scores(layout: ModelLayout) -> None:
    """Raise GrowthError where a class does more with queries and keys than products over the root of a head's size."""
    attention = layout.config.get("attn_config")
    for key in ("clip_qkv", "softmax_scale"):
        if isinstance(attention, dict) and attention.get(key) is not None:
            raise GrowthError(f"head_dim cannot grow: config.json sets {key} to {attention[key]}.")


def rotary_size(layout: ModelLayout) -> int:
    """How many features of a head are turned by the position; 0 for none."""
    found = _frequencies(layout, layout.config)
    return 2 * max((values.shape[-1] for values in found.values()), default=0)


def check_rotary(layout: ModelLayout, config: Mapping[str, Any], copies: int) -> None:
    """Raise GrowthError unless the grown model turns pair `copies * j` as the source turns pair j, at every length."""
    source, target = _frequencies(layout, layout.config), _frequencies(layout, config)
    for rope in _ropes(layout.config):
        kind = rope.get("rope_type", rope.get("type"))
        if kind in ("dynamic", "longrope"):
            raise GrowthError(
                f"head_dim cannot grow with rotary positions of type {kind!r}: the angles of long inputs would differ."
            )
    for name, values in source.items():
        if not torch.equal(target[name][..., ::copies], values):
            raise GrowthError(
                f"head_dim cannot grow by {copies}: the frequencies of {name} would not contain the source's. Rotary "
                f"positions of type yarn are kept with truncate set to false alone."
            )


def _frequencies(layout: ModelLayout, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    model = ModelClass(FAMILIES[layout.model_type], layout.architecture, config).empty_model()
    return {name: values for name, values in model.named_buffers() if name.endswith("inv_freq")}


def _ropes(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The objects of a config that say how positions turn heads."""
    held = [config[key] for key in ("rope_scaling", "rope_parameters") if isinstance(config.get(key), dict)]
    return [*held, *(value for found in held for value in found.values() if isinstance(value, dict))]
