"""What `torch.autocast` makes of the factors of a product."""

from __future__ import annotations

import torch
from torch import Tensor


def factor(tensor: Tensor) -> Tensor:
    """In a region of autocast, the tensor cast as `torch.mm` casts it there: to the region's dtype, float64 as it is."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor
