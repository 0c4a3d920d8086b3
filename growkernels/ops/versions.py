"""Version counters: how autograd notices that a tensor it saved was overwritten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.checks import check_gradients, check_inference


def raising_version(implementation: Callable[..., None]) -> Callable[..., None]:
    """An in-place op that is written in Python, raising the counter of each tensor it writes by one.

    Compiled ones do it themselves (csrc/versions.cpp).

    Args:
        implementation: its first argument is the tensor it writes, or a list of them; it refuses before it writes.

    Returns:
        The same with the counters raised, unless it refuses. Tensors that cannot be written in place are refused.
    """

    def run(outs: Tensor | Sequence[Tensor], *arguments: Any) -> None:
        written = [outs] if isinstance(outs, Tensor) else outs
        check_gradients(written, ())
        check_inference(written)
        refused = False
        try:
            # The in-place ops of torch that it is made of would raise the counters once each.
            with torch._C._AutoDispatchBelowADInplaceOrView():
                implementation(outs, *arguments)
        except GrowthError:
            refused = True
            raise
        finally:
            if not refused:
                torch.autograd.graph.increment_version(written)

    return run


def raising_versions(implementations: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Implementations by op name, the in-place ones raising version counters."""
    return {name: raising_version(f) if name.endswith("_") else f for name, f in implementations.items()}
