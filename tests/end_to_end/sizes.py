"""Small models of many families, and the error of a growth to other sizes, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from growkernels.verification.logits import outputs
from tests.end_to_end.support import all_in_float64, load, tokens
from tests.families import make_model

#: Rounding of float64 through two layers; the errors measured are below 3e-15.
BOUND = 1e-11

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def logits_of(folder: Path, ids: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, and the logits of the stock model of a checkpoint in float64, all its casts left out."""
    model = load(folder, torch.float64)
    model.config._experts_implementation = "eager"  # the other one has no kernel for float64
    ids = tokens(model, 2, 24) if ids is None else ids
    with all_in_float64():
        return ids, outputs(model, ids)["logits"]


def error(source: Path, target: Path) -> float:
    """Largest difference of the logits of the source's tokens, over the largest logit."""
    ids, wanted = logits_of(source)
    _, found = logits_of(target, ids)
    return float((found[..., : wanted.shape[-1]] - wanted).abs().max() / wanted.abs().max())


_PLAIN = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 20}
_GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 5}
#: Class and keys of further families whose streams are known.
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("MistralForCausalLM", {"head_dim": 8}),
    "mixtral": ("MixtralForCausalLM", {"head_dim": 8, "num_local_experts": 4}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", {**_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 24}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**_EXPERTS, "num_experts": 4, "head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", _GEMMA),
    "gemma3_text": ("Gemma3ForCausalLM", _GEMMA),
    "phi3": ("Phi3ForCausalLM", {}),
    "granite": ("GraniteForCausalLM", {}),
    "smollm3": ("SmolLM3ForCausalLM", {}),
    "gpt_oss": ("GptOssForCausalLM", {"head_dim": 8, "num_local_experts": 4}),
    "seed_oss": ("SeedOssForCausalLM", {"head_dim": 8}),
    "ministral": ("MinistralForCausalLM", {"head_dim": 8}),
    "glm": ("GlmForCausalLM", {"head_dim": 8}),
    "glm4": ("Glm4ForCausalLM", {"head_dim": 8}),
    "phi": ("PhiForCausalLM", {}),
    "opt": ("OPTForCausalLM", {"ffn_dim": 40, "word_embed_proj_dim": 32}),
    "cohere": ("CohereForCausalLM", {}),
    "starcoder2": ("Starcoder2ForCausalLM", {}),
}


#: Families whose positions are slopes by head.
ALIBI: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("BloomForCausalLM", {"n_layer": 2, "n_head": 4}),
    "mpt": ("MptForCausalLM", {"d_model": 32, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2}),
}


def make_other(family: str, folder: Path) -> None:
    """Save a model of one of these families, in float64."""
    architecture, keys = {**OTHERS, **ALIBI}[family]
    settings = {key: value for key, value in _PLAIN.items() if family != "opt" or key != "num_key_value_heads"}
    if family in ALIBI:
        settings = {key: _PLAIN[key] for key in ("hidden_size", "vocab_size", "bos_token_id", "eos_token_id")}
    _, model = make_model(family, architecture=architecture, **settings, **keys)
    model.double().save_pretrained(folder)
