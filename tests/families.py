"""Tiny random models of every supported family, for the tests of all parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from growkernels.plans import TensorSpec

#: The plain variant of each family: two layers, four heads of eight features, all sizes different.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {
        "architecture": "LlamaForCausalLM",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 97,
        "max_position_embeddings": 64,
    },
    "qwen3": {
        "architecture": "Qwen3ForCausalLM",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 97,
        "max_position_embeddings": 64,
    },
    "gemma": {
        "architecture": "GemmaForCausalLM",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 97,
        "max_position_embeddings": 64,
    },
    "gpt2": {
        "architecture": "GPT2LMHeadModel",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "vocab_size": 97,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "gpt_neox": {
        "architecture": "GPTNeoXForCausalLM",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 97,
        "max_position_embeddings": 64,
    },
    "bert": {
        "architecture": "BertForMaskedLM",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 97,
        "max_position_embeddings": 64,
    },
}

#: What varies within a family; the empty variant is the plain one.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "llama": {
        "plain": {},
        "tied": {"tie_word_embeddings": True},
        "biases": {"attention_bias": True, "mlp_bias": True},
        "mha": {"num_key_value_heads": 4},
        "mqa": {"num_key_value_heads": 1},
        "wide_heads": {"head_dim": 16, "tie_word_embeddings": True},
        "base": {"architecture": "LlamaModel"},
        "classifier": {"architecture": "LlamaForSequenceClassification", "pad_token_id": 0},
    },
    "qwen3": {"plain": {}, "tied": {"tie_word_embeddings": True}, "biases": {"attention_bias": True}},
    "gemma": {"plain": {}, "mqa": {"num_key_value_heads": 1}, "untied": {"tie_word_embeddings": False}},
    "gpt2": {
        "plain": {},
        "untied": {"tie_word_embeddings": False},
        "inner": {"n_inner": 40},
        "base": {"architecture": "GPT2Model"},
    },
    "gpt_neox": {
        "plain": {},
        "tied": {"tie_word_embeddings": True},
        "serial": {"use_parallel_residual": False},
        "no_bias": {"attention_bias": False},
    },
    "bert": {
        "plain": {},
        "base": {"architecture": "BertModel"},
        "pretraining": {"architecture": "BertForPreTraining"},
        "classifier": {"architecture": "BertForSequenceClassification", "num_labels": 3},
        "untied": {"tie_word_embeddings": False},
    },
}


def variants() -> list[tuple[str, str]]:
    """Every (family, variant), for `pytest.mark.parametrize`."""
    return [(family, name) for family, named in VARIANTS.items() for name in named]


def make_model(family: str, *, seed: int = 0, **variant: Any) -> tuple[PreTrainedConfig, PreTrainedModel]:
    """A tiny model with random weights, biases and norms, float32, in eval mode.

    `variant` overrides keys of the family's config; `architecture` chooses the class. Weights have a variance of about one
    over their fan-in, biases and norms differ from feature to feature, so that no permutation goes unseen.
    """
    settings = {**FAMILIES.get(family, {}), **variant}
    architecture = settings.pop("architecture")
    config = AutoConfig.for_model(family, architectures=[architecture], **settings)
    generator = torch.Generator().manual_seed(seed)
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            elif name.endswith("bias"):
                parameter.copy_(noise * 0.1)
            else:
                parameter.add_(noise * 0.2)
    return config, model


def make_variant(family: str, variant: str, *, seed: int = 0, **extra: Any) -> tuple[PreTrainedConfig, PreTrainedModel]:
    """`make_model` of a named variant."""
    return make_model(family, seed=seed, **{**VARIANTS[family][variant], **extra})


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, TensorSpec]]:
    """The stored config and tensors of a saved model, in the order of `model.safetensors`."""
    config = json.loads((folder / "config.json").read_text())
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
    return config, {
        name: TensorSpec(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in tensors.items()
    }
