"""Modes of torch that a caller may be in, and that tensors made for keeps must not follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

_CPU = torch.device("cpu")


@contextmanager
def plain_tensors() -> Iterator[None]:
    """New tensors are ones that gradients can be recorded of, and on the CPU unless a device is named.

    Whatever the caller is in: `torch.inference_mode()`, `torch.device("meta")`, `torch.set_default_device(...)`.
    """
    # A default device is a function mode, which every call of torch pays for.
    on_cpu = nullcontext() if torch.get_default_device() == _CPU else _CPU
    with torch.inference_mode(False), on_cpu:
        yield


def recordable(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy if it is one of inference mode, which autograd cannot save."""
    return tensor.clone() if tensor.is_inference() else tensor
