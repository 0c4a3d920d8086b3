"""Clipping gradients of a grown model by the norm that the source's gradient would have."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from growkernels.optim.hooks import KEY, restore, unwrapped


@torch.no_grad()
def clip_grad_norm_(
    optimizer: Any, max_norm: float, *, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """Clip the gradients of an optimizer's parameters to a norm, that of the model before it was grown.

    The gradient of a tensor that was grown to K copies times c has `1 / (c sqrt(K))` of the norm of the source's:
    `torch.nn.utils.clip_grad_norm_` would clip at another point than before the growth. Here every tensor's norm counts
    `c sqrt(K)` times. For an optimizer that was not grown it is torch's own function.

    Args:
        optimizer: one, or several in a list, whose parameters are clipped together.
        max_norm: the largest norm of the source's gradient.
        error_if_nonfinite: raise RuntimeError if the norm is NaN or infinite.
        foreach: as in torch.

    Returns:
        The norm before the clipping.

    Example:
        >>> loss.backward()
        >>> growkernels.optim.clip_grad_norm_(optimizer, 1.0)
        >>> optimizer.step()
    """
    found: dict[int, tuple[Tensor, float]] = {}
    for one in _listed(optimizer):
        inner = unwrapped(one)
        restore(inner)
        for group in inner.param_groups:
            record = group.get(KEY, {})
            for place, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    norm = record["c"][place] * sqrt(record["K"][place]) if record else 1.0
                    found[id(parameter)] = parameter, norm
    parameters = [parameter for parameter, _ in found.values()]
    if all(norm == 1.0 for _, norm in found.values()):
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm, 2.0, error_if_nonfinite, foreach)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = [torch.linalg.vector_norm(g) * norm for g, (_, norm) in zip(gradients, found.values(), strict=True)]
    total = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(f"the norm of the gradients is {float(total)}: they cannot be clipped")
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def _listed(optimizer: Any) -> Iterable[Any]:
    return optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
