"""Tiny models of experts, and how far a grown one is from its source as stock code reloads both, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from growkernels.executors import execute, open_source
from growkernels.layouts import discover
from growkernels.operators import GrowthOptions, make_plan
from growkernels.plans import Plan
from growkernels.verification.logits import load_model
from tests.end_to_end.support import all_in_float64

_SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "vocab_size": 51,
    "max_position_embeddings": 64,
}
_LATENT: dict[str, Any] = {
    "moe_intermediate_size": 20,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "head_dim": 4,
    "q_lora_rank": 10,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 6,
    "v_head_dim": 6,
    "first_k_dense_replace": 1,
}
_QWEN: dict[str, Any] = {"moe_intermediate_size": 20, "num_experts": 4, "num_experts_per_tok": 2}
#: By name: model type, then what is not as in `_SIZES`.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("qwen3_moe", {**_QWEN, "norm_topk_prob": True}),
    "qwen3_moe whole softmax": ("qwen3_moe", {**_QWEN, "norm_topk_prob": False}),
    "qwen2_moe": ("qwen2_moe", {**_QWEN, "shared_expert_intermediate_size": 28}),
    "deepseek_v3": ("deepseek_v3", {**_LATENT, "n_group": 2, "topk_group": 1, "num_key_value_heads": 4}),
    "deepseek_v3 unnormalized": (
        "deepseek_v3",
        {**_LATENT, "n_group": 2, "topk_group": 1, "num_key_value_heads": 4, "norm_topk_prob": False},
    ),
    "glm4_moe one group": ("glm4_moe", {**_LATENT, "n_group": 1, "topk_group": 1, "norm_topk_prob": True}),
    "gpt_oss": ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4_text": ("llama4_text", {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size_mlp": 28}),
    "ernie4_5_moe": (
        "ernie4_5_moe",
        {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 20, "moe_num_shared_experts": 1},
    ),
    "dbrx": (
        "dbrx",
        {
            "d_model": 24,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
            "ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 24},
        },
    ),
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "mistral": ("mistral", {"sliding_window": 5}),
    "qwen3": ("qwen3", {}),
    "qwen2": ("qwen2", {}),
    "olmo2": ("olmo2", {}),
}


def saved_model(folder: Path, name: str) -> Path:
    """A checkpoint of a tiny random model in float64; made once for each folder."""
    path = folder / name.replace(" ", "-")
    if path.exists():
        return path
    model_type, changes = MODELS[name]
    settings = {**(_SIZES if model_type != "dbrx" else {"vocab_size": 51}), **changes}
    if model_type in ("qwen2", "olmo2", "qwen2_moe"):
        del settings["head_dim"]
    config = AutoConfig.for_model(model_type, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*model.parameters(), *_corrections(model)):
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim > 1 and parameter.shape[0] > 1:
                parameter.copy_(drawn * min(parameter.shape[-2:]) ** -0.5)
            else:
                parameter.copy_(parameter + 0.25 * drawn)
    model.save_pretrained(path)
    return path


def _corrections(model: PreTrainedModel) -> list[torch.Tensor]:
    return [buffer for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]


def grown_model(source: Path, target: Path, **options: Any) -> Plan:
    """The source grown without staging and verification."""
    target.mkdir()
    opened = open_source(source)
    plan = make_plan(discover(opened.config, opened.tensors), GrowthOptions(**options))
    return execute(opened, plan, target)


def load_wide(folder: Path) -> PreTrainedModel:
    """The checkpoint by stock transformers, no tensor missing or unused, all of it in float64, experts one by one."""
    model, unmatched = load_model(folder, torch.float64)
    assert not unmatched
    return as_wide(model)


def as_wide(model: PreTrainedModel) -> PreTrainedModel:
    """All of a model in float64, with code whose casts can be patched."""
    model.set_attn_implementation("eager")
    model.config._experts_implementation = "eager"
    return model.double()


@contextmanager
def in_float64() -> Iterator[None]:
    """Casts of stock model code to float32 go to float64, those by `type` too."""
    convert = torch.Tensor.type

    def wide(self: torch.Tensor, dtype: Any = None, **kwargs: Any) -> Any:
        return convert(self, torch.float64 if dtype is torch.float32 else dtype, **kwargs)

    with all_in_float64(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "type", wide)
        yield


def logits(model: PreTrainedModel) -> torch.Tensor:
    """Of random tokens, float64."""
    ids = torch.randint(13, 51, (2, 12), generator=torch.Generator().manual_seed(5))
    with in_float64(), torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def error(source: Path | PreTrainedModel, target: Path | PreTrainedModel) -> float:
    """Largest difference of the logits over the source's largest."""
    wanted, found = (logits(load_wide(one) if isinstance(one, Path) else one) for one in (source, target))
    return float((found - wanted).abs().max() / wanted.abs().max())
