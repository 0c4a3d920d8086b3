"""Wrappers that a growth leaves behind: DistributedDataParallel reduces the gradients of parameters that are no more."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from growkernels.errors import GrowthError


def close_wrappers(model: nn.Module) -> None:
    """Let every DistributedDataParallel around the model refuse its next forward pass: its ranks would drift apart silently."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    for one in gc.get_objects():
        if type(one) is DistributedDataParallel and any(module is model for module in one.modules()):
            one.register_forward_pre_hook(_refuse, prepend=True)


def _refuse(*_: Any) -> None:
    raise GrowthError(
        "the model inside this DistributedDataParallel was grown: it still reduces the gradients of the old parameters, and "
        "the ranks would train apart. Wrap the grown model again."
    )
