"""Learned rules on tensors: `B (sum_j w_j source_j) A^T`, part by part of its axes. Differentiable in the matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Expansion
from growkernels.ops.autocast import cast_factors, factor
from growkernels.ops.backends import ops_of
from growkernels.ops.expand.packing import pack
from growkernels.plans import Learned, LearnedPart, Plan


def open_matrices(plan: Plan, device: torch.device) -> dict[str, Tensor]:
    """The learned matrices of a plan as tensors on a device; none if nothing in it is learned.

    Raises GrowthError unless they are there, all of them and in their shapes.
    """
    held: Mapping[str, np.ndarray] = plan.matrices or {}
    for rule in plan.rules:
        if not isinstance(rule.how, Learned):
            continue
        if rule.how.weights:
            continue
        # Coefficients have a row for every target layer, of which a rule knows its own.
        mix = rule.how.mix
        wanted = {**rule.how.matrices, mix: (rule.how.row + 1, len(rule.sources))}
        for name, (rows, columns) in wanted.items():
            if name not in held:
                raise GrowthError(f"{rule.target} needs the learned matrix {name!r}, which the plan does not hold.")
            most = held[name].shape[0] if name == mix else rows
            if held[name].shape[1] != columns or not rows <= held[name].shape[0] <= most:
                found = list(held[name].shape)
                raise GrowthError(f"{rule.target} needs {name!r} as {[rows, columns]}, the plan holds {found}.")
    return {name: torch.tensor(value, device=device) for name, value in held.items()}


def expand_rule(how: Learned, weights: Sequence[Tensor], matrices: Mapping[str, Tensor]) -> Tensor:
    """The target of a learned rule, in float32 (float64 from float64 sources), not yet rounded to the target's dtype.

    weights: the rule's sources in order; matrices: float32, on their device. The same bits inside `torch.autocast`.
    """
    with torch.autocast(weights[0].device.type, enabled=False):
        return expand_rules([how], weights, matrices)[0]


def expand_rules(hows: Sequence[Learned], weights: Sequence[Tensor], matrices: Mapping[str, Tensor]) -> Tensor:
    """The targets of rules that differ in their row of coefficients alone, [rules, ...]: `expand_rule` up to rounding.

    Products are shared where that is less work: every layer of the source has them once, and not every layer of the target.
    Follows `torch.autocast`.
    """
    if hows[0].weights:
        # No axis changes: tensors of any form are rows of numbers.
        flat = [weight.reshape(1, -1) for weight in weights]
        depth = weights[0].new_tensor([how.weights for how in hows], dtype=torch.float32)
        mixed = ops.expand_many([Expansion(flat, None, None, depth)], _arithmetic(weights))[0]
        return mixed.reshape(len(hows), *hows[0].shape)
    blocks = list(_blocks(hows[0]))
    if len(blocks) == 1:
        return _grow(hows, weights, blocks[0], matrices)
    out = weights[0].new_empty((len(hows), *hows[0].shape), dtype=_arithmetic(weights))
    for block in blocks:
        out[(slice(None), *block.target)] = _grow(hows, weights, block, matrices)
    return out


@torch.enable_grad()
def pull_back(how: Learned, weights: Sequence[Tensor], matrices: Mapping[str, Tensor], gradient: Tensor) -> None:
    """Add to the gradients of a rule's matrices what the gradient of its target gives them.

    The target is not computed again; of blocks with a side of whole heads, what that side multiplies is. Follows
    `torch.autocast`.
    """
    for block in _blocks(how):
        part = gradient[block.target].to(_arithmetic(weights))
        if any(side.block > 1 for side in block.sides):
            _grow([how], weights, block, matrices)[0].backward(part)
            continue
        expansion = _expansion([how], weights, block, matrices)
        # Where there is no product, neither the target nor its gradient is cast.
        part = part if expansion.b is None and expansion.a is None else factor(part)
        if part.ndim == 1:
            # The op behind `expand` knows matrices alone: a vector is one row.
            sources, part = [weight.unsqueeze(0) for weight in expansion.weights], part.unsqueeze(0)
            expansion = Expansion(sources, None, expansion.b, expansion.depth)
        sources, factors, layout = pack([expansion])
        needed = [False] * len(sources) + [True] * len(factors)
        with torch.no_grad():
            found = ops_of(None, part).expand_backward([part.unsqueeze(0)], sources, factors, layout, [], needed)
        torch.autograd.backward(factors, found)


def round_once(value: Tensor, dtype: torch.dtype) -> Tensor:
    """What `expand_rule` gave, in the target's dtype. torch rounds float64 to float32 on its way to a half, and then again."""
    if value.dtype == dtype:
        return value
    out = torch.empty_like(value, dtype=dtype)
    ops.replicate_([out], [value], [0])
    return out


class _Block(NamedTuple):
    """What one part of every axis makes: the places of its source and target, and those parts."""

    source: tuple[slice, ...]
    target: tuple[slice, ...]
    sides: tuple[LearnedPart, ...]


def _blocks(learned: Learned) -> Iterator[_Block]:
    for stretches in product(*(_stretches(axis) for axis in learned.axes)):
        sources, targets, sides = zip(*stretches, strict=True)
        yield _Block(sources, targets, sides)


def _stretches(axis: Sequence[LearnedPart]) -> list[tuple[slice, slice, LearnedPart]]:
    ends, new_ends = accumulate(part.size for part in axis), accumulate(part.new_size for part in axis)
    return [
        (slice(end - part.size, end), slice(new_end - part.new_size, new_end), part)
        for end, new_end, part in zip(ends, new_ends, axis, strict=True)
    ]


def _arithmetic(weights: Sequence[Tensor]) -> torch.dtype:
    return torch.float64 if weights[0].dtype == torch.float64 else torch.float32


def _expansion(
    hows: Sequence[Learned], weights: Sequence[Tensor], block: _Block, matrices: Mapping[str, Tensor]
) -> Expansion:
    """Whole matrices and the mix; sides of whole heads are left as they are."""
    depth = torch.stack([matrices[how.mix][how.row] for how in hows])
    b, a = ([None if p.matrix is None or p.block > 1 else matrices[p.matrix] for p in block.sides] + [None])[:2]
    return cast_factors(Expansion([weight[block.source] for weight in weights], b, a, depth))


def _grow(hows: Sequence[Learned], weights: Sequence[Tensor], block: _Block, matrices: Mapping[str, Tensor]) -> Tensor:
    """One block of every rule's target: first by the op, then the sides that act on whole heads, which cost little."""
    value = ops.expand_many([_expansion(hows, weights, block, matrices)], _arithmetic(weights))[0]
    for axis, side in enumerate(block.sides, 1):
        if side.matrix is not None and side.block > 1:
            heads = value.unflatten(axis, (-1, side.block)).flatten(axis + 1)
            shape = *value.shape[:axis], side.new_size, *value.shape[axis + 1 :]
            value = (matrices[side.matrix].to(value.dtype) @ heads).reshape(shape)
    return value
