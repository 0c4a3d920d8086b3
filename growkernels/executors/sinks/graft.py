"""Turning a live model into its grown form while it stays the model that it is.

Three trees are compared module by module: the live model, its class built fresh from the old config, and built fresh from
the new one. What the two fresh ones disagree on follows from the config (sizes, layer numbers) and is taken from the new;
everything else is the user's (training mode, dropout, gradient checkpointing, hooks) and stays as the live model has it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from growkernels.errors import GrowthError

_TREE = ("_parameters", "_buffers", "_modules")
_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class _Place:
    """A module of the grown model: what becomes of it, and the modules that say how."""

    live: nn.Module
    before: nn.Module
    after: nn.Module
    #: Whether the live module itself stands here; copies of layers are the fresh ones.
    stays: bool

    @property
    def result(self) -> nn.Module:
        return self.live if self.stays else self.after


class Graft:
    """The change of a live model into `after`, found, checked and worked out first, then made by `apply`."""

    def __init__(self, model: nn.Module, before: nn.Module, after: nn.Module, origin: Mapping[str, str]) -> None:
        """`before`, `after`: the model's class, fresh from the old and the new config, buffers on the CPU.

        `origin` maps the path of every module of `after` to that of the live module it continues: the first to name one
        takes it over, others are copies. Raises GrowthError for modules that are not those of the class.
        """
        self._live = live = dict(model.named_modules())
        fresh = dict(before.named_modules())
        self._places: list[_Place] = []
        taken: set[str] = set()
        for path, module in after.named_modules():
            name = origin[path]
            place = _Place(live.get(name, _NONE), fresh[name], module, stays=name not in taken)
            taken.add(name)
            _check(name, place)
            self._places.append(place)
        results = {id(place.after): place.result for place in self._places}
        configs: dict[int, PreTrainedConfig] = {}
        self._states = [_state(place, results, configs) for place in self._places]
        self._fresh = [dict(place.after._buffers) for place in self._places]

    @property
    def uncompiled(self) -> list[str]:
        """Paths of live modules that are compiled by themselves and have copies, which are not."""
        names = {id(module): name for name, module in self._live.items()}
        copied = [place.live for place in self._places if not place.stays]
        return list(dict.fromkeys(names[id(m)] for m in copied if m._compiled_call_impl is not None))

    def apply(self) -> None:
        """Change the live model, whose grown parameters and stored buffers are by now those of `after`."""
        for place, state, fresh in zip(self._places, self._states, self._fresh, strict=True):
            state["_parameters"] = place.after._parameters
            state["_buffers"] |= {name: b for name, b in place.after._buffers.items() if b is not fresh[name]}
        for place, state in zip(self._places, self._states, strict=True):
            place.result.__dict__.clear()
            place.result.__dict__.update(state)


_NONE = nn.Module()


def _check(name: str, place: _Place) -> None:
    if type(place.live) is not type(place.before):
        found = "missing" if place.live is _NONE else f"a {type(place.live).__name__}"
        raise GrowthError(
            f"{name} is {found}, where the class has a {type(place.before).__name__}: grow the model before its modules are "
            f"replaced."
        )
    if not place.stays and "forward" in vars(place.live):
        raise GrowthError(
            f"{name} has a forward of its own (patched, or hooked by accelerate), which its copies would not have: grow the "
            f"model first."
        )


def _state(place: _Place, results: Mapping[int, nn.Module], configs: dict[int, PreTrainedConfig]) -> dict[str, Any]:
    """The attributes of a module of the grown model, but for its parameters."""
    live, before, after = vars(place.live), vars(place.before), vars(place.after)
    state = _merged(live, before, after, configs, mine=place.stays)
    children = {name: child and results[id(child)] for name, child in after["_modules"].items()}
    state["_buffers"] = _buffers(live["_buffers"], before["_buffers"], after["_buffers"], place.stays)
    if place.stays:
        children |= {name: child for name, child in live["_modules"].items() if name not in before["_modules"]}
    else:
        state["_forward_hooks"] |= _capturing_hooks(live)
    state["_modules"] = children
    return state


def _merged(
    live: Mapping[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    configs: dict[int, PreTrainedConfig],
    mine: bool,
) -> dict[str, Any]:
    """The attributes of `live`, with those of `after` where it differs from `before`.

    `mine`: the object stays, and with it what is not plain data (hooks, functions, caches); a copy has its own.
    """
    state = dict(live) if mine else dict(after)
    for name in {*live, *before, *after}.difference(_TREE):
        old, new = before.get(name, _MISSING), after.get(name, _MISSING)
        if isinstance(new, PreTrainedConfig):
            if id(new) not in configs:
                configs[id(new)] = _grown_config(live[name], old, new)
            state[name] = configs[id(new)]
        elif name == "config" and new is not _MISSING and not _plain(new):
            state[name] = new  # the config of a class that is not of transformers, which alone knows what it is
        elif _changed(old, new):
            if new is _MISSING:
                state.pop(name, None)
            else:
                state[name] = new
        elif not mine and name in live and (_plain(live[name]) or name == "_gradient_checkpointing_func"):
            state[name] = copy.copy(live[name])
    return state


def _changed(old: Any, new: Any) -> bool:
    """Whether a config decides on an attribute. Only plain data is compared; functions and objects are never equal."""
    if old is _MISSING or new is _MISSING:
        return old is not new
    return _plain(old) and _plain(new) and (type(old) is not type(new) or old != new)


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(map(_plain, value))
    return isinstance(value, _PLAIN)


def _grown_config(live: PreTrainedConfig, before: PreTrainedConfig, after: PreTrainedConfig) -> PreTrainedConfig:
    """A new config object: the old one may be shared with other models."""
    config = copy.copy(after)
    state = copy.deepcopy(_merged(vars(live), vars(before), vars(after), {}, mine=True))
    config.__dict__.clear()
    config.__dict__.update(state)
    return config


def _buffers(
    live: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], stays: bool
) -> dict[str, torch.Tensor | None]:
    """The live buffers, but for those that the config decides: they are on the live ones' device, of their dtype."""
    buffers = dict(live) if stays else {}
    for name, new in after.items():
        old, current = before.get(name), live.get(name)
        if new is None or old is None or current is None:
            buffers[name] = new
        elif old.dtype == new.dtype and torch.equal(old, new):
            buffers[name] = current if stays else current.clone()
        else:
            buffers[name] = new.to(current.device, current.dtype if old.dtype == new.dtype else new.dtype)
    return buffers


def _capturing_hooks(live: Mapping[str, Any]) -> dict[int, Any]:
    """Hooks of transformers, which return hidden states and attentions: it puts them into a model once, and not again."""
    return {
        number: hook
        for number, hook in live["_forward_hooks"].items()
        if getattr(hook, "__module__", "").startswith("transformers.")
    }
