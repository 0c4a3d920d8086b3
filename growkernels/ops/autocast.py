"""What `torch.autocast` makes of the factors of a product."""

from __future__ import annotations

import torch
from torch import Tensor

from growkernels.ops.expand.packing import Expansion


def factor(tensor: Tensor) -> Tensor:
    """In a region of autocast, the tensor cast as `torch.mm` casts it there: to the region's dtype, float64 as it is."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor


def cast_factors(expansion: Expansion) -> Expansion:
    """In a region of autocast, the factors of the products cast; as it is where there are none, as torch adds and copies."""
    _, b, a, depth, structured = expansion
    if b is None and a is None:
        return expansion
    b, a = (None if side is None else factor(side) for side in (b, a))
    return Expansion([factor(weight) for weight in expansion.layers], b, a, depth, structured)
