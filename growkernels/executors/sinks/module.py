"""The empty model of a grown class, and its parameters put in one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from growkernels.errors import GrowthError
from growkernels.plans import Rule


class EmptyModel:
    """A model whose parameters are on the meta device until they are `put` in; tied parameters stay one object."""

    def __init__(self, model: nn.Module, parameter_name: Callable[[str], str]) -> None:
        """`parameter_name` turns a tensor's name in the file into the model's."""
        self.model = model
        self._name = parameter_name
        self._empty = dict(model.named_parameters(remove_duplicate=False))
        self._places: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                self._places.setdefault(id(parameter), []).append((module, name))

    def own(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        """The rules of tensors that the class has: files may hold others, such as a head that it does without.

        Raises GrowthError unless they are all of its parameters, each once and in its shape.
        """
        mine = tuple(rule for rule in rules if self._name(rule.target) in self._empty)
        kind = type(self.model).__name__
        filled: dict[int, str] = {}
        for rule in mine:
            parameter = self._parameter(rule.target)
            if id(parameter) in filled:
                raise GrowthError(f"{filled[id(parameter)]} and {rule.target} are one parameter of {kind}.")
            if tuple(parameter.shape) != rule.spec.shape:
                raise GrowthError(
                    f"{rule.target} is {list(parameter.shape)} in {kind}, and {list(rule.spec.shape)} in the plan."
                )
            filled[id(parameter)] = rule.target
        missing = [name for name, parameter in self._empty.items() if id(parameter) not in filled]
        if missing:
            raise GrowthError(f"the plan has no tensor for {', '.join(missing[:3])} of {kind}.")
        return mine

    def put(self, name: str, parameter: nn.Parameter) -> None:
        """Set a parameter, everywhere that it is tied to."""
        for module, leaf in self._places[id(self._parameter(name))]:
            module._parameters[leaf] = parameter

    def dtype(self, name: str) -> torch.dtype:
        """The dtype that stock transformers would load a tensor in."""
        return self._parameter(name).dtype

    def _parameter(self, name: str) -> nn.Parameter:
        return self._empty[self._name(name)]
