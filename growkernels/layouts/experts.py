"""Which tensors of a model are its experts' and its routers', read off the class with other numbers of experts."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import FAMILIES
from growkernels.layouts.knobs import MISSING, config_object, quiet, read, set_path, text_path
from growkernels.layouts.routing import (
    APPROXIMATE,
    BALANCE,
    GROUPS,
    ROUTINGS,
    SHARED,
    SIZES,
    Routing,
    changes,
)
from growkernels.plans.active import COUNTS, TOP_KS

_NUMBER = re.compile(r"(?<=experts\.)\d+(?=\.)")


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of a model: how many there are and for a token, in which keys, and what is theirs.

    `axes`: the axis of a tensor that counts experts, of routers, their biases and stacks; `numbers`: the expert that a tensor
    is a part of, where the file stores each apart.
    """

    count: int
    top_k: int
    routing: Routing
    loaded: PreTrainedConfig
    #: Paths of config keys by their names in `growkernels.layouts.routing`, such as `count` or `groups`.
    keys: Mapping[str, tuple[str, ...]]
    axes: Mapping[str, int]
    numbers: Mapping[str, int]

    def numbered(self, tensor: TensorLayout, number: int) -> tuple[str, str]:
        """Name and group of the same part of another expert."""
        name, group = (_NUMBER.sub(str(number), text) for text in (tensor.name, tensor.group))
        return name, group

    @property
    def shares_out(self) -> bool:
        """Whether copies of an expert share out its weight: they put out together what it did, and not as often as they are."""
        return self.routing.shares_out(self.loaded)

    def times(self, number: int) -> dict[str, Any]:
        """What config keys hold with so many times the experts, and as many times more of them for a token."""
        more = (*self.keys["count"], *self.keys["top_k"], *self.keys["groups"])
        values: dict[str, Any] = {path: number * read(self.loaded, path) for path in more}
        # The balance loss grows with their number.
        less = [path for path in self.keys["balance"] if isinstance(read(self.loaded, path), (int, float))]
        return values | {path: read(self.loaded, path) / number for path in less}

    def scaled(self, factor: int, divisor: int = 1) -> dict[str, Any]:
        """What the config holds if all that the experts put out is to be so much larger; empty where it has no such factor."""
        path = text_path(self.loaded) + self.routing.scale
        value = read(self.loaded, path) if self.routing.scale else None
        return {path: value * factor / divisor} if isinstance(value, (int, float)) else {}

    def is_correction(self, tensor: TensorLayout) -> bool:
        """Whether a tensor is added to scores that become smaller the more experts there are, and must become so too."""
        return self.routing.bias_shrinks and tensor.name.endswith("e_score_correction_bias")

    def is_router(self, tensor: TensorLayout) -> bool:
        """Whether a tensor scores experts: beside its axis of experts it has at most the one that products sum over."""
        mine = self.axes.get(tensor.name)
        if mine is None or tensor.axes[mine].size != self.count:
            return False
        return all(axis in (mine, tensor.input_axis) or one.size == 1 for axis, one in enumerate(tensor.axes))

    def is_last(self, tensor: TensorLayout) -> bool:
        """Whether a tensor is the weight of the last projection of routed experts."""
        mine = tensor.name in self.numbers or (tensor.name in self.axes and not self.is_router(tensor))
        if not mine or tensor.input_axis is None or tensor.output_axis is None:
            return False
        return str(tensor.axes[tensor.output_axis]) == "hidden" != str(tensor.axes[tensor.input_axis])


@quiet()
def find_experts(layout: ModelLayout) -> Experts:
    """The experts of a model. Raises GrowthError where it has none, or where copies of them would not compute the same."""
    family = FAMILIES[layout.model_type]
    loaded = config_object(family, layout.config)
    count_keys, top_k_keys = _keys(loaded, COUNTS)[:1], _keys(loaded, TOP_KS)[:1]
    if not count_keys or not top_k_keys or read(loaded, count_keys[0]) < 2:
        raise GrowthError(
            f"{layout.architecture} has no experts to grow: it is dense. Give moe, the number of experts to make of its "
            f"feed-forward networks."
        )
    reason = APPROXIMATE.get(layout.model_type) or changes(loaded)
    if reason or layout.model_type not in ROUTINGS:
        raise GrowthError(
            f"the experts of {layout.model_type} cannot grow: {reason or 'how its router weighs them was not measured'}. "
            f"Experts of {', '.join(ROUTINGS)} can."
        )
    keys = {
        "count": count_keys,
        "top_k": top_k_keys,
        "groups": _keys(loaded, GROUPS) if _grouped(loaded) else (),
        "balance": _keys(loaded, BALANCE),
        "size": tuple(path for path in _keys(loaded, SIZES) if isinstance(read(loaded, path), int))[:1],
        "shared": tuple(path for path in _keys(loaded, SHARED) if read(loaded, path)),
    }
    found = Experts(
        read(loaded, count_keys[0]), read(loaded, top_k_keys[0]), ROUTINGS[layout.model_type], loaded, keys, {}, {}
    )
    for name in ("count", "top_k"):
        if not isinstance(read(loaded, keys[name][0]), int):
            raise GrowthError(f"{keys[name][0]} differs from layer to layer, which cannot be grown.")
    doubled = copy.deepcopy(dict(layout.config))
    for path in (*count_keys, *top_k_keys, *keys["groups"]):
        set_path(family, doubled, path, 2 * read(loaded, path))
    built = ModelClass.from_config(family, layout.architecture, config_object(family, doubled))
    axes, numbers = {}, {}
    for tensor in layout.tensors.values():
        parameter = tensor.places[0].parameter if tensor.places else tensor.parameter
        axis, number = _experts_axis(tensor, parameter, built, found.count)
        if number is not None:
            numbers[tensor.name] = number
        elif axis is not None:
            axes[tensor.name] = axis
    return Experts(found.count, found.top_k, found.routing, loaded, keys, axes, numbers)


def _experts_axis(tensor: TensorLayout, parameter: str, built: ModelClass, count: int) -> tuple[int | None, int | None]:
    """The axis of a stored tensor that doubles with the experts, or the number of the expert that it belongs to."""
    match = _NUMBER.search(tensor.name)
    if match is not None:
        return None, int(match.group())
    if parameter not in built.parameters:
        raise GrowthError(f"{tensor.name} is not there with other numbers of experts: this cannot be grown.")
    before, after = tensor.spec.shape, built.parameters[parameter].shape
    if tensor.places:
        return None, None
    grown = [axis for axis, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    if len(grown) > 1 or any(after[axis] != 2 * before[axis] or before[axis] % count for axis in grown):
        raise GrowthError(f"{tensor.name} has shape {list(after)} with twice the experts: this cannot be grown.")
    return (grown[0] if grown else None), None


def _grouped(loaded: PreTrainedConfig) -> bool:
    """Whether groups of experts are chosen first: whole copies are then groups of their own."""
    text = text_path(loaded)
    counts = [read(loaded, text + name) for name in GROUPS if name != "topk_group"]
    return any(isinstance(count, int) and count > 1 for count in counts)


def _keys(loaded: PreTrainedConfig, names: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of these names that a config has itself, not as other names for one of its keys."""
    text = text_path(loaded)
    aliases = getattr(type(loaded), "attribute_map", {})
    return tuple(text + name for name in names if name not in aliases and read(loaded, text + name) is not MISSING)


def with_values(layout_type: str, config: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The config with other values at some paths. Raises GrowthError where the class reads others."""
    family = FAMILIES[layout_type]
    changed = copy.deepcopy(config)
    for path, value in values.items():
        set_path(family, changed, path, value)
    loaded = config_object(family, changed)
    for path, value in values.items():
        if read(loaded, path) != value:
            raise GrowthError(f"{layout_type} reads {path} as {read(loaded, path)!r}, where {value!r} is needed.")
    return changed


@quiet()
def check_shapes(layout: ModelLayout, experts: Experts, config: dict[str, Any]) -> None:
    """Raise GrowthError where another size of the experts changes tensors that are not theirs."""
    built = ModelClass(FAMILIES[layout.model_type], layout.architecture, config)
    for tensor in layout.tensors.values():
        if tensor.name in experts.axes or tensor.name in experts.numbers or tensor.places:
            continue
        if tensor.parameter not in built.parameters or built.parameters[tensor.parameter].shape != tensor.spec.shape:
            raise GrowthError(
                f"{layout.model_type} sizes {tensor.name} by the same key as its experts, {experts.keys['size'][0]}: they "
                f"cannot become smaller alone."
            )
