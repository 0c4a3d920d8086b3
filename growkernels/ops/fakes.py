"""The fake kernel of every in-place op."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from growkernels.ops.checks import check_devices


def fake_in_place(*arguments: Any) -> None:
    """In-place ops return nothing. Called too where only some tensors are on the meta device, which would be ignored."""
    lists = [argument if isinstance(argument, (list, tuple)) else [argument] for argument in arguments]
    check_devices([tensor for tensors in lists for tensor in tensors if isinstance(tensor, Tensor)])
