"""Building the class anew with its knobs turned: few layers of it, one of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from fractions import Fraction
from typing import Any, cast

from transformers import PreTrainedConfig

from growkernels.errors import GrowthError
from growkernels.layouts.base import Ratio, Symbol
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.depth import layered
from growkernels.layouts.family import Family
from growkernels.layouts.keys import SYMBOLS
from growkernels.layouts.knobs import OVERRIDES, Knobs, held_size, read, scaled, settle, sized, text_config
from growkernels.layouts.probe import POSITIONS, ways_to_turn
from growkernels.layouts.stacks import Stacks


def grown(
    family: Family,
    config: dict[str, Any],
    loaded: PreTrainedConfig,
    knobs: Knobs,
    sizes: Mapping[str, int],
    ratios: Mapping[Symbol, Ratio],
    count: int,
    index: Sequence[int],
    positions: int = 1,
) -> PreTrainedConfig:
    """Write the sizes times `ratios` and the layers `index` of `count` into `config`, which is `loaded` as it is stored.

    Returns the config as transformers reads it now. Raises GrowthError for what the class cannot have.
    """
    values = sized(family, loaded, knobs, sizes, ratios)
    for path, value in layered(loaded, knobs, count, index).items():
        own = values.get(path)
        if path.endswith(OVERRIDES):
            value = {layer: _override(held, ratios) for layer, held in value.items()}
        values[path] = [own[source] for source in index] if isinstance(own, list) else value
    if positions != 1:
        values |= {path: read(loaded, path) * positions for path in knobs.positions}
    if family.derived is not None:
        values |= family.derived(text_config(loaded), ratios, len(index))
    return settle(family, config, values, held_size(family, knobs, sizes))


def _override(held: Mapping[str, Any], ratios: Mapping[Symbol, Ratio]) -> dict[str, Any]:
    """What a single layer has other than the rest, times the ratios of what it counts."""
    return {key: scaled(value, ratios.get(SYMBOLS[key], 1)) if key in SYMBOLS else value for key, value in held.items()}


class Turned:
    """The class twice more, with every knob turned by factors of its own. Of its layers, `index` are kept."""

    def __init__(
        self, turns: Sequence[Mapping[str, int]], classes: list[ModelClass], index: tuple[int, ...], count: int
    ) -> None:
        #: What each knob is multiplied by. Axes that hold a block for each layer shrink with the layers.
        self.turns: list[dict[str, int | Fraction]] = [
            {**turn, "layers": Fraction(len(index), count)} for turn in turns
        ]
        self.classes = classes
        self.index = index


def turn(
    family: Family,
    architecture: str,
    config: Mapping[str, Any],
    loaded: PreTrainedConfig,
    knobs: Knobs,
    sizes: Mapping[str, int],
    stacks: Stacks,
    kinds: Sequence[int],
    whole: ModelClass,
) -> Turned:
    """Build the class with all knobs turned, in the most telling way that it accepts. Raises GrowthError if there is none."""
    count = len(kinds)
    one_of_each = tuple(kinds.index(kind) for kind in sorted(set(kinds)))
    alone = f"{knobs.text}head_dim" in knobs.pinned and not family.heads_tied
    reason: GrowthError | None = None
    for way in ways_to_turn(alone and not family.kv_tied, bool(knobs.of("kv_heads")) and not family.kv_tied):
        turns = [{knob: pair[number] for knob, pair in way.items()} for number in range(2)]
        for index in dict.fromkeys((one_of_each, tuple(range(count)))):
            try:
                classes = []
                for factors in turns:
                    at = cast(dict[Symbol, int], {name: by for name, by in factors.items() if name != POSITIONS})
                    changed = grown(
                        family, deepcopy(dict(config)), loaded, knobs, sizes, at, count, index, factors[POSITIONS]
                    )
                    classes.append(ModelClass.from_config(family, architecture, changed))
            except GrowthError as error:
                reason = reason or error
                continue
            if all(_alike(whole, built, stacks, index) for built in classes):
                return Turned(turns, classes, index, count)
    raise reason or GrowthError(
        f"{architecture} has other tensors when its sizes change: this option of the architecture is not supported."
    )


def _alike(whole: ModelClass, built: ModelClass, stacks: Stacks, index: Sequence[int]) -> bool:
    """Whether the layers of a class are the layers `index` of another, tensor by tensor."""
    wanted = {
        target_name(name, stacks, layer) for layer in range(len(index)) for name in _of(whole, stacks, index[layer])
    }
    wanted |= {name for name in whole.parameters if stacks.split(name)[1] is None}
    return wanted == built.parameters.keys()


def _of(whole: ModelClass, stacks: Stacks, layer: int) -> list[str]:
    return [name for name in whole.parameters if stacks.split(name)[1] == layer]


def target_name(name: str, stacks: Stacks, layer: int) -> str:
    """The name of a parameter in another layer."""
    return stacks.split(name)[0].replace("{}", str(layer), 1)
