"""The config of the grown model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, Ratio, Symbol
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import FAMILIES
from growkernels.layouts.knobs import RUNTIME_KEYS, config_object, find_knobs, quiet, reason_of
from growkernels.layouts.stacks import Stacks
from growkernels.layouts.turn import grown


@quiet()
def grow_config(
    layout: ModelLayout, ratios: Mapping[Symbol, Ratio], layer_index: Sequence[int], untie: bool, dtype: str | None
) -> dict[str, Any]:
    """The target's `config.json`.

    `ratios` multiply the sizes (1 where not given), in the stored keys; `layer_index[i]` is the source layer of target
    layer i; `untie` gives the LM head its own weights; `dtype` is torch's name of the new storage dtype, None to keep it.
    Other keys are kept, but for how attention is computed at run time, and the layout's config is not changed. Raises
    GrowthError for sizes that the class cannot have, and for orders of layers that its config cannot say.
    """
    family = FAMILIES[layout.model_type]
    deepened = list(layer_index) != list(range(layout.num_layers))
    config = {key: copy.deepcopy(value) for key, value in layout.config.items() if key not in RUNTIME_KEYS}
    source = config_object(family, config)
    if deepened and (reason := reason_of(family.depth_refusal, source)):
        raise GrowthError(f"the layers of {layout.model_type} cannot be others: {reason}.")
    knobs = find_knobs(family, source)
    loaded = grown(family, config, source, knobs, layout.sizes, ratios, layout.num_layers, layer_index)
    if deepened and len(set(layout.layer_kinds)) > 1:
        _check_layers(layout, ratios, ModelClass.from_config(family, layout.architecture, loaded), layer_index)
    if layout.tied_head:
        # Releases differ in the default, so it is written even where the source left it out. Some classes tie all the same.
        if untie or config.get("tie_word_embeddings") is not False:
            config["tie_word_embeddings"] = not untie
        if untie and family.build is None and config_object(family, config).tie_word_embeddings:
            raise GrowthError(
                f"{layout.architecture} ties its LM head whatever the config says; grow it without untie."
            )
    if dtype is not None:
        stored = [key for key in ("dtype", "torch_dtype") if key in config] or ["dtype"]
        config.update(dict.fromkeys(stored, dtype))
    return config


def check_shapes(layout: ModelLayout, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise GrowthError unless the class of the grown config has the target's tensors in these shapes.

    `shapes` are by the names in the file. What whole copies make was seen when the axes were read; other sizes may be more
    than the class can hold, or may move what the config does not size.
    """
    family = FAMILIES[layout.model_type]
    target = ModelClass(family, layout.architecture, config)
    for name, shape in shapes.items():
        place = target.find(name)[0]
        held = target.files.get(target.cut_name(name))
        if held is None and place.parameter not in target.parameters:
            continue  # of a class that this one is a part of
        wanted = held[0] if held is not None else target.parameters[place.parameter].shape
        if wanted != shape:
            raise GrowthError(
                f"{name} would have the shape {list(shape)}, and {layout.architecture} wants {list(wanted)} with these sizes: "
                f"they do not grow by themselves in a {layout.model_type}."
            )


def _check_layers(
    layout: ModelLayout, ratios: Mapping[Symbol, Ratio], target: ModelClass, layer_index: Sequence[int]
) -> None:
    """Raise GrowthError unless every layer of the target has the tensors of the source layer that it is drawn from."""
    stacks = Stacks(layout.stacks)
    held: list[dict[str, tuple[int, ...] | None]] = [{} for _ in range(layout.num_layers)]
    for name in layout.ties:
        group, layer = stacks.split(name)
        if layer is not None:
            held[layer][group] = None
    for tensor in layout.tensors.values():
        if tensor.layer is not None:
            for place in tensor.places:
                held[tensor.layer][stacks.split(place.parameter)[0]] = None
            if not tensor.places:
                shape = tuple(int(sum(p.size * ratios.get(p.symbol, 1) for p in axis.parts)) for axis in tensor.axes)
                held[tensor.layer][stacks.split(tensor.parameter)[0]] = shape
    built: list[dict[str, tuple[int, ...]]] = [{} for _ in layer_index]
    buffers = set()
    for name, parameter in target.parameters.items():
        group, layer = stacks.split(name)
        if layer is not None:
            built[layer][group] = parameter.shape
            if parameter.module == "buffer":
                buffers.add(group)
    for layer, source in enumerate(layer_index):
        # Buffers need not be stored.
        differ = sorted((held[source].keys() ^ built[layer].keys()) - (buffers - held[source].keys()))
        differ += [n for n, s in held[source].items() if s is not None and n in built[layer] and built[layer][n] != s]
        if differ:
            what = differ[0].replace("{}", str(layer), 1)
            how = "of another shape" if differ[0] in built[layer] and differ[0] in held[source] else "alone"
            raise GrowthError(
                f"layer {layer} of the target is to be layer {source} of the source, and one of the two has {what} {how}: "
                f"the config cannot say this order. Keep each layer in a place of its kind: "
                f"by whole copies of the stack, or by block."
            )
