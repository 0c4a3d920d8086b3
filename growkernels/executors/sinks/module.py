"""Grown tensors into the parameters of an empty model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import nn
from transformers import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.executors.sinks.base import BUCKET
from growkernels.layouts import Place
from growkernels.plans import Rule


class ModuleSink:
    """A model on the meta device whose tensors come in one by one; tied parameters stay one object.

    A tensor of the file may be one of many in a stacked parameter: it is then computed where it will be.
    """

    bucket = BUCKET

    def __init__(
        self,
        model: PreTrainedModel,
        find: Callable[[str], tuple[Place, ...]],
        parameter: Callable[[Rule, torch.Tensor], nn.Parameter],
    ) -> None:
        """find: the places of a tensor of the file in the state dict; parameter: makes one of a computed tensor."""
        self.model = model
        self._find, self._make = find, parameter
        self._empty: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
        self._owners: dict[int, list[tuple[nn.Module, str]]] = {}
        #: Buffers that files hold. The class has values for them, so that they may be missing.
        self._buffers: set[str] = set()
        for path, module in model.named_modules():
            for leaf, one in module._parameters.items():
                if one is not None:
                    self._owners.setdefault(id(one), []).append((module, leaf))
            for leaf, buffer in module._buffers.items():
                if buffer is not None and leaf not in module._non_persistent_buffers_set:
                    name = f"{path}.{leaf}" if path else leaf
                    self._buffers.add(name)
                    self._empty[name] = buffer
                    self._owners.setdefault(id(buffer), []).append((module, leaf))
        #: Stacked parameters that are being filled, and how many of their elements are missing.
        self._stacks: dict[str, torch.Tensor] = {}
        self._missing: dict[str, int] = {}

    def rules(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        """Those of the rules whose targets the class has: files may hold others, such as a head that it does without.

        Raises GrowthError unless they are all of its parameters, each once and in its shape.
        """
        mine = tuple(rule for rule in rules if all(p.parameter in self._empty for p in self._find(rule.target)))
        kind = type(self.model).__name__
        filled: dict[int, str] = {}
        missing = {id(one): one.numel() for name, one in self._empty.items() if name not in self._buffers}
        for rule in mine:
            for place in self._find(rule.target):
                one = self._empty[place.parameter]
                shape = tuple(one.shape)
                if not place.index and len(self._find(rule.target)) == 1:
                    if id(one) in filled:
                        raise GrowthError(f"{filled[id(one)]} and {rule.target} are one parameter of {kind}.")
                    if shape != rule.spec.shape:
                        raise GrowthError(
                            f"{rule.target} is {list(shape)} in {kind}, and {list(rule.spec.shape)} in the plan."
                        )
                filled[id(one)] = rule.target
                missing[id(one)] = missing.get(id(one), one.numel()) - _count(place, shape)
        absent = [name for name, one in self._empty.items() if missing.get(id(one), 0) and name not in self._buffers]
        if absent:
            raise GrowthError(f"the plan has no tensor for {', '.join(absent[:3])} of {kind}.")
        return mine

    def empty(self, rule: Rule, device: torch.device) -> torch.Tensor:
        """Fresh memory, or the range of a stacked parameter that the target is."""
        places = self._find(rule.target)
        if len(places) == 1 and places[0].index:
            return self._range(places[0], getattr(torch, rule.spec.dtype), device)
        return torch.empty(rule.spec.shape, dtype=getattr(torch, rule.spec.dtype), device=device)

    def done(self, rule: Rule, tensor: torch.Tensor) -> None:
        """Make the tensor a parameter of the model, or parts of some."""
        places = self._find(rule.target)
        if len(places) == 1 and not places[0].index:
            self._set(places[0].parameter, self._make(rule, tensor))
        elif len(places) == 1:
            self._fill(rule, places[0], tensor)
        else:
            for place in places:
                size = self._empty[place.parameter].shape[place.axis]
                part = tensor.narrow(place.axis, place.start, size).clone()
                self._set(place.parameter, self._make(rule, part))

    def put(self, name: str, parameter: torch.Tensor) -> None:
        """Set a whole parameter by its name in the file, everywhere that it is tied to."""
        self._set(self._find(name)[0].parameter, parameter)

    def targets(self, rules: Sequence[Rule]) -> dict[str, str]:
        """The target of every parameter of the filled model, by its first name there. Parts of parameters have none."""
        whole = {}
        for rule in rules:
            places = self._find(rule.target)
            if len(places) == 1 and not places[0].index and places[0].parameter not in self._buffers:
                whole[id(self.model.get_parameter(places[0].parameter))] = rule.target
        return {name: whole[id(p)] for name, p in self.model.named_parameters() if id(p) in whole}

    def dtype(self, name: str) -> torch.dtype:
        """The dtype that stock transformers would load a tensor in."""
        return self._empty[self._find(name)[0].parameter].dtype

    def _range(self, place: Place, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        name = place.parameter
        if name not in self._stacks:
            self._stacks[name] = torch.empty(self._empty[name].shape, dtype=dtype, device=device)
            self._missing[name] = self._stacks[name].numel()
        found = self._stacks[name][place.index]
        return found.permute(place.order) if place.order else found

    def _fill(self, rule: Rule, place: Place, tensor: torch.Tensor) -> None:
        here = self._range(place, tensor.dtype, tensor.device)
        if here.data_ptr() != tensor.data_ptr():
            here.copy_(tensor)
        self._missing[place.parameter] -= tensor.numel()
        if not self._missing[place.parameter]:
            self._set(place.parameter, self._make(rule, self._stacks.pop(place.parameter)))

    def _set(self, name: str, value: torch.Tensor) -> None:
        for module, leaf in self._owners[id(self._empty[name])]:
            if name in self._buffers:
                module._buffers[leaf] = value.detach()
            else:
                module._parameters[leaf] = value if isinstance(value, nn.Parameter) else nn.Parameter(value)


def _count(place: Place, shape: tuple[int, ...]) -> int:
    """The elements of a parameter that a place is."""
    if not place.index:
        return prod(shape)
    return prod(entry.stop - entry.start for entry in place.index if isinstance(entry, slice))
