"""The config of the grown model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from growkernels.layouts.base import ModelLayout, Symbol
from growkernels.layouts.families import FAMILIES, LAYER_COUNTS, LAYER_LISTS, LAYER_NUMBERS, Family
from growkernels.layouts.knobs import RUNTIME_KEYS, config_object, quiet, set_key, set_sizes


@quiet()
def grow_config(
    layout: ModelLayout, ratios: Mapping[Symbol, int], layer_index: Sequence[int], untie: bool, dtype: str | None
) -> dict[str, Any]:
    """The target's `config.json`.

    `ratios` multiply the sizes (1 where not given), in the stored keys; `layer_index[i]` is the source layer of target
    layer i; `untie` gives the LM head its own weights; `dtype` is torch's name of the new storage dtype, None to keep it.
    Other keys are kept, but for how attention is computed at run time, and the layout's config is not changed. Raises
    GrowthError for sizes that the class cannot have.
    """
    family = FAMILIES[layout.model_type]
    config = {key: copy.deepcopy(value) for key, value in layout.config.items() if key not in RUNTIME_KEYS}
    set_layers(family, config, layer_index)
    sizes = dict(layout.sizes)
    for symbol in sizes.keys() & ratios.keys():
        sizes[symbol] *= ratios[symbol]
    set_sizes(family, config, sizes)
    if layout.tied_head:
        # Releases differ in the default, so it is written even where the source left it out.
        config["tie_word_embeddings"] = not untie
    if dtype is not None:
        stored = [key for key in ("dtype", "torch_dtype") if key in config] or ["dtype"]
        config.update(dict.fromkeys(stored, dtype))
    return config


def set_layers(family: Family, config: dict[str, Any], layer_index: Sequence[int]) -> None:
    """Let the layer count, and everything that the config says layer by layer, follow the layers."""
    loaded = config_object(family, config)
    for key, layer_by_layer in LAYER_COUNTS.items():
        count, kinds = getattr(loaded, key, None), getattr(loaded, layer_by_layer, None)
        if count is None or kinds is None:
            continue  # a key that the class does not know
        if len(set(kinds)) > 1 and not config.get(layer_by_layer):
            # A count can only say "the first so many": the grown order needs the list.
            config[layer_by_layer] = list(kinds)
        first = [source < count for source in layer_index]
        if key in config and first == sorted(first, reverse=True):
            config[key] = sum(first)
    for key in LAYER_LISTS:
        if config.get(key):
            config[key] = [config[key][source] for source in layer_index]
    for key in LAYER_NUMBERS:
        if config.get(key):
            config[key] = [target for target, source in enumerate(layer_index) if source in config[key]]
    set_key(family, config, family.layers, len(layer_index))
