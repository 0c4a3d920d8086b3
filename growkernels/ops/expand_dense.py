"""The ops around `expand` by dense products, on the mixes, inner products and products of any library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from growkernels.ops.expand_gradients import add_gradients
from growkernels.ops.expand_layout import Expansion, empty_targets, unpack
from growkernels.ops.expand_order import Rate, choose
from growkernels.ops.expand_products import Formats, Products


def _wide(*groups: Sequence[Tensor]) -> torch.dtype:
    wide = any(tensor.dtype == torch.float64 for group in groups for tensor in group)
    return torch.float64 if wide else torch.float32


def _formats(wide: torch.dtype, gpu: bool, expansion: Expansion) -> Formats:
    """A GPU multiplies bfloat16 many times as fast as float32: what it is made of stays in it where all factors are.

    Not float16, whose range is less than float32's: what fits it may be grown from what does not.
    """
    factors = [t for t in (*expansion.weights, expansion.b, expansion.a) if t is not None]
    halves = gpu and wide == torch.float32 and all(tensor.dtype == torch.bfloat16 for tensor in factors)
    return Formats(torch.bfloat16 if halves else wide, wide)


def _rate(gpu: bool, formats: Formats) -> Rate:
    if not gpu:
        return Rate.CPU
    return Rate.GPU_BFLOAT16 if formats.factor == torch.bfloat16 else Rate.GPU


def expand_(
    ops: Any,
    gpu: bool,
    outs: Sequence[Tensor],
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
) -> None:
    wide = _wide(outs, weights, matrices)
    first = 0
    for expansion in unpack(weights, matrices, layout):
        targets = outs[first : first + expansion.target_layers]
        formats = _formats(wide, gpu, expansion)
        Products(ops, expansion, choose(expansion, _rate(gpu, formats)), formats, gpu).write(targets)
        first += len(targets)


def expand(
    ops: Any,
    gpu: bool,
    fresh: Callable[[Tensor], None] | None,
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    dtype: torch.dtype,
) -> list[Tensor]:
    outs = empty_targets(weights, matrices, layout, dtype)
    if fresh is not None:
        for out in outs:
            fresh(out)
    expand_(ops, gpu, [layer for out in outs for layer in out.unbind()], weights, matrices, layout)
    return outs


def expand_backward(
    ops: Any,
    gpu: bool,
    grads: Sequence[Tensor],
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    needed: Sequence[bool],
) -> list[Tensor]:
    inputs = [*weights, *matrices]
    wide = _wide(grads, inputs)
    totals = [
        tensor.new_zeros(tensor.shape, dtype=wide) if wanted else None
        for tensor, wanted in zip(inputs, needed, strict=True)
    ]
    count = len(weights)
    of_expansions = unpack(totals[:count], totals[count:], layout)
    for grad, expansion, of in zip(grads, unpack(weights, matrices, layout), of_expansions, strict=True):
        weights_needed = any(total is not None for total in of.weights)
        formats = _formats(wide, gpu, expansion)
        order = choose(expansion, _rate(gpu, formats), backward=True, weights_needed=weights_needed)
        add_gradients(Products(ops, expansion, order, formats, gpu), grad.unbind(), of)
    return [total.to(tensor.dtype) for tensor, total in zip(inputs, totals, strict=True) if total is not None]


def register(
    library: torch.library.Library,
    device: str,
    gpu: bool,
    fresh: Callable[[Tensor], None] | None = None,
    **parts: Callable[..., None],
) -> None:
    """Implement the ops for tensors of a device, which works as a GPU does or not.

    fresh: called with every result before it is written. parts: ops that the library has no kernel of.
    """
    ops = getattr(torch.ops, library.ns)
    for name, function in parts.items():
        library.impl(name, function, device)
    library.impl("expand", partial(expand, ops, gpu, fresh), device)
    for function in (expand_, expand_backward):
        library.impl(function.__name__, partial(function, ops, gpu), device)
