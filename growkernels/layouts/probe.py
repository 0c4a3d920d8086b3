"""What each axis means, learned by turning the knobs of the config and watching the class's shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from transformers import PreTrainedConfig

from growkernels.errors import GrowthError
from growkernels.layouts.base import Axis, Part, Place, Symbol
from growkernels.layouts.family import Declared, Family
from growkernels.layouts.knobs import text_config
from growkernels.layouts.parameters import Parameter, split_layer
from growkernels.layouts.parts import OUTPUTS

#: Stands for the knob of the position embedding's length, which never grows.
POSITIONS = "positions"
#: Stands for rows of an embedding that are those of a knob and a few more, such as offsets and special tokens.
_MORE_ROWS = "more rows"

#: How much each knob is turned in the first and in the second probe. As points of a plane, these pairs and (1, 1) are the
#: corners of a convex polygon: no sum of several sizes grows as one of them does. Nor does a product of two. Heads stay
#: whole multiples of kv heads, and hidden of heads.
TURNS: dict[str, tuple[int, int]] = {
    "hidden": (6, 6),
    "heads": (2, 6),
    "kv_heads": (1, 3),
    "ffn": (7, 5),
    "vocab": (7, 2),
    POSITIONS: (5, 1),
}

#: What each knob is multiplied by, and a tensor's shape, probe by probe; the first probe is the config as it is.
Shapes = list[tuple[Mapping[str, int | Fraction], tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Probed:
    """What a tensor is; `input_axis` is the axis that products sum over; `positions` marks a position table."""

    axes: tuple[Axis, ...]
    input_axis: int | None
    output_axis: int | None
    positions: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """A tensor to be probed: its name (with the layer as it is), its parameter, where it is in it, and its shapes."""

    name: str
    parameter: Parameter
    place: Place
    shapes: Shapes


def ways_to_turn(has_head_dim: bool, kv_alone: bool) -> list[dict[str, tuple[int, int]]]:
    """How the knobs can be turned, the most telling way first: classes tie some of their sizes to each other."""
    width = dict.fromkeys(("inner", "groups"), TURNS["hidden"])
    tied = TURNS | width | {"heads": TURNS["hidden"]}
    ways = [TURNS | width] if has_head_dim else []
    if kv_alone:
        ways.append(tied)
    return [*ways, tied | {"kv_heads": TURNS["hidden"]}]


def read_axes(family: Family, loaded: PreTrainedConfig, subject: Subject, features: Mapping[Symbol, int]) -> Probed:
    """What the axes of a tensor mean.

    An axis that grows as a knob does counts what the knob counts. Where the table declares parts, they must predict every
    size seen. Raises GrowthError where an axis answers otherwise.
    """
    shapes, parameter = subject.shapes, subject.parameter
    symbols = [_symbol(axis, shapes) for axis in range(len(shapes[0][1]))]
    if parameter.module == "embedding" and symbols[0] == "fixed" and len(shapes) > 1:
        symbols[0] = _rows(shapes)
    # The symbols of the parameter's own axes; those of which one entry is stored count nothing here.
    stored = [_file_axis(subject.place, axis) for axis in range(len(parameter.shape))]
    summed = input_axis(family, parameter, ["fixed" if axis is None else symbols[axis] for axis in stored])
    if summed is not None:
        summed = stored[summed]
    output = _output_axis(parameter, symbols, summed)
    axes = []
    for axis, symbol in enumerate(symbols):
        declared = None
        if axis in (summed, output):
            declared = _declared(family, subject, axis == summed)
        meaning = _axis(loaded, declared, shapes[0][1][axis], symbol, features)
        if symbol not in (POSITIONS, _MORE_ROWS):
            _check(subject.name, axis, meaning, shapes)
        axes.append(meaning)
    is_positions = parameter.module == "embedding" and symbols[0] == POSITIONS
    return Probed(tuple(axes), summed, None if summed is None else output, is_positions)


def input_axis(family: Family, parameter: Parameter, symbols: Sequence[str]) -> int | None:
    """The axis of a parameter that matrix products sum over; None for everything else."""
    name = f".{parameter.name}"
    for ending, axis in family.input_axes.items():
        if name.endswith(f".{ending}"):
            return axis
    if parameter.module == "experts" and len(parameter.shape) == 3:
        # Experts of every class read the stream in their first projection and put it out in the last.
        stream = [axis for axis in (1, 2) if symbols[axis] == "hidden"]
        if len(stream) == 1:
            reads = not parameter.name.rpartition(".")[2].startswith(("down", "w2", "output"))
            return stream[0] if reads else 3 - stream[0]
        return None
    if parameter.module == "conv" and len(parameter.shape) > 2:
        return 1
    if len(parameter.shape) != 2:
        return None
    return {"linear": 1, "conv1d": 0, "router": 1}.get(parameter.module)


def _file_axis(place: Place, axis: int) -> int | None:
    """The axis of a stored tensor that an axis of its parameter is; None where only one entry of it is stored."""
    if not place.index:
        return axis
    if isinstance(place.index[axis], int):
        return None
    left = sum(isinstance(entry, slice) for entry in place.index[:axis])
    return place.order.index(left) if place.order else left


def _output_axis(parameter: Parameter, symbols: Sequence[str], summed: int | None) -> int | None:
    """The axis that a tensor puts out: of vectors and everything that is no matrix, the one that declarations are for."""
    axes = [axis for axis in range(len(symbols)) if axis != summed]
    if not axes:
        return None
    if summed is None:
        return len(symbols) - 1 if parameter.module in ("experts", "embedding") else 0
    if len(axes) == 1:
        return axes[0]
    return axes[0] if parameter.module in ("conv", "depthwise") else axes[-1]


def _symbol(axis: int, shapes: Shapes) -> str:
    """The knob that the axis grows with; "fixed" for none, and for what only a declaration can explain."""
    size, turned = shapes[0][1][axis], shapes[1:]
    knobs = ("fixed", *(turned[0][0] if turned else ()))
    return next((k for k in knobs if all(shape[axis] == size * turn.get(k, 1) for turn, shape in turned)), "fixed")


def _rows(shapes: Shapes) -> str:
    """What the rows of an embedding count that no knob explains: one knob and a constant, or nothing that is turned."""
    (_, before), *turned = shapes
    more = [shape[0] - before[0] for _, shape in turned]
    for knob, symbol in ((POSITIONS, POSITIONS), ("vocab", _MORE_ROWS)):
        factors = [turn[knob] - 1 for turn, _ in turned]
        if more[0] and more[0] * factors[1] == more[1] * factors[0]:
            return symbol
    return "fixed"


def _axis(
    loaded: PreTrainedConfig, declared: Declared | None, size: int, symbol: str, features: Mapping[Symbol, int]
) -> Axis:
    known: Symbol = "fixed" if symbol in (POSITIONS, _MORE_ROWS) else symbol  # type: ignore[assignment]
    if callable(declared):
        return Axis(tuple(Part(part, count) for part, count in declared(text_config(loaded))))
    if isinstance(declared, int):
        return Axis((Part(known, size // declared),) * declared)
    if declared:
        return Axis(tuple(Part(part, features[part] * times) for part, times in declared))
    return Axis((Part(known, size),))


def _declared(family: Family, subject: Subject, is_input: bool) -> Declared | None:
    """What the table says of an axis. A tensor that the file holds apart from its parameter has parts of its own."""
    own = family.inputs if is_input else family.outputs
    names = [subject.name] if subject.place.index else [subject.name, subject.parameter.name]
    generic = {} if is_input or subject.place.index else OUTPUTS
    names = [re.sub(r"\.\d+(?=\.|$)", ".{}", name) for name in names]
    for table in (own, generic):
        for ending, parts in table.items():
            for name in names:
                if f".{name}".endswith(f".{ending}") or f".{name.rpartition('.')[0]}".endswith(f".{ending}"):
                    return parts
    return None


def _check(name: str, axis: int, meaning: Axis, shapes: Shapes) -> None:
    for turn, shape in shapes:
        predicted = sum(part.size * turn.get(part.symbol, 1) for part in meaning.parts)
        if predicted != shape[axis]:
            turned = ", ".join(f"{knob} times {factor}" for knob, factor in turn.items()) or "the config as it is"
            raise GrowthError(
                f"{name}: axis {axis} has {shape[axis]} entries with {turned}, where '{meaning}' gives {predicted}. "
                "This option of the architecture is not supported."
            )


def group_name(name: str, layer: int | None) -> str:
    """A stored tensor's name with its layer number as `{}`."""
    if layer is None:
        return name
    group, number = split_layer(name)
    return group if number == layer else name
