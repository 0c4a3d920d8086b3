"""The target's shape: from its config, without weights or a download, or guessed from its size; beside known good models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log
from pathlib import Path
from typing import Any

from growkernels.errors import GrowthError

_LAYER = re.compile(r"\.(\d+)\.")
_LAYERS_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HIDDEN_KEYS = ("hidden_size", "n_embd", "d_model", "dim")
#: Layers beyond which no module is built to count them.
_MOST_LAYERS = 2000
#: Parameters of a layer by the square of its hidden size: 4 in attention, 8 in the feed-forward part.
_PER_LAYER = 12
_ASPECT = 128

#: Layers and hidden size of released models.
KNOWN_MODELS: dict[str, tuple[int, int]] = {
    "GPT-2": (12, 768),
    "GPT-2 medium": (24, 1024),
    "GPT-2 XL": (48, 1600),
    "SmolLM2-360M": (32, 960),
    "Pythia-410M": (24, 1024),
    "Qwen3-0.6B": (28, 1024),
    "Llama-3.2-1B": (16, 2048),
    "Pythia-1.4B": (24, 2048),
    "Qwen3-1.7B": (28, 2048),
    "Pythia-2.8B": (32, 2560),
    "Llama-3.2-3B": (28, 3072),
    "Qwen3-4B": (36, 2560),
    "Llama-2-7B": (32, 4096),
    "Qwen3-8B": (36, 4096),
    "Llama-2-13B": (40, 5120),
    "Qwen3-32B": (64, 5120),
    "Llama-2-70B": (80, 8192),
    "Llama-3.1-405B": (126, 16384),
}


@dataclass(frozen=True, slots=True)
class Target:
    """The model that is to be trained.

    Attributes:
        parameters: Without token and position embeddings and without a head: the N of the scaling laws.
        embeddings: Parameters of embeddings and head.
        active: As `parameters`, but of each stack of experts only those that answer a token.
        head: Parameters of the head's product, tied or not; they cost FLOPs, lookups do not.
        layers: Number of layers.
        hidden: Width of the residual stream.
        in_layers: Parameters of each layer, in order.
        layers_key: The config's key for the number of layers.
        bytes_each: Bytes of a stored parameter.
        guessed: Whether layers and hidden size are guessed from the number of parameters.
    """

    parameters: float
    embeddings: float
    active: float
    head: float
    layers: int
    hidden: int
    in_layers: tuple[float, ...]
    layers_key: str
    bytes_each: int
    guessed: bool

    @property
    def stored(self) -> float:
        """All parameters of the checkpoint."""
        return self.parameters + self.embeddings


def target_of_size(parameters: float) -> Target:
    """A usual shape for that many parameters: hidden size about 128 times the layers, as in most models above 1 B.

    Args:
        parameters: Without embeddings.

    Returns:
        The target, marked as guessed; embeddings are unknown and count as none.
    """
    layers = _multiple((parameters / (_PER_LAYER * _ASPECT**2)) ** (1 / 3), 4)
    hidden = _multiple((parameters / (_PER_LAYER * layers)) ** 0.5, 64)
    each = (parameters / layers,) * layers
    return Target(parameters, 0, parameters, 0, layers, hidden, each, "num_hidden_layers", 2, guessed=True)


def _multiple(value: float, of: int) -> int:
    return max(1, round(value / of)) * of


def read_config(path: str | Path) -> dict[str, Any]:
    """The JSON of a `config.json`, named itself or by its folder. Raises GrowthError if there is none."""
    file = Path(path).expanduser()
    file = file / "config.json" if file.is_dir() else file
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise GrowthError(
            f"the config {path} cannot be read: {error.strerror}; name a config.json or its folder."
        ) from error
    except (ValueError, RecursionError) as error:
        raise GrowthError(f"{file} is no valid JSON: {error}; name the config.json of a Hugging Face model.") from error
    if not isinstance(value, dict) or not isinstance(value.get("model_type"), str):
        raise GrowthError(
            f"{file} is no model's config: it has no model_type; name the config.json of a Hugging Face model."
        )
    return value


def target_of_config(config: Mapping[str, Any]) -> Target:
    """The target that a config describes, counted on its class without allocating a weight.

    Args:
        config: The JSON of `config.json`.

    Returns:
        The target.

    Raises:
        GrowthError: transformers does not know the model, or cannot build it.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    given = dict(config)
    model_type = given.pop("model_type")
    if given.get("auto_map"):
        raise GrowthError(
            f"{model_type} needs code of its own (auto_map), and remote code is never run; give --target-params."
        )
    _check_layers(given)
    try:
        loaded = AutoConfig.for_model(model_type, **given)
        text = loaded.get_text_config()
        with torch.device("meta"):
            try:
                model = AutoModelForCausalLM.from_config(loaded)
            except ValueError:  # no causal language model: an encoder, for one
                model = AutoModel.from_config(loaded)
    except Exception as error:  # configs of any content raise anything
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise GrowthError(
            f"transformers cannot build a {model_type} from this config ({reason}); correct it, or give --target-params."
        ) from error
    return _count(model, text)


def _check_layers(config: Mapping[str, Any]) -> None:
    for key in _LAYERS_KEYS:
        layers = config.get(key)
        if isinstance(layers, int) and not 1 <= layers <= _MOST_LAYERS:
            raise GrowthError(f"{key} is {layers}; expected 1 to {_MOST_LAYERS} layers.")


def _count(model: Any, config: Any) -> Target:
    from torch import nn

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    outside = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    outside |= {id(p) for p in head.parameters()} if head is not None else set()
    layers_key, layers = _knob(config, _LAYERS_KEYS)
    _, hidden = _knob(config, _HIDDEN_KEYS)
    in_layers = [0.0] * layers
    parameters = embeddings = active = 0.0
    share = _active_share(config)
    for name, parameter in model.named_parameters():
        if id(parameter) in outside:
            embeddings += parameter.numel()
            continue
        parameters += parameter.numel()
        active += parameter.numel() * (share if ".experts." in name else 1.0)
        match = _LAYER.search(name)
        if match and int(match[1]) < layers:
            in_layers[int(match[1])] += parameter.numel()
    if not parameters:
        raise GrowthError("the config describes a model without parameters beside its embeddings; correct it.")
    product = embedding.weight.numel() if head is not None else 0
    bytes_each = {"float32": 4, "float64": 8}.get(str(config.dtype).removeprefix("torch."), 2)
    return Target(
        parameters, embeddings, active, product, layers, hidden, tuple(in_layers), layers_key, bytes_each, guessed=False
    )


def _knob(config: Any, keys: tuple[str, ...]) -> tuple[str, int]:
    for key in keys:
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return key, value
    raise GrowthError(f"the config has none of {', '.join(keys)}; give --target-params instead.")


def _active_share(config: Any) -> float:
    for experts in ("num_local_experts", "num_experts", "n_routed_experts"):
        count, chosen = getattr(config, experts, None), getattr(config, "num_experts_per_tok", None)
        if count and chosen:
            return min(1.0, chosen / count)
    return 1.0


def nearest_models(layers: int, hidden: int, number: int = 3) -> list[tuple[str, int, int]]:
    """The known models nearest in size: name, layers, hidden size, the nearest first.

    Args:
        layers: Of the target.
        hidden: Of the target.
        number: How many are wanted.
    """

    def apart(shape: tuple[int, int]) -> float:
        size = shape[0] * shape[1] ** 2
        return abs(log(size / (layers * hidden**2))) if size else inf

    rows = sorted(KNOWN_MODELS.items(), key=lambda item: apart(item[1]))
    return [(name, *shape) for name, shape in rows[:number]]
