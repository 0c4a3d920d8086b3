"""The schemas of `mean_square` and `normal_`, with their fake kernels, which are the same for every backend."""

from __future__ import annotations

import torch
from torch import Tensor

from growkernels.ops.fakes import fake_in_place

SCHEMAS = (
    "mean_square(Tensor[] tensors, float[] divisors) -> Tensor",
    "normal_(Tensor(a!) out, SymInt key, SymInt field, SymInt start) -> ()",
)


def _fake_mean_square(tensors: list[Tensor], divisors: list[float]) -> Tensor:
    return torch.empty(len(tensors), dtype=torch.float64, device=tensors[0].device)


def register(library: torch.library.Library) -> None:
    """Register fakes for a library; before any of its ops is called."""
    torch.library.register_fake(f"{library.ns}::normal_", fake_in_place, lib=library)
    torch.library.register_fake(f"{library.ns}::mean_square", _fake_mean_square, lib=library)
