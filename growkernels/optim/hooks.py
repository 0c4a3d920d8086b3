"""The factors of a grown optimizer: kept in its groups, applied for the time of `step()`, written out in what it saves.

In memory every group stays whole, with its identity and options, so that schedulers and loops that write `lr` go on as they
were; one key holds a list for every factor. For the time of a step the groups are split into groups of parameters with equal
factors. A saved state holds the split groups with the options in effect: loading it into an optimizer that was not attached
fails by torch's own check of groups.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from growkernels.errors import GrowthError
from growkernels.optim.kinds import Factor

Group = dict[str, Any]
#: The key of a group under which its factors are, and of what is saved of them.
KEY = "growkernels"
#: Names in that record which are no options: the scales of the weights, from which norms of gradients follow.
SCALES = ("c", "K")
_STATE = "_growkernels"

_Any = TypeVar("_Any")


def attach(optimizer: _Any) -> _Any:
    """Let an optimizer apply the factors of a grown model, and load the state that one has saved.

    For a process that resumes after a growth: build the optimizer as always, attach, load. Attaching twice does nothing, and
    an optimizer without factors steps as it did.

    Args:
        optimizer: of torch, or a wrapper that holds one as `.optimizer`, such as accelerate's.

    Returns:
        The optimizer: the same object.

    Example:
        >>> optimizer = growkernels.optim.attach(torch.optim.AdamW(model.parameters(), lr=1e-3))
        >>> optimizer.load_state_dict(torch.load("optimizer.pt", weights_only=True))
    """
    inner = unwrapped(optimizer)
    if _STATE not in inner.__dict__:
        inner.__dict__[_STATE] = _Splitting(inner)
    return optimizer


def unwrapped(optimizer: Any) -> Optimizer:
    """The optimizer itself, without what wraps it. Raises GrowthError for what is none."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
        raise GrowthError(f"{kind} is no optimizer; expected one of torch.optim, or several in a list.")
    return optimizer


def restore(optimizer: Optimizer) -> None:
    """Put the whole groups back, should a step that raised have left the split ones."""
    splitting = optimizer.__dict__.get(_STATE)
    if splitting is not None:
        splitting.restore(optimizer)


def factors_at(record: dict[str, list[Any]], place: int) -> dict[str, Factor]:
    """The factors of the options of one parameter of a group."""
    return {name: values[place] for name, values in record.items() if name not in SCALES}


def scaled(value: Any, factor: Factor, group: Group) -> Any:
    """An option times its factor; pairs entry by entry."""
    if isinstance(factor, (tuple, list)):
        first, second = value
        if first is None:  # torch's Adafactor: the dtype's own epsilon
            first = torch.finfo(group["params"][0].dtype).eps
        return first * factor[0], second * factor[1]
    return value * factor


class _Split:
    """Some parameters of a group with equal factors, as a group of their own."""

    def __init__(self, whole: Group, record: dict[str, list[Any]], places: list[int]) -> None:
        self._whole, self._factors = whole, factors_at(record, places[0])
        self.group: Group = {}
        self._put: Group = {}
        self._params = [whole["params"][place] for place in places]

    def fill(self) -> None:
        """Take the options that the group has now."""
        self._put = {name: value for name, value in self._whole.items() if name not in (KEY, "params", "param_names")}
        group = {**self._put, "params": self._params}
        for name, factor in self._factors.items():
            if name in group:
                group[name] = scaled(group[name], factor, group)
        self._put = {name: group[name] for name in self._put}
        self.group.update(group)

    def write_back(self) -> None:
        """Give the group what the step wrote into the split one, such as a counter of its own."""
        for name, put in self._put.items():
            value = self.group[name]
            if value is put or isinstance(value, Tensor) or value == put:
                continue
            factor = self._factors.get(name)
            self._whole[name] = value if factor is None else value / factor


class _Splitting:
    """The hooks of one optimizer, and its groups while they are split."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._whole: list[Group] | None = None
        #: What the split groups were made of: they are made anew where one of these is another object.
        self._made_of: list[tuple[Group, Any, int]] = []
        self._splits: list[_Split] = []
        # Compiled steps read the groups as they are when they run: the hooks must not be traced.
        optimizer.register_step_pre_hook(torch.compiler.disable(self._before))
        optimizer.register_step_post_hook(torch.compiler.disable(self._after))
        optimizer.register_state_dict_pre_hook(self.restore)
        optimizer.register_state_dict_post_hook(save)
        optimizer.register_load_state_dict_pre_hook(load)

    def restore(self, optimizer: Optimizer) -> None:
        if self._whole is not None:
            optimizer.param_groups, self._whole = self._whole, None

    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        self.restore(optimizer)
        if not any(KEY in group for group in optimizer.param_groups):
            return
        made_of = [(group, group.get(KEY), len(group["params"])) for group in optimizer.param_groups]
        same = len(made_of) == len(self._made_of) and all(
            group is old_group and record is old_record and count == old_count
            for (group, record, count), (old_group, old_record, old_count) in zip(made_of, self._made_of, strict=True)
        )
        if not same:
            self._made_of = made_of
            self._splits = [
                _Split(group, completed(group), places)
                for group in optimizer.param_groups
                for places in alike(completed(group), len(group["params"]))
            ]
        for split in self._splits:
            split.fill()
        self._whole, optimizer.param_groups = optimizer.param_groups, [split.group for split in self._splits]

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        if self._whole is not None:
            for split in self._splits:
                split.write_back()
            self.restore(optimizer)


def completed(group: Group) -> dict[str, list[Any]]:
    """The record of a group; empty where nothing in it was grown. Raises GrowthError where parameters were added to it."""
    record: dict[str, list[Any]] = group.get(KEY, {})
    for name, values in record.items():
        if len(values) != len(group["params"]):
            raise GrowthError(
                f"a group of the optimizer has {len(group['params'])} parameters and {len(values)} factors of {name}: "
                f"parameters were added to it or removed after the growth. Put new ones into a group of their own, by "
                f"add_param_group."
            )
    return record


def alike(record: dict[str, list[Any]], count: int) -> list[list[int]]:
    """The places of a group's parameters, those with equal factors together."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for place in range(count):
        factors = tuple(
            tuple(value) if isinstance(value, list) else value for value in factors_at(record, place).values()
        )
        found.setdefault(factors, []).append(place)
    return list(found.values()) or [[]]


def save(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any] | None:
    """The state with split groups: what another process loads has the options in effect, or fails to load."""
    groups: list[Group] = []
    split = False
    for number, group in enumerate(state_dict["param_groups"]):
        record = completed(group)
        if not record.keys() - set(SCALES):
            groups.append(group)
            continue
        split = True
        for places in alike(record, len(group["params"])):
            part = _part(group, places)
            options = factors_at(record, places[0]) if places else {}
            live = optimizer.param_groups[number]
            part |= {name: scaled(group[name], factor, live) for name, factor in options.items() if name in group}
            kept = {name: [values[place] for place in places] for name, values in record.items()}
            whole = {name: group[name] for name in options if name in group}
            part[KEY] = {"group": number, "places": places, "whole": whole, "factors": kept}
            groups.append(part)
    if not split:
        return None
    if len(groups) == len(state_dict["param_groups"]):
        # All factors of a group are the same: another one, empty, so that an unattached load fails.
        groups.append({"params": [], KEY: {"group": len(groups), "places": []}})
    return {**state_dict, "param_groups": groups}


def _is_mark(group: Group) -> bool:
    return "places" in group.get(KEY, {}) and "factors" not in group[KEY]


def _part(group: Group, places: list[int]) -> Group:
    part = {name: value for name, value in group.items() if name != KEY}
    for name in ("params", "param_names"):
        if name in group:
            part[name] = [group[name][place] for place in places]
    return part


def load(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any] | None:
    """The state with whole groups again, of one that was saved with split ones. Raises GrowthError where parts are missing."""
    restore(optimizer)
    parts = [group for group in state_dict["param_groups"] if "places" in group.get(KEY, {})]
    if not parts:
        return None
    groups: dict[int, list[Group]] = {}
    number = 0
    for group in state_dict["param_groups"]:
        if "places" in group.get(KEY, {}):
            number = group[KEY]["group"]
        groups.setdefault(number, []).append(group)
        number += 1
    merged = [_merged(found) for _, found in sorted(groups.items()) if not _is_mark(found[0])]
    return {**state_dict, "param_groups": merged}


def _merged(parts: list[Group]) -> Group:
    if "places" not in parts[0].get(KEY, {}):
        return parts[0]
    order = sorted(
        (place, part, at) for part, group in enumerate(parts) for at, place in enumerate(group[KEY]["places"])
    )
    if [place for place, *_ in order] != list(range(len(order))):
        raise GrowthError("the saved optimizer's split groups do not make whole ones: parts of them are missing.")
    first = parts[0]
    whole = {name: value for name, value in first.items() if name != KEY} | first[KEY]["whole"]
    for name in ("params", "param_names"):
        if name in first:
            whole[name] = [parts[part][name][at] for _, part, at in order]
    names = first[KEY]["factors"]
    whole[KEY] = {name: [parts[part][KEY]["factors"][name][at] for _, part, at in order] for name in names}
    return whole
