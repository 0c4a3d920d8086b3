"""What a run writes to."""

from __future__ import annotations

from typing import Protocol

import torch

from growkernels.plans import Rule

#: `Sink.bucket` of memory: enough that a call's own cost is nothing, little beside a model.
BUCKET = 256 << 20


class Sink(Protocol):
    """Takes the grown tensors of a run, in its order."""

    @property
    def bucket(self) -> int:
        """Bytes of targets that are computed by one call; 0 for one tensor at a time, in the order of the rules."""
        ...

    def empty(self, rule: Rule, device: torch.device) -> torch.Tensor:
        """Uninitialized memory on the device for the target of a rule."""
        ...

    def done(self, rule: Rule, tensor: torch.Tensor) -> None:
        """Take a computed target: what `empty` gave, or a tensor of its own on the same device."""
        ...
