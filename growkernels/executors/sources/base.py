"""What a run reads from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from growkernels.rules.tensor import TensorSpec


class Tensors(Protocol):
    """Named tensors with a name of their own."""

    @property
    def name(self) -> str:
        """What error messages call the whole."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Shape and dtype of every tensor."""
        ...

    def tensor(self, name: str) -> torch.Tensor:
        """The values of a tensor."""
        ...


class TensorSource(Tensors, Protocol):
    """Tensors that a run consumes: an opened checkpoint, a live model, an optimizer's state."""

    def device(self, name: str) -> torch.device:
        """Where a tensor is, and its targets are computed; of the name "", where targets are that draw on no tensor."""
        ...

    def free(self, name: str) -> None:
        """Give back the memory of a tensor that no later rule reads."""
        ...
