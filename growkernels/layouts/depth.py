"""What a config says layer by layer, and what it must say once the layers are others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

from growkernels.errors import GrowthError
from growkernels.layouts.keys import CYCLES, FIRST_LAYERS, LAST_LAYERS, LAST_NUMBER, LAYER_LISTS, LAYER_NUMBERS
from growkernels.layouts.knobs import OVERRIDES, Knobs, read, read_overrides, text_config


def layered(loaded: PreTrainedConfig, knobs: Knobs, count: int, index: Sequence[int]) -> dict[str, Any]:
    """What each key that speaks of layers must hold when target layer i is source layer `index[i]`.

    `count` is the number of source layers. Raises GrowthError for an order that the config cannot say, with those it can.
    """
    values: dict[str, Any] = {}
    for path in knobs.layers:
        held = read(loaded, path)
        if isinstance(held, (list, tuple)):
            values[path] = [held[source] for source in index]
        elif held == count:
            values[path] = len(index)
    own = vars(text_config(loaded))
    overrides = read_overrides(own)
    if overrides:
        values[knobs.text + OVERRIDES] = {
            str(target): overrides[str(source)] for target, source in enumerate(index) if str(source) in overrides
        }
    for key, value in own.items():
        path = knobs.text + key
        if isinstance(value, tuple):
            value = list(value)
        if key in LAYER_LISTS and isinstance(value, list) and len(value) >= count:
            # What is over is of heads that predict further tokens, behind the layers.
            values[path] = [*(value[source] for source in index), *value[count:]]
        elif key in CYCLES and isinstance(value, list) and value:
            kinds = [value[source % len(value)] for source in index]
            values[path] = value if kinds == [value[i % len(value)] for i in range(len(index))] else kinds
        elif key in LAYER_NUMBERS and isinstance(value, list):
            first = LAYER_NUMBERS[key]
            values[path] = [target + first for target, source in enumerate(index) if source + first in value]
        elif key in FIRST_LAYERS and isinstance(value, int) and hasattr(type(text_config(loaded)), key):
            # Configs written for several families have keys that the class does not read: those stay as they are.
            said = _first_layers(loaded, knobs, key, value, index)
            if said is not None:
                values[path] = said
        elif key in LAST_LAYERS and isinstance(value, int) and value:
            values[path] = _last_layers(key, value, value, count, index)
        elif key == LAST_NUMBER and isinstance(value, int):
            values[path] = len(index) - 1 - _last_layers(key, value, count - 1 - value, count, index)
    return values


def _last_layers(key: str, value: int, number: int, count: int, index: Sequence[int]) -> int:
    """How many of the target's layers are drawn from the last `number` of `count`."""
    last = [source >= count - number for source in index]
    if last != sorted(last):
        raise GrowthError(
            f"config.json can only say that the last layers ({key} = {value}) differ from the others; name those drawn from "
            f"layers {count - number} to {count - 1} last."
        )
    return sum(last)


def _first_layers(loaded: PreTrainedConfig, knobs: Knobs, key: str, value: int, index: Sequence[int]) -> int | None:
    """The count of first layers of a kind among the target's; None where a list says it instead."""
    first = [source < value for source in index]
    if first == sorted(first, reverse=True):
        return sum(first)
    listed = FIRST_LAYERS[key]
    if listed is not None and isinstance(read(loaded, knobs.text + listed), list):
        return None
    raise GrowthError(
        f"config.json can only say that the first layers ({key} = {value}) differ from the others; name those drawn from "
        f"layers 0 to {value - 1} first."
    )
