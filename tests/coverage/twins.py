"""Tiny random twins of every causal language model of transformers, and of some encoders: configs, weights, inputs."""

from __future__ import annotations

import copy
import math
import re
from inspect import signature
from typing import Any

import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.pytorch_utils import Conv1D

from tests.coverage.sizes import (
    CLASSES,
    CONFIGS,
    DROP,
    EVEN_NULL,
    LAYERS,
    NEEDS,
    SINGLE,
    SIZES,
    TEXT_ONLY,
    VARIANTS,
)


def names() -> tuple[str, ...]:
    """Every twin: the causal language models of the installed transformers, then encoders, then variants."""
    return tuple(dict.fromkeys((*CAUSAL, *CLASSES, *VARIANTS)))


def architecture(name: str) -> str:
    """The class of a twin."""
    base = name.partition("@")[0]
    return CLASSES.get(name) or CLASSES.get(base) or CAUSAL[base]


def make_config(name: str, **changes: Any) -> PreTrainedConfig:
    """The tiny config of a twin; `changes` are keys of it."""
    base = name.partition("@")[0]
    kind = CONFIG_MAPPING[CONFIGS.get(base, base)]
    needs = {**NEEDS.get(base, {}), **VARIANTS.get(name, {})}
    config = kind(**{**_tiny(kind(), needs), **changes})
    if base in TEXT_ONLY:
        config = config.get_text_config()
        for key, value in changes.items():
            setattr(config, key, value)
    config.architectures = [architecture(name)]
    return config


def _tiny(default: PreTrainedConfig, needs: dict[str, Any]) -> dict[str, Any]:
    """Keywords of a config like the default one, with tiny sizes."""
    small: dict[str, Any] = {}
    stored = default.to_dict()
    for key, value in stored.items():
        if isinstance(value, dict) and key in default.sub_configs:
            own = needs.get(key, {})
            small[key] = {**_tiny(getattr(default, key), own), "model_type": value.get("model_type")}
        elif key in SIZES and (key in EVEN_NULL if value is None else not isinstance(value, (bool, list, dict))):
            small[key] = SIZES[key]
    for key, last_stays in (("layer_types", False), ("mlp_layer_types", True)):
        held = stored.get(key)
        if isinstance(held, list) and held:
            kinds = list(dict.fromkeys(held))
            places = [min(i, len(kinds) - 1) if last_stays else i % len(kinds) for i in range(LAYERS)]
            small[key] = [kinds[place] for place in places]
    nested = {key for key in needs if key in default.sub_configs}
    small |= {key: value for key, value in needs.items() if key not in nested}
    # Of dictionaries that are no configs of their own: as they are.
    for key in nested - small.keys():
        small[key] = needs[key]
    return {key: value for key, value in small.items() if value is not DROP}


def make_model(name: str, config: PreTrainedConfig) -> PreTrainedModel:
    """A twin in eval mode, float64 where its class can, with random weights, biases, norms and routers."""
    torch.manual_seed(0)
    config = copy.deepcopy(config)
    run_plainly(config)
    model = getattr(transformers, config.architectures[0])(config)
    if name.partition("@")[0] not in SINGLE:
        model = model.to(torch.float64)
    _randomize(model)
    return model.eval()


def run_plainly(config: PreTrainedConfig) -> None:
    """Let attention and experts run in plain PyTorch: fused ones do not take float64."""
    for part in (config, *(value for value in vars(config).values() if isinstance(value, PreTrainedConfig))):
        part._attn_implementation = "eager"
        part._experts_implementation = "eager"


@torch.no_grad()
def _randomize(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        module, noise = modules[name.rpartition(".")[0]], torch.randn(parameter.shape, generator=generator).double()
        if not torch.isfinite(parameter).all() or parameter.abs().max() > 1e4:
            parameter.zero_()
        if "norm" in type(module).__name__.lower():
            parameter.add_(0.25 * noise)
        elif re.search(r"(A_log|dt_bias|\.D$|^D$|time_decay|time_first|lambda_|recurrent_param|gamma)", name):
            parameter.add_(0.1 * noise)
        elif parameter.dim() <= 1:
            parameter.copy_(0.25 * noise)
        else:
            parameter.copy_(noise * _scale(module, parameter))
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))


def _scale(module: nn.Module, weight: torch.Tensor) -> float:
    """Standard deviation of a weight's entries: products keep the size of what goes in."""
    if isinstance(module, nn.Embedding):
        return 0.7
    if isinstance(module, Conv1D):
        return weight.shape[0] ** -0.5
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return math.prod(weight.shape[1:]) ** -0.5
    if weight.dim() == 3:
        return min(weight.shape[1:]) ** -0.5
    return weight.shape[-1] ** -0.5


def make_inputs(name: str, config: PreTrainedConfig, kind: str) -> dict[str, torch.Tensor]:
    """Held-out inputs of a class; ids are none of those that stand for images, sounds or the end."""
    generator = torch.Generator().manual_seed(7)

    def ids(count: int, length: int, most: int = 51, least: int = 13) -> torch.Tensor:
        return torch.randint(least, most, (count, length), generator=generator)

    if name == "vit":
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator).double()}
    if name.startswith("musicgen"):
        return {"input_ids": ids(4, 12, 50, 3)}
    text = config.get_text_config(decoder=True)
    accepted = signature(getattr(transformers, kind).forward).parameters
    tokens = ids(2, 12, min(getattr(text, "vocab_size", None) or 51, 51))
    if kind.endswith("ForSequenceClassification"):
        # One text, as not every class can tell padding; some read the last token that says where it ends.
        end = getattr(text, "eos_token_id", None)
        end = end[0] if isinstance(end, list) else end
        tokens = torch.cat([tokens[:1], torch.tensor([[2 if end is None or end > 50 else end]])], 1)
    if kind.endswith("ForMultipleChoice"):
        tokens = tokens[None]
    if kind.endswith("ForCausalLM") or "decoder_input_ids" not in accepted:
        return {"input_ids": tokens}
    start = {"decoder_input_ids": tokens.flip(0) if len(tokens) > 1 else tokens}
    if "input_features" in accepted:
        return {"input_features": torch.randn(2, 80, 40, generator=generator).double(), **start}
    return {"input_ids": tokens, **start}


@torch.no_grad()
def run(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits of a model, or its hidden states where it has no head."""
    try:
        output = model(**inputs, use_cache=False)
    except (TypeError, ValueError) as error:
        if "use_cache" not in str(error):
            raise
        output = model(**inputs)
    for key in ("logits", "prediction_logits", "start_logits", "last_hidden_state"):
        if getattr(output, key, None) is not None:
            return getattr(output, key)
    return output[0]
