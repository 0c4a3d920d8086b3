"""The config of the grown model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, Symbol
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import FAMILIES
from growkernels.layouts.knobs import config_object, find_knobs, quiet
from growkernels.layouts.stacks import Stacks
from growkernels.layouts.turn import grown


@quiet()
def grow_config(
    layout: ModelLayout, ratios: Mapping[Symbol, int], layer_index: Sequence[int], untie: bool, dtype: str | None
) -> dict[str, Any]:
    """The target's `config.json`.

    `ratios` multiply the sizes (1 where not given), in the stored keys; `layer_index[i]` is the source layer of target
    layer i; `untie` gives the LM head its own weights; `dtype` is torch's name of the new storage dtype, None to keep it.
    Other keys are kept, and the layout's config is not changed. Raises GrowthError for sizes that the class cannot have,
    and for orders of layers that its config cannot say.
    """
    family = FAMILIES[layout.model_type]
    deepened = list(layer_index) != list(range(layout.num_layers))
    if deepened and family.depth_refusal:
        raise GrowthError(f"the layers of {layout.model_type} cannot be changed: {family.depth_refusal}.")
    config = copy.deepcopy(dict(layout.config))
    source = config_object(family, config)
    knobs = find_knobs(family, source)
    loaded = grown(family, config, source, knobs, layout.sizes, ratios, layout.num_layers, layer_index)
    if deepened and len(set(layout.layer_kinds)) > 1:
        _check_layers(layout, ModelClass.from_config(layout.architecture, loaded), layer_index)
    if layout.tied_head:
        # Releases differ in the default, so it is written even where the source left it out. Some classes tie all the same.
        if untie or config.get("tie_word_embeddings") is not False:
            config["tie_word_embeddings"] = not untie
        if untie and config_object(family, config).tie_word_embeddings:
            raise GrowthError(
                f"{layout.architecture} ties its LM head whatever the config says; grow it without untie."
            )
    if dtype is not None:
        stored = [key for key in ("dtype", "torch_dtype") if key in config] or ["dtype"]
        config.update(dict.fromkeys(stored, dtype))
    return config


def _check_layers(layout: ModelLayout, target: ModelClass, layer_index: Sequence[int]) -> None:
    """Raise GrowthError unless every layer of the target has the tensors of the source layer that it is drawn from."""
    stacks = Stacks(layout.stacks)
    held: dict[int, set[str]] = {}
    for tensor in layout.tensors.values():
        if tensor.layer is not None:
            for parameter in [place.parameter for place in tensor.places] or [tensor.parameter]:
                held.setdefault(tensor.layer, set()).add(stacks.split(parameter)[0])
    for name in layout.ties:
        group, layer = stacks.split(name)
        if layer is not None:
            held.setdefault(layer, set()).add(group)
    built: dict[int, set[str]] = {}
    for name, parameter in target.parameters.items():
        group, layer = stacks.split(name)
        if layer is not None and parameter.module != "buffer":
            built.setdefault(layer, set()).add(group)
    for layer, source in enumerate(layer_index):
        # Buffers need not be stored, and tied parameters are stored once.
        missing = sorted(built.get(layer, set()) - held.get(source, set()))
        lost = sorted(
            group
            for group in held.get(source, set()) - built.get(layer, set())
            if group.replace("{}", str(layer), 1) not in target.parameters
        )
        if missing or lost:
            what = f"no {lost[0]}" if lost else f"a {missing[0]}"
            raise GrowthError(
                f"layer {layer} of the target is to be layer {source} of the source, and has {what.replace('{}', str(layer))} "
                f"at that place: the config cannot say this order. Keep each layer in a place of its kind."
            )
