"""The ops around `expand` by dense products, on the mixes and inner products of any library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from growkernels.ops import expand_reference
from growkernels.ops.expand_gradients import add_gradients
from growkernels.ops.expand_layout import empty_targets, unpack
from growkernels.ops.expand_order import choose
from growkernels.ops.expand_products import Products


def _compute_dtype(*groups: Sequence[Tensor]) -> torch.dtype:
    wide = any(tensor.dtype == torch.float64 for group in groups for tensor in group)
    return torch.float64 if wide else torch.float32


def expand_(
    ops: Any, outs: Sequence[Tensor], weights: Sequence[Tensor], matrices: Sequence[Tensor], layout: Sequence[int]
) -> None:
    dtype = _compute_dtype(outs, weights, matrices)
    first = 0
    for expansion in unpack(weights, matrices, layout):
        targets = outs[first : first + expansion.target_layers]
        Products(ops, expansion, choose(expansion), dtype).write(targets)
        first += len(targets)


def expand(
    ops: Any, weights: Sequence[Tensor], matrices: Sequence[Tensor], layout: Sequence[int], dtype: torch.dtype
) -> list[Tensor]:
    outs = empty_targets(weights, matrices, layout, dtype)
    expand_(ops, [layer for out in outs for layer in out.unbind()], weights, matrices, layout)
    return outs


def expand_backward(
    ops: Any,
    grads: Sequence[Tensor],
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    needed: Sequence[bool],
) -> list[Tensor]:
    inputs = [*weights, *matrices]
    dtype = _compute_dtype(grads, inputs)
    totals = [
        tensor.new_zeros(tensor.shape, dtype=dtype) if wanted else None
        for tensor, wanted in zip(inputs, needed, strict=True)
    ]
    count = len(weights)
    of_expansions = unpack(totals[:count], totals[count:], layout)
    for grad, expansion, of in zip(grads, unpack(weights, matrices, layout), of_expansions, strict=True):
        weights_needed = any(total is not None for total in of.weights)
        order = choose(expansion, backward=True, weights_needed=weights_needed)
        add_gradients(Products(ops, expansion, order, dtype), grad.unbind(), of)
    return [total.to(tensor.dtype) for tensor, total in zip(inputs, totals, strict=True) if total is not None]


def register(library: torch.library.Library, device: str, compiled: bool) -> None:
    """Implement the ops for tensors of a device; where mixes and inner products are not `compiled`, torch does them."""
    if not compiled:
        for function in (expand_reference.mix_, expand_reference.inner_products_):
            library.impl(function.__name__, function, device)
    for function in (expand_, expand, expand_backward):
        library.impl(function.__name__, partial(function, getattr(torch.ops, library.ns)), device)
