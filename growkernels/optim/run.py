"""Source and sink of a live growth of weights and moments: what belongs to a weight is read, grown and freed with it."""

from __future__ import annotations

import torch
from torch import Tensor

from growkernels.executors.sinks.module import ModuleSink
from growkernels.executors.sources.model import LiveSource
from growkernels.optim.training import Training
from growkernels.plans import Rule
from growkernels.rules.tensor import TensorSpec


class TrainingSource:
    """A live model and the state of its optimizers."""

    def __init__(self, source: LiveSource, training: Training) -> None:
        self.model, self._moments = source, training.tensors
        self.name = source.name
        #: Entries of the state that were freed.
        self.emptied: list[str] = []
        self.tensors: dict[str, TensorSpec] = dict(source.tensors)
        for name, tensor in training.tensors.items():
            self.tensors[name] = TensorSpec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    def tensor(self, name: str) -> Tensor:
        """The values of a parameter or of an entry of the state."""
        found = self._moments.get(name)
        return self.model.tensor(name) if found is None else found

    def device(self, name: str) -> torch.device:
        """Where it is; of the name "", that of the first parameter."""
        found = self._moments.get(name)
        return self.model.device(name) if found is None else found.device

    def free(self, name: str) -> None:
        """Empty a tensor if the growth frees memory as it goes."""
        found = self._moments.get(name)
        if found is None:
            self.model.free(name)
        elif self.model.frees_early:
            self.emptied.append(name)
            found.data = found.data.new_empty(0)


class TrainingSink:
    """The grown model's parameters, and the state of its optimizers."""

    def __init__(self, sink: ModuleSink, training: Training) -> None:
        self._sink, self._training = sink, training
        self.bucket = sink.bucket

    def empty(self, rule: Rule, device: torch.device) -> Tensor:
        """Memory for a target."""
        if self._training.is_moment(rule):
            return torch.empty(rule.spec.shape, dtype=getattr(torch, rule.spec.dtype), device=device)
        return self._sink.empty(rule, device)

    def done(self, rule: Rule, tensor: Tensor) -> None:
        """Take a target."""
        left = self._training.take(rule, tensor)
        if left is not None:
            self._sink.done(*left)
