"""What a call saves of its products for the backward pass that is to come, instead of doing them twice.

With T = B X of every source layer X and E = T A^T, both without what an identity copies: the gradient of A needs T, that of
`depth` needs both. B is the side that is multiplied first. Only where layers are mixed after the products: mixing first, T and
E have as many layers as the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from growkernels.ops.expand import cost
from growkernels.ops.expand.cost import Rates, Sides, work
from growkernels.ops.expand.formats import Formats, wide_dtype
from growkernels.ops.expand.packing import Expansion, Parts, distribute, unpack

#: Of the result's bytes, what may be saved at most.
SHARE = 0.5
#: The rates of what saves, by namespace and type of device.
SAVING: dict[tuple[str, str], Rates] = {}


class Saved(NamedTuple):
    """T and E of all source layers, one panel of the target after the other, in one axis; None is computed again."""

    first: Tensor | None = None
    second: Tensor | None = None


def empty_saved(
    namespace: str,
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    dtype: torch.dtype,
    needed: Sequence[bool],
) -> list[Tensor]:
    """Uninitialized memory for T and E of each stack, without elements where it is not saved; [] if nothing can be.

    needed: of which weights, then matrices, there will be gradients; [] of none.
    """
    formats = saved_formats(namespace, weights, matrices, layout, dtype, needed)
    if not formats:
        return []
    rates, count = SAVING[namespace, weights[0].device.type], len(weights)
    sizes: list[int] = []
    of_stacks = distribute(needed[:count], needed[count:], layout)
    for k, (expansion, of) in enumerate(zip(unpack(weights, matrices, layout), of_stacks, strict=True)):
        sizes += _sizes(expansion, of, Formats(*formats[2 * k : 2 * k + 2]), dtype, rates)
    return [weights[0].new_empty(size, dtype=each) for size, each in zip(sizes, formats, strict=True)]


def saved_formats(
    namespace: str,
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    dtype: torch.dtype,
    needed: Sequence[bool],
) -> list[torch.dtype]:
    """Dtypes of what `empty_saved` returns."""
    rates = SAVING.get((namespace, weights[0].device.type)) if weights else None
    if rates is None or not any(needed):
        return []
    wide = torch.float64 if dtype == torch.float64 else wide_dtype(weights, matrices)
    return [each for stack in unpack(weights, matrices, layout) for each in Formats.of(stack, wide, rates)]


def unpack_saved(saved: Sequence[Tensor], stacks: int) -> list[Saved]:
    """Of each stack, from what `empty_saved` returned, or []."""
    if not saved:
        return [Saved()] * stacks
    parts = [part if part.numel() else None for part in saved]
    return [Saved(*parts[k : k + 2]) for k in range(0, len(parts), 2)]


def _sizes(
    expansion: Expansion, needed: Parts[bool], formats: Formats, dtype: torch.dtype, rates: Rates
) -> tuple[int, int]:
    """Elements of T and of E that are saved: those that spare most operations within the share."""
    rate = formats.rate(rates)
    order = cost.choose(expansion, rate)
    weights_needed = any(needed.weights)
    if (
        expansion.depth is None
        or order.mix_first
        or order != cost.choose(expansion, rate, backward=True, weights_needed=weights_needed)
    ):
        return 0, 0
    sides, layers = Sides.of(expansion, order), len(expansion.weights)
    of_a = needed.a if order.b_first else needed.b
    first = layers * sides.new[0] * sides.size[1] if of_a or needed.depth else 0
    second = layers * sides.target[0] * sides.new[1] if needed.depth else 0
    limit = SHARE * expansion.target_layers * sides.target[0] * sides.target[1] * dtype.itemsize

    def price(sizes: tuple[int, int]) -> tuple[int, int]:
        saved = sizes[0] > 0, sizes[1] > 0
        return work(expansion, order, True, weights_needed, saved).flops, sum(sizes)

    def fits(sizes: tuple[int, int]) -> bool:
        return sizes[0] * formats.factor.itemsize + sizes[1] * formats.wide.itemsize <= limit

    return min(filter(fits, ((0, 0), (first, 0), (0, second), (first, second))), key=price)
