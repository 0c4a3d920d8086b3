"""The groups of a grown optimizer: the same ones with the grown parameters, and the factors of their options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from growkernels.optim.hooks import KEY, SCALES, Group, alike, factors_at, scaled
from growkernels.optim.kinds import Factor
from growkernels.optim.scales import Scales

Multipliers = Literal["step", "groups"] | None
#: What other trainers call the factors of a group of its own.
_OWN_NAMES = {"lr": "lr_mult", "weight_decay": "wd_mult"}


class Member(NamedTuple):
    """A grown parameter of a group: its name in the model, and where in the group its source was; None: nowhere."""

    parameter: Tensor
    name: str
    place: int | None
    scales: Scales
    factors: dict[str, Factor]


def regrouped(group: Group, names: Sequence[str], members: Sequence[Member], multipliers: Multipliers) -> list[Group]:
    """What a group becomes: itself with the grown parameters, or split by factors. The options of `group` are not changed.

    names: of its parameters in the model before the growth.
    """
    found = [_record(group, member, multipliers is not None) for member in members]
    keys = dict.fromkeys(key for one in found for key in one)
    record = {key: [one.get(key, 1.0) for one in found] for key in keys}
    if all(_is_one(value) for values in record.values() for value in values):
        record = {}
    whole: Group = {**group, "params": [member.parameter for member in members]}
    if "param_names" in group:
        whole["param_names"] = [_renamed(group["param_names"], names, member) for member in members]
    whole.pop(KEY, None)
    if multipliers != "groups" or not record:
        return [{**whole, KEY: record} if record else whole]
    return [_of_its_own(whole, record, places) for places in alike(record, len(members))]


def _record(group: Group, member: Member, effective: bool) -> dict[str, Any]:
    """The factors of one parameter: those of earlier growths times those of this one."""
    old = (
        {name: values[member.place] for name, values in group.get(KEY, {}).items()} if member.place is not None else {}
    )
    new: dict[str, Any] = {"c": member.scales.weight, "K": member.scales.copies}
    new |= {name: factor for name, factor in member.factors.items() if effective and name in group}
    return {name: _times(old.get(name, 1.0), new.get(name, 1.0)) for name in {**old, **new}}


def _times(a: Any, b: Any) -> Any:
    if isinstance(a, (tuple, list)) or isinstance(b, (tuple, list)):
        first, second = a if isinstance(a, (tuple, list)) else (a, a)
        other, another = b if isinstance(b, (tuple, list)) else (b, b)
        return [first * other, second * another]
    return a * b


def _is_one(value: Any) -> bool:
    return all(one == 1 for one in value) if isinstance(value, list) else bool(value == 1)


def _of_its_own(whole: Group, record: dict[str, list[Any]], places: list[int]) -> Group:
    group = {name: value.clone() if isinstance(value, Tensor) else value for name, value in whole.items()}
    for name in ("params", "param_names"):
        if name in whole:
            group[name] = [whole[name][place] for place in places]
    for name, factor in factors_at(record, places[0]).items():
        if name not in group:
            continue
        group[name] = scaled(group[name], factor, group)
        if name == "lr" and "initial_lr" in group:
            group["initial_lr"] = scaled(group["initial_lr"], factor, group)
        if name in _OWN_NAMES:
            group[_OWN_NAMES[name]] = group.get(_OWN_NAMES[name], 1.0) * factor
    group[KEY] = {name: [record[name][place] for place in places] for name in SCALES}
    return group


def _renamed(param_names: Sequence[str], names: Sequence[str], member: Member) -> str:
    """The name of a grown parameter, with the prefix that the group's names have before the model's."""
    if member.place is None:
        return member.name
    old, model_name = param_names[member.place], names[member.place]
    return old.removesuffix(model_name) + member.name if old.endswith(model_name) else member.name


def spread(record: dict[str, list[Any]]) -> dict[str, tuple[float, float]]:
    """The smallest and largest factor of every option."""
    found = {}
    for name, values in record.items():
        if name not in SCALES:
            flat = torch.tensor(values, dtype=torch.float64).reshape(-1)
            found[name] = float(flat.min()), float(flat.max())
    return found
