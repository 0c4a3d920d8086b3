"""Dense classes and the classes of experts that compute the same otherwise: their names and config keys."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import FAMILIES
from growkernels.layouts.knobs import config_object, quiet, read

#: The projections of dense feed-forward networks, and what each is: all classes here have these names.
PROJECTIONS = {"mlp.gate_proj.weight": "gate", "mlp.up_proj.weight": "up", "mlp.down_proj.weight": "down"}
_QWEN = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


@dataclass(frozen=True, slots=True)
class Mixture:
    """A class of experts: its type, the first part of its classes' names, and how its files and config call things.

    `block` is the module that stands where the dense network did, `parts` are the names of an expert's projections. `size` is
    the key of an expert's ffn size, `count` that of their number. `values` are written as they are. `shared`: the module of a
    shared expert, which `shared_size` sizes and a sigmoid gate weighs.
    """

    model_type: str
    stem: str
    block: str
    parts: Mapping[str, str]
    size: str
    count: str
    values: Mapping[str, Any] = field(default_factory=dict)
    shared: str = ""
    shared_size: str = ""


_SUMS_TO_ONE = {"norm_topk_prob": True}
_MIXTRAL = Mixture(
    "mixtral",
    "Mixtral",
    "block_sparse_moe",
    {"gate": "w1", "up": "w3", "down": "w2"},
    "intermediate_size",
    "num_local_experts",
)
_ALL_LAYERS = {"decoder_sparse_step": 1, "mlp_only_layers": []}
#: By the dense type.
MIXTURES: dict[str, Mixture] = {
    "llama": _MIXTRAL,
    "mistral": _MIXTRAL,
    "qwen3": Mixture(
        "qwen3_moe",
        "Qwen3Moe",
        "mlp",
        _QWEN,
        "moe_intermediate_size",
        "num_local_experts",
        _SUMS_TO_ONE | _ALL_LAYERS,
    ),
    "qwen2": Mixture(
        "qwen2_moe",
        "Qwen2Moe",
        "mlp",
        _QWEN,
        "moe_intermediate_size",
        "num_experts",
        _SUMS_TO_ONE | _ALL_LAYERS,
        "shared_expert",
        "shared_expert_intermediate_size",
    ),
    "olmo2": Mixture("flex_olmo", "FlexOlmo", "mlp", _QWEN, "intermediate_size", "num_experts", _SUMS_TO_ONE),
}


def find_mixture(layout: ModelLayout) -> Mixture:
    """The class that a dense model becomes. Raises GrowthError where there is none that computes the same."""
    mixture = MIXTURES.get(layout.model_type)
    if mixture is None:
        targets = ", ".join(f"{dense} into {found.model_type}" for dense, found in MIXTURES.items())
        raise GrowthError(
            f"moe: {layout.model_type} has no class of experts that computes the same; {targets} can be made."
        )
    loaded = config_object(FAMILIES[layout.model_type], layout.config)
    if biases := [name for name in layout.tensors if ".mlp." in name and name.endswith(".bias")]:
        raise GrowthError(f"moe: {biases[0]} is a bias, and experts of {mixture.model_type} have none.")
    kinds = read(loaded, "layer_types")
    if mixture.model_type == "qwen3_moe" and isinstance(kinds, list) and "sliding_attention" in kinds:
        raise GrowthError(
            "moe: layers differ in attention (sliding windows), which the config of qwen3_moe cannot say."
        )
    return mixture


@quiet()
def mixture_config(
    layout: ModelLayout, mixture: Mixture, config: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The config of the class of experts that has everything of a dense one's, and `values`.

    Raises GrowthError where that class has other tensors than the dense one beside the experts.
    """
    dense = config_object(FAMILIES[layout.model_type], config)
    # With what is not stored because it is the dense class's default: that of the other class may differ.
    full = json.loads(dense.to_json_string(use_diff=False))
    known = vars(CONFIG_MAPPING[mixture.model_type]())
    # What every config has is only written where it was.
    general = vars(PreTrainedConfig()).keys() - config.keys() - {"tie_word_embeddings"}
    kept = {key: value for key, value in full.items() if key in known and key not in general}
    architecture = (
        mixture.stem + layout.architecture[layout.architecture.index("For") :] if "For" in layout.architecture else ""
    )
    if not hasattr(transformers, architecture):
        raise GrowthError(
            f"moe: {mixture.model_type} has no class for {layout.architecture}; grow a ForCausalLM model."
        )
    made = {**kept, **mixture.values, **values, "model_type": mixture.model_type, "architectures": [architecture]}
    made |= {key: copy.deepcopy(config[key]) for key in ("dtype", "torch_dtype") if key in config}
    family = FAMILIES[mixture.model_type]
    loaded = config_object(family, made)
    for key in values:
        if read(loaded, key) != made[key]:
            raise GrowthError(
                f"{mixture.model_type} reads {key} as {read(loaded, key)!r}, where {made[key]!r} is needed."
            )
    _check_tensors(layout, mixture, ModelClass(family, architecture, made))
    return made


def _check_tensors(layout: ModelLayout, mixture: Mixture, built: ModelClass) -> None:
    """Raise GrowthError unless the tensors that are no feed-forward networks are those of both classes."""
    for tensor in layout.tensors.values():
        if tensor.group.endswith(tuple(PROJECTIONS)):
            continue
        if any(place.parameter not in built.parameters for place in built.find(tensor.name)):
            raise GrowthError(f"moe: {tensor.name} has no place in {built.architecture}, which has no such tensor.")
