"""Grown tensors into the parameters of an empty model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.executors.sinks.base import BUCKET
from growkernels.plans import Rule


class ModuleSink:
    """A model on the meta device whose parameters come in one by one; tied parameters stay one object."""

    bucket = BUCKET

    def __init__(
        self,
        model: PreTrainedModel,
        parameter_name: Callable[[str], str],
        parameter: Callable[[Rule, torch.Tensor], nn.Parameter],
    ) -> None:
        """parameter_name: from a tensor's name in the file to the model's; parameter: makes one of a computed tensor."""
        self.model = model
        self._name, self._make = parameter_name, parameter
        self._empty = dict(model.named_parameters(remove_duplicate=False))
        self._owners: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in model.modules():
            for name, one in module.named_parameters(recurse=False):
                self._owners.setdefault(id(one), []).append((module, name))

    def rules(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        """Those of the rules whose targets the class has: files may hold others, such as a head that it does without.

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

    def empty(self, rule: Rule, device: torch.device) -> torch.Tensor:
        """Fresh memory."""
        return torch.empty(rule.spec.shape, dtype=getattr(torch, rule.spec.dtype), device=device)

    def done(self, rule: Rule, tensor: torch.Tensor) -> None:
        """Make the tensor a parameter of the model."""
        self.put(rule.target, self._make(rule, tensor))

    def put(self, name: str, parameter: nn.Parameter) -> None:
        """Set a parameter, everywhere that it is tied to."""
        for module, leaf in self._owners[id(self._parameter(name))]:
            module._parameters[leaf] = parameter

    def dtype(self, name: str) -> torch.dtype:
        """The dtype that stock transformers would load a tensor in."""
        return self._parameter(name).dtype

    def _parameter(self, name: str) -> nn.Parameter:
        return self._empty[self._name(name)]
