"""The ops of the schema by the Triton kernels, for CUDA tensors (for CPU tensors under Triton's interpreter).

Triton is imported at the first call: importing it takes a second, and machines without a GPU do not need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def tile_(
    out: torch.Tensor,
    weight: torch.Tensor,
    n_out: int,
    n_in: int,
    diagonal: bool,
    noise_std: float,
    snr_db: float | None,
    key: int,
) -> None:
    raise NotImplementedError


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {}
