"""Learned rules on tensors: `B (sum_j w_j source_j) A^T`, part by part of its axes. Differentiable in the matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.plan import LearnedPart, Plan, Rule


def open_matrices(plan: Plan, device: torch.device) -> dict[str, Tensor]:
    """The learned matrices of a plan as tensors on a device; none if nothing in it is learned.

    Raises GrowthError unless they are there, all of them and in their shapes.
    """
    held = plan.matrices or {}
    for rule in plan.rules:
        for name, (rows, columns) in wanted_matrices(rule).items():
            if name not in held:
                raise GrowthError(f"{rule.target} needs the learned matrix {name!r}, which the plan does not hold.")
            # Coefficients have a row for every target layer, of which a rule knows its own.
            most = held[name].shape[0] if name == rule.learned.mix else rows
            if held[name].shape[1] != columns or not rows <= held[name].shape[0] <= most:
                found = list(held[name].shape)
                raise GrowthError(f"{rule.target} needs {name!r} as {[rows, columns]}, the plan holds {found}.")
    return {name: torch.tensor(value, device=device) for name, value in held.items()}


def wanted_matrices(rule: Rule) -> dict[str, tuple[int, int]]:
    """Names and shapes of the matrices that a rule draws on; of its coefficients as many rows as it needs."""
    if rule.learned is None:
        return {}
    return {**rule.learned.matrices, rule.learned.mix: (rule.learned.row + 1, len(rule.learned.sources))}


def expand_rule(rule: Rule, weights: Sequence[Tensor], matrices: Mapping[str, Tensor]) -> Tensor:
    """The target of a learned rule, in float32 (float64 from float64 sources), not yet rounded to the target's dtype.

    weights: the rule's sources in order; matrices: float32, on their device.
    """
    assert rule.learned is not None
    depth = matrices[rule.learned.mix][rule.learned.row : rule.learned.row + 1]
    rows, *columns = (_stretches(axis) for axis in rule.learned.axes)
    if not columns:
        return torch.cat([_grow([w[at] for w in weights], depth, part, None, matrices) for at, part in rows])
    return torch.cat(
        [
            torch.cat([_grow([w[at, to] for w in weights], depth, b, a, matrices) for to, a in columns[0]], dim=1)
            for at, b in rows
        ]
    )


def round_once(value: Tensor, dtype: torch.dtype) -> Tensor:
    """What `expand_rule` gave, in the target's dtype. torch rounds float64 to float32 on its way to a half, and then again."""
    if value.dtype == dtype:
        return value
    out = torch.empty_like(value, dtype=dtype)
    ops.replicate_([out], [value], [0])
    return out


def _stretches(axis: Sequence[LearnedPart]) -> list[tuple[slice, LearnedPart]]:
    ends = list(accumulate(part.size for part in axis))
    return [(slice(end - part.size, end), part) for end, part in zip(ends, axis, strict=True)]


def _grow(
    weights: Sequence[Tensor], depth: Tensor, b: LearnedPart, a: LearnedPart | None, matrices: Mapping[str, Tensor]
) -> Tensor:
    """One block: whole matrices and the mix by the op, then the sides that act on whole heads, which cost little."""
    dense = [None if p is None or p.matrix is None or p.block > 1 else matrices[p.matrix] for p in (b, a)]
    wide = weights[0].dtype == torch.float64
    value = ops.expand(weights, *dense, depth, dtype=torch.float64 if wide else torch.float32)[0]
    if b.matrix is not None and b.block > 1:
        heads = value.unflatten(0, (-1, b.block)).flatten(1)
        value = (matrices[b.matrix].to(value.dtype) @ heads).reshape(b.new_size, *value.shape[1:])
    if a is not None and a.matrix is not None and a.block > 1:
        value = (matrices[a.matrix].to(value.dtype) @ value.unflatten(1, (-1, a.block))).flatten(1)
    return value
