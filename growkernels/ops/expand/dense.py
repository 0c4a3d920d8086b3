"""The ops around `expand` by dense products, on the mixes, inner products and products of any library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from growkernels.ops.checks import check_dtype
from growkernels.ops.expand import cost
from growkernels.ops.expand.backward import add_gradients
from growkernels.ops.expand.cost import Rates
from growkernels.ops.expand.formats import Formats, wide_dtype
from growkernels.ops.expand.forward import Products
from growkernels.ops.expand.packing import distribute, empty_targets
from growkernels.ops.expand.saved import SAVING, empty_saved, unpack_saved
from growkernels.ops.raw_arguments import check_backward, check_needed, check_stacks, check_targets


def expand_(
    ops: Any,
    rates: Rates,
    outs: Sequence[Tensor],
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    saved: Sequence[Tensor] = (),
) -> None:
    wide = wide_dtype(outs, weights, matrices)
    first = 0
    stacks = check_stacks(weights, matrices, layout)
    check_targets(outs, stacks, [*weights, *matrices])
    for expansion, of_stack in zip(stacks, unpack_saved(saved, len(stacks)), strict=True):
        targets = outs[first : first + expansion.target_layers]
        formats = Formats.of(expansion, wide, rates)
        order = cost.choose(expansion, formats.rate(rates))
        Products(ops, expansion, order, formats, rates, of_stack).write(targets)
        first += len(targets)


def expand(
    ops: Any,
    rates: Rates,
    fresh: Callable[[Tensor], None] | None,
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    dtype: torch.dtype,
    needed: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor]]:
    check_stacks(weights, matrices, layout)
    check_dtype("dtype", dtype)
    check_needed(needed, [*weights, *matrices])
    outs = empty_targets(weights, matrices, layout, dtype)
    saved = empty_saved(ops.name, weights, matrices, layout, dtype, needed)
    if fresh is not None:
        for tensor in (*outs, *saved):
            fresh(tensor)
    expand_(ops, rates, [layer for out in outs for layer in out.unbind()], weights, matrices, layout, saved)
    return outs, saved


def expand_backward(
    ops: Any,
    rates: Rates,
    grads: Sequence[Tensor],
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    saved: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:
    inputs = [*weights, *matrices]
    stacks = check_stacks(weights, matrices, layout)
    check_backward(grads, stacks, saved, needed, len(inputs))
    wide = wide_dtype(grads, inputs)
    totals = [
        tensor.new_zeros(tensor.shape, dtype=wide) if wanted else None
        for tensor, wanted in zip(inputs, needed, strict=True)
    ]
    count = len(weights)
    of_stacks = distribute(totals[:count], totals[count:], layout)
    for grad, expansion, of, of_stack in zip(grads, stacks, of_stacks, unpack_saved(saved, len(stacks)), strict=True):
        formats = Formats.of(expansion, wide, rates)
        weights_needed = any(total is not None for total in of.weights)
        # Where the forward pass has saved something, it went by this order too.
        order = cost.choose(expansion, formats.rate(rates), backward=True, weights_needed=weights_needed)
        add_gradients(Products(ops, expansion, order, formats, rates, of_stack), grad.unbind(), of)
    return [total.to(tensor.dtype) for tensor, total in zip(inputs, totals, strict=True) if total is not None]


def implementations(
    library: Library, device: str, rates: Rates, fresh: Callable[[Tensor], None] | None
) -> dict[str, Callable[..., Any]]:
    """The ops around `expand` by name, on the mixes, inner products and products that a library has for a type of device.

    fresh: called with every new result before it is written.
    """
    ops = getattr(torch.ops, library.ns)
    SAVING[library.ns, device] = rates
    return {
        "expand": partial(expand, ops, rates, fresh),
        "expand_": partial(expand_, ops, rates),
        "expand_backward": partial(expand_backward, ops, rates),
    }
