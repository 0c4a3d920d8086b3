"""A saved optimizer as an optimizer again: its class by its options, and names for its numbered parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from growkernels.errors import GrowthError
from growkernels.executors.sources.model import LiveSource
from growkernels.optim.hooks import attach

#: The classes that a saved state may be of.
_TORCH = ("AdamW", "Adam", "NAdam", "RAdam", "Adamax", "SGD", "RMSprop", "Adagrad", "Adafactor", "Muon")
#: What classes with the same options differ in.
_MARKS = {"AdamW": {"decoupled_weight_decay": True}, "Adam": {"decoupled_weight_decay": False}}
#: Options that schedulers and growths add.
_ADDED = {"params", "param_names", "initial_lr", "growkernels", "lr_mult", "wd_mult"}


def rebuilt(path: Path, saved: Mapping[str, Any], live: LiveSource) -> Optimizer:
    """The optimizer that the state is of, on parameters without values."""
    cls = _class_of(path, saved["param_groups"])
    names = _names(path, saved, live)
    groups = []
    for group, found in zip(saved["param_groups"], names, strict=True):
        groups.append({**group, "params": [live.parameters[name] for name in found]})
    optimizer = attach(_made(cls))
    state = {live.parameters[name]: saved["state"][number] for number, name in _numbered(saved, names)}
    optimizer.param_groups[:] = groups
    optimizer.state.clear()
    optimizer.state.update(state)
    return optimizer


def _numbered(saved: Mapping[str, Any], names: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
    """The numbers of the parameters that have a state, with their names."""
    for group, found in zip(saved["param_groups"], names, strict=True):
        for number, name in zip(group["params"], found, strict=True):
            if number in saved["state"]:
                yield number, name


def _class_of(path: Path, groups: Sequence[Mapping[str, Any]]) -> type[Optimizer]:
    """The class of torch that has these options."""
    options = set(groups[0]) - _ADDED
    for name in _TORCH:
        cls: type[Optimizer] | None = getattr(torch.optim, name, None)
        if cls is None or options != set(_made(cls).param_groups[0]) - _ADDED:
            continue
        if all(groups[0][key] == value for key, value in _MARKS.get(name, {}).items()):
            return cls
    found = ", ".join(sorted(map(str, options)))
    raise GrowthError(
        f"{path} is of an optimizer that is not recognized by its options ({found}); known are {', '.join(_TORCH)} of this "
        f"version of torch. Load the model and its optimizer, and grow both by grow_model(model, optimizer)."
    )


def _made(cls: Any) -> Optimizer:
    """An optimizer of this class, of a parameter that stands for others."""
    made: Optimizer = cls([nn.Parameter(torch.empty(1, 1))])
    return made


def _names(path: Path, saved: Mapping[str, Any], live: LiveSource) -> list[list[str]]:
    """The names of the parameters of every group. Raises GrowthError where shapes allow none of the ways, or two."""
    groups = saved["param_groups"]
    if all("param_names" in group for group in groups):
        candidates = [[[live.fresh.file_name(name) for name in group["param_names"]] for group in groups]]
    else:
        candidates = [found for found in _groupings(live) if len(found) == len(groups)]
    fitting = []
    for found in candidates:
        if found not in fitting and _fit(groups, saved["state"], found, live):
            fitting.append(found)
    if len(fitting) != 1:
        what = "fit no way" if not fitting else f"fit {len(fitting)} ways"
        raise GrowthError(
            f"the {sum(len(group['params']) for group in groups)} parameters in {len(groups)} groups of {path} {what} in which "
            f"groups are made of the model's: they have numbers and no names. Build the optimizer of "
            f"model.named_parameters(), whose state has names, or load both and grow them by grow_model(model, optimizer)."
        )
    return fitting[0]


def _groupings(live: LiveSource) -> list[list[list[str]]]:
    """The groups in which optimizers are built: all in one, the Trainer's two, and matrices apart from vectors."""
    from transformers import Trainer  # takes a second, and is needed for files without names alone

    model = live.fresh.modules[""]
    names = [name for name, _ in model.named_parameters()]
    decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim >= 2}
    found = [[names]]
    for first in (decayed, matrices):
        found.append([[name for name in names if name in first], [name for name in names if name not in first]])
    return [[[live.fresh.file_name(name) for name in group] for group in groups] for groups in found]


def _fit(
    groups: Sequence[Mapping[str, Any]], state: Mapping[Any, Any], names: Sequence[Sequence[str]], live: LiveSource
) -> bool:
    """Whether there are as many parameters as names, and every entry of their state has the parameter's shape or one of it."""
    for group, found in zip(groups, names, strict=True):
        if len(group["params"]) != len(found) or any(name not in live.tensors for name in found):
            return False
        for number, name in zip(group["params"], found, strict=True):
            shape = live.tensors[name].shape
            for entry, value in state.get(number, {}).items():
                if (
                    isinstance(value, Tensor)
                    and value.ndim
                    and entry != "step"
                    and not _fits(tuple(value.shape), shape)
                ):
                    return False
    return True


def _fits(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(found) == len(shape) and all(size in (1, whole) for size, whole in zip(found, shape, strict=True))
