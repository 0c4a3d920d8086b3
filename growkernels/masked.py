"""A parameter under a mask: the parametrization of torch that scales its new entries, and what a state dict holds of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from weakref import ref

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList


class Scale(nn.Module):
    """The parametrization of one parameter: its entries' distance from the value that silences them, times the mask's."""

    value: torch.Tensor
    entries: torch.Tensor | None

    def __init__(self, entries: torch.Tensor, silent: float) -> None:
        """entries: bool, in the shape of the parameter and on its device."""
        super().__init__()
        self._silent = silent
        self._saved: tuple[tuple[int, ...], ref[torch.Tensor]] | None = None
        self.register_buffer("value", torch.zeros((), device=entries.device), persistent=False)
        self.register_buffer("entries", None if bool(entries.all()) else entries, persistent=False)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The masked parameter. At 0 the entries are the silent value itself, whatever they hold."""
        scaled = (weight - self._silent) * self.value + self._silent
        return scaled if self.entries is None else torch.where(self.entries, scaled, weight)

    @torch.no_grad()
    def saved(self, weight: torch.Tensor) -> torch.Tensor:
        """What a state dict holds: one tensor for all names of a tied parameter, or savers would not know that it is tied."""
        state = (weight.data_ptr(), weight._version, self.value._version)
        last = self._saved[1]() if self._saved is not None and self._saved[0] == state else None
        found: torch.Tensor = self(weight) if last is None else last
        self._saved = state, ref(found)
        return found


def masks_of(module: nn.Module) -> Mapping[str, ParametrizationList]:
    """The parametrized parameters of a module, by name."""
    return cast(Mapping[str, ParametrizationList], module.parametrizations)


def with_plain_names(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    """Hook on state dicts: masked parameters under their own names, as the model computes with them."""
    for name, masked in masks_of(module).items():
        scale = masked[0]
        if isinstance(scale, Scale):
            del state[f"{prefix}parametrizations.{name}.original"]
            state[prefix + name] = scale.saved(masked.original)
