"""Configs that no model has: refused by their numbers and kinds, before anything is built from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedConfig

from growkernels.errors import GrowthError
from growkernels.layouts.checks import check_layers
from growkernels.layouts.family import Family
from growkernels.layouts.keys import LABELS, LAYER_LISTS, LAYER_NUMBERS

#: transformers makes lists as long as these say, over and over.
_MOST_LAYERS, _MOST_LABELS = 100_000, 100_000
_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
_MOST_VALUES = 100_000
#: Keys that some families set layer by layer and others once.
_MAY_BE_NUMBERS = ("intermediate_size", "activation_sparsity_pattern")


def check_config(family: Family, config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise GrowthError for a config whose lists would take for ever to build, or are no lists.

    names: those of the stored tensors.
    """
    for key, value in config.items():
        if "layers" in key and isinstance(value, int) and value > _MOST_LAYERS:
            check_layers(family, names, value)
    for key in LABELS:
        value = config.get(key)
        count = len(value) if isinstance(value, dict | list) else value
        if isinstance(count, int) and count > _MOST_LABELS:
            raise _refused(key, count, f"more than {_MOST_LABELS:,} labels are not supported")
        if key != "num_labels" and value is not None:
            _check_labels(key, value)
    if _has_more_values(config, _MOST_VALUES):
        raise GrowthError(f"config.json holds more than {_MOST_VALUES:,} values, which no config has. Correct it.")
    for key in (*LAYER_LISTS, *LAYER_NUMBERS):
        value = config.get(key)
        if value is not None and not isinstance(value, list) and key not in _MAY_BE_NUMBERS:
            raise _refused(key, value, "expected a list")
    for key in LAYER_NUMBERS:
        if not all(type(number) is int for number in config.get(key) or ()):
            raise _refused(key, config[key], "expected a list of layer numbers")


def check_sizes(config: PreTrainedConfig, sizes: Mapping[str, int], count: int) -> None:
    """Raise GrowthError for sizes that contradict each other where no class says so before it runs.

    config: that of the text model; count: of layers.
    """
    heads, kv_heads = sizes.get("heads", 1), sizes.get("kv_heads", 1)
    if heads % kv_heads:
        raise GrowthError(
            f"config.json gives {heads} attention heads and {kv_heads} key and value heads: the first must be a multiple of "
            f"the second. Correct config.json."
        )
    own = vars(config)
    for key in LAYER_LISTS:
        value = own.get(key)
        if isinstance(value, list) and len(value) < count:
            raise _refused(key, value, f"it has {len(value)} entries for {count} layers")
    groups, experts = own.get("n_group"), next((own[key] for key in _EXPERTS if key in own), None)
    if isinstance(groups, int) and isinstance(experts, int) and groups > 1 and experts // groups < 2:
        raise _refused("n_group", groups, f"of {experts} experts, a group has fewer than the two that it is chosen by")


def _check_labels(key: str, labels: object) -> None:
    """As transformers checks them, which is left out for many labels (`knobs.FEW_LABELS`)."""
    if not isinstance(labels, dict):
        raise _refused(key, labels, "expected an object")
    if key == "id2label":
        sound = all(number.lstrip("-").isdecimal() and isinstance(name, str) for number, name in labels.items())
    else:
        sound = all(isinstance(number, int | str) for number in labels.values())
    if not sound:
        raise _refused(key, labels, "expected numbers and names")


def _has_more_values(config: Mapping[str, Any], most: int) -> bool:
    """Whether there are more values than `most` in all objects and lists together, labels apart."""
    count, holders = 0, [[value for key, value in config.items() if key not in LABELS]]
    while holders and count <= most:
        holder = holders.pop()
        count += len(holder)
        holders += [list(v.values()) if isinstance(v, dict) else v for v in holder if isinstance(v, dict | list)]
    return count > most


def _refused(key: str, value: object, why: str) -> GrowthError:
    shown = f"{value:,}" if isinstance(value, int) and value < 10**30 else f"a {type(value).__name__}"
    return GrowthError(f"config.json sets {key} to {shown}: {why}. Correct config.json.")
