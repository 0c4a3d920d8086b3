"""What each axis means, learned by turning one knob of the config after another and watching the class's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from growkernels.errors import GrowthError
from growkernels.layouts.base import Axis, Part, Symbol
from growkernels.layouts.classes import ModelClass, Parameter, split_layer
from growkernels.layouts.families import LAYER_LISTS, Family, Parts
from growkernels.layouts.knobs import config_object, read_sizes, set_key, set_sizes

#: Stands for the knob of the position embedding's length, which never grows.
_POSITIONS = "positions"

#: The doubled knobs and the parameter's shape, stage by stage.
_Shapes = list[tuple[frozenset[str], tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Probed:
    """What a parameter is; `input_axis` is the axis that products sum over; `positions` marks a position table."""

    axes: tuple[Axis, ...]
    input_axis: int | None
    positions: bool


def probe(family: Family, architecture: str, config: Mapping[str, Any]) -> dict[str, Probed]:
    """What the axes of every parameter mean, by name with the layer number as `{}`. Sizes are those of `config`.

    One layer is built again and again, each time with one more knob doubled. An axis that doubles with a knob counts what
    the knob counts. Where the family's table declares parts, they must predict every size seen. Raises GrowthError where
    an axis answers otherwise.
    """
    stages = _stages(family, config)
    classes = [(doubled, ModelClass(family, architecture, stage)) for doubled, stage in stages]
    features = _features(read_sizes(family, config))
    probed: dict[str, Probed] = {}
    for name, parameter in classes[0][1].parameters.items():
        shapes = [(doubled, built.parameters[name].shape) for doubled, built in classes]
        group = split_layer(name)[0]
        symbols = [_symbols(axis, shapes) for axis in range(len(parameter.shape))]
        axes = tuple(_axis(family, parameter, axis, symbols[axis], features) for axis in range(len(symbols)))
        for axis, meaning in enumerate(axes):
            _check(name, axis, meaning, symbols[axis], shapes)
        positions = parameter.module == "embedding" and symbols[0] == {_POSITIONS}
        probed[group] = Probed(axes, input_axis(parameter), positions)
    return probed


def input_axis(parameter: Parameter) -> int | None:
    """The axis of a weight that matrix products sum over; None for everything else."""
    if len(parameter.shape) != 2 or parameter.module not in ("linear", "conv1d"):
        return None
    return 1 if parameter.module == "linear" else 0


def _stages(family: Family, config: Mapping[str, Any]) -> list[tuple[frozenset[str], dict[str, Any]]]:
    """Configs of one layer with ever more knobs doubled, and which."""
    loaded = config_object(family, config)
    sizes = read_sizes(family, config)
    positions = getattr(loaded, family.positions)
    base = dict(config)
    set_key(family, base, family.layers, 1)
    for key in LAYER_LISTS:
        if base.get(key):
            base[key] = base[key][:1]
    # Without a pinned head_dim, hidden cannot grow unless the heads do.
    first = ("hidden",) if family.head_dim else ("hidden", "heads", "kv_heads")
    steps: list[tuple[str, ...]] = [(), first]
    steps += [(s,) for s in ("heads", "kv_heads", "ffn", "vocab") if s in family.knobs and s not in first]
    steps.append((_POSITIONS,))
    stages, doubled = [], frozenset[str]()
    for step in steps:
        doubled |= set(step)
        stage = dict(base)
        set_sizes(family, stage, {s: size * 2 if s in doubled else size for s, size in sizes.items()})
        set_key(family, stage, family.positions, positions * 2 if _POSITIONS in doubled else positions)
        stages.append((doubled, stage))
    return stages


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


def _symbols(axis: int, shapes: _Shapes) -> set[str]:
    """The knobs that the axis answers to; where two turn together, the first of them."""
    found: set[str] = set()
    for (before, small), (after, large) in pairwise(shapes):
        if large[axis] != small[axis]:
            turned = after - before
            found.add("hidden" if "hidden" in turned else next(iter(turned)))
    return found


def _axis(family: Family, parameter: Parameter, axis: int, symbols: set[str], features: Mapping[Symbol, int]) -> Axis:
    size = parameter.shape[axis]
    declared = _declared(family, parameter, axis)
    if declared:
        return Axis(tuple(Part(symbol, features[symbol] * times) for symbol, times in declared))
    symbol = next((symbol for symbol in features if symbols == {symbol}), "fixed")
    return Axis((Part(symbol, size),))


def _declared(family: Family, parameter: Parameter, axis: int) -> Parts | None:
    table = family.inputs if axis == input_axis(parameter) else family.outputs
    module = "." + parameter.name.rpartition(".")[0]
    return next((parts for ending, parts in table.items() if module.endswith("." + ending)), None)


def _check(name: str, axis: int, meaning: Axis, symbols: set[str], shapes: _Shapes) -> None:
    for doubled, shape in shapes:
        if symbols == {_POSITIONS}:
            continue
        predicted = sum(part.size * (2 if part.symbol in doubled else 1) for part in meaning.parts)
        if predicted != shape[axis]:
            raise GrowthError(
                f"{name}: axis {axis} has {shape[axis]} entries with {sorted(doubled) or 'nothing'} doubled, "
                f"where '{meaning}' gives {predicted}. This option of the architecture is not supported."
            )
