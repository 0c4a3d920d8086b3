"""What each axis means, learned by turning the knobs of the config and watching the class's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from growkernels.errors import GrowthError
from growkernels.layouts.base import Axis, Part, Symbol
from growkernels.layouts.classes import ModelClass, Parameter, build, read_parameters, split_layer
from growkernels.layouts.families import LAYER_LISTS, Family, Parts
from growkernels.layouts.knobs import set_key, set_sizes

#: Stands for the knob of the position embedding's length, which never grows.
_POSITIONS = "positions"

#: How much each knob is turned in the first and in the second probe. As points of a plane, these pairs and (1, 1) are the
#: corners of a convex polygon: no sum of several sizes grows as one of them does. Nor does a product of two. Heads stay
#: whole multiples of kv heads, and hidden of heads.
TURNS: dict[str, tuple[int, int]] = {
    "hidden": (6, 6),
    "heads": (2, 6),
    "kv_heads": (1, 3),
    "ffn": (7, 5),
    "vocab": (7, 2),
    _POSITIONS: (5, 1),
}

#: What each knob is multiplied by, and the parameter's shape, probe by probe.
_Shapes = list[tuple[Mapping[str, int], tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Probed:
    """What a parameter is; `input_axis` is the axis that products sum over; `positions` marks a position table."""

    axes: tuple[Axis, ...]
    input_axis: int | None
    positions: bool


def probe(
    family: Family, whole: ModelClass, config: Mapping[str, Any], sizes: Mapping[str, int], positions: int
) -> dict[str, Probed]:
    """What the axes of every parameter mean, by name with the layer number as `{}`. `sizes` and `positions` are `config`'s.

    `whole` is the class as it is; one layer of it is built twice more, with all knobs turned, each by factors of its own. An
    axis that grows as a knob does counts what the knob counts. Where the family's table declares parts, they must predict
    every size seen. Raises GrowthError where an axis answers otherwise.
    """
    turns = [{knob: pair[number] for knob, pair in _turns(family).items()} for number in range(2)]
    turned = [_turned(family, whole.architecture, config, sizes, positions, turn) for turn in turns]
    features = _features(sizes)
    probed: dict[str, Probed] = {}
    for name in turned[0]:
        parameter = whole.parameters[name]
        shapes = [({}, parameter.shape), *((turn, seen[name].shape) for turn, seen in zip(turns, turned, strict=True))]
        symbols = [_symbol(axis, shapes) for axis in range(len(parameter.shape))]
        axes = tuple(_axis(family, parameter, axis, symbols[axis], features) for axis in range(len(symbols)))
        for axis, meaning in enumerate(axes):
            if symbols[axis] != _POSITIONS:
                _check(name, axis, meaning, shapes)
        is_positions = parameter.module == "embedding" and symbols[0] == _POSITIONS
        probed[split_layer(name)[0]] = Probed(axes, input_axis(parameter), is_positions)
    return probed


def input_axis(parameter: Parameter) -> int | None:
    """The axis of a weight that matrix products sum over; None for everything else."""
    if len(parameter.shape) != 2 or parameter.module not in ("linear", "conv1d"):
        return None
    return 1 if parameter.module == "linear" else 0


def _turns(family: Family) -> dict[str, tuple[int, int]]:
    """How much each knob of the family is turned."""
    turns = {knob: pair for knob, pair in TURNS.items() if knob in family.knobs or knob == _POSITIONS}
    if not family.head_dim:
        # Without a pinned head_dim, hidden cannot grow unless the heads do.
        turns |= dict.fromkeys(("heads", "kv_heads"), turns["hidden"])
    return turns


def _turned(
    family: Family,
    architecture: str,
    config: Mapping[str, Any],
    sizes: Mapping[str, int],
    positions: int,
    turn: Mapping[str, int],
) -> dict[str, Parameter]:
    """The parameters of one layer with every knob turned."""
    turned = dict(config)
    set_key(family, turned, family.layers, 1)
    for key in LAYER_LISTS:
        if turned.get(key):
            turned[key] = turned[key][:1]
    set_key(family, turned, family.positions, positions * turn[_POSITIONS])
    loaded = set_sizes(family, turned, {symbol: size * turn.get(symbol, 1) for symbol, size in sizes.items()})
    return read_parameters(build(architecture, loaded))


def _features(sizes: Mapping[str, int]) -> dict[Symbol, int]:
    """Sizes in features, as axes count them."""
    head_dim = sizes["head_dim"]
    return {
        "hidden": sizes["hidden"],
        "heads": sizes["heads"] * head_dim,
        "kv_heads": sizes["kv_heads"] * head_dim,
        "ffn": sizes["ffn"],
        "vocab": sizes["vocab"],
    }


def _symbol(axis: int, shapes: _Shapes) -> str:
    """The knob that the axis grows with; "fixed" for none, and for what only a declaration can explain."""
    size, turned = shapes[0][1][axis], shapes[1:]
    knobs = ("fixed", *turned[0][0])
    return next((k for k in knobs if all(shape[axis] == size * turn.get(k, 1) for turn, shape in turned)), "fixed")


def _axis(family: Family, parameter: Parameter, axis: int, symbol: str, features: Mapping[Symbol, int]) -> Axis:
    declared = _declared(family, parameter, axis)
    if declared:
        return Axis(tuple(Part(part, features[part] * times) for part, times in declared))
    known = next((known for known in features if known == symbol), "fixed")
    return Axis((Part(known, parameter.shape[axis]),))


def _declared(family: Family, parameter: Parameter, axis: int) -> Parts | None:
    table = family.inputs if axis == input_axis(parameter) else family.outputs
    module = "." + parameter.name.rpartition(".")[0]
    return next((parts for ending, parts in table.items() if module.endswith("." + ending)), None)


def _check(name: str, axis: int, meaning: Axis, shapes: _Shapes) -> None:
    for turn, shape in shapes:
        predicted = sum(part.size * turn.get(part.symbol, 1) for part in meaning.parts)
        if predicted != shape[axis]:
            turned = ", ".join(f"{knob} times {factor}" for knob, factor in turn.items()) or "the config as it is"
            raise GrowthError(
                f"{name}: axis {axis} has {shape[axis]} entries with {turned}, where '{meaning}' gives {predicted}. "
                "This option of the architecture is not supported."
            )
