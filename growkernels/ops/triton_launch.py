"""Where Triton kernels run: on the device of their tensors, unless this Triton would change bits there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.metadata import version
from typing import Any

from torch import Tensor

from growkernels import devices
from growkernels.errors import GrowthError


def on_device(*lists: Sequence[Tensor]) -> AbstractContextManager[Any]:
    """The one device of all tensors as the current one, where that means something."""
    found = {tensor.device for tensors in lists for tensor in tensors}
    if len(found) > 1:
        raise GrowthError(f"tensors are on {sorted(map(str, found))}; put them on one device")
    device = found.pop()
    if device.type == "cpu":
        return nullcontext()
    if why := fuses(*devices.capability(device)):
        raise GrowthError(why)
    return devices.current(device)


@cache
def fuses(major: int, minor: int) -> str:
    """Why this Triton's code would not have the reference's bits on a GPU of this compute capability, and what to do.

    Empty if it has. The ptxas that Triton 3.6 carries for these GPUs makes one instruction of a product and a sum that are to
    be rounded each, whatever it is told; that of 3.7 does not.
    """
    if major < 10 or tuple(map(int, version("triton").split(".")[:2])) >= (3, 7):
        return ""
    return (
        f"Triton {version('triton')} fuses products and sums on compute capability {major}.{minor}, which changes the bits of "
        f"noise and mixes; install Triton 3.7 or later, or build the extension with nvcc and choose backend 'cuda'"
    )
