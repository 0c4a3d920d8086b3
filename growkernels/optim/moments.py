"""The rules of moments: those of the weights, all blocks, without shift and noise, by another divisor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import torch

from growkernels.errors import GrowthError
from growkernels.optim.kinds import Entry
from growkernels.optim.scales import scales
from growkernels.plans import NEW, Fill, IndexVector, Learned, LearnedPart, Rule, Segment, TensorSpec, Tile

#: The names of the matrices that moments of learned rules grow by, and the power of the moment.
_INVERSE = {1: "least squares of ", 2: "squared least squares of "}


def moment_rule(rule: Rule, entry: Entry, name: str, dtype: str, mean: float, asymmetric: bool) -> Rule | None:
    """The rule of an entry of the state of a rule's target; None for a target without a source, which has no state yet.

    name: of the source and of the target of the rule, `{}` for that of the weight. mean: of the source's entry; entries
    that no source entry has moments for begin with it if they are squares, as zeros there would make their first updates
    several times too large. asymmetric: so do all copies but the first.
    """
    how = rule.how
    if isinstance(how, Tile) and how.draws_nothing:
        return None
    if isinstance(how, Learned):
        if entry.form in ("row", "column"):
            raise GrowthError(
                f'means of the moments of {rule.target} have no rule under learned growth: grow with state="fresh".'
            )
        how = how if entry.form == "weight" else _learned(how, max(1, entry.power))
    elif entry.form != "weight":
        how = _tile(rule, how, entry, mean, asymmetric)
    sources = tuple(name.format(source) for source in rule.sources)
    return replace(rule, target=name.format(rule.target), sources=sources, spec=TensorSpec(how.shape, dtype), how=how)


def _tile(rule: Rule, tile: Tile, entry: Entry, mean: float, asymmetric: bool) -> Tile:
    divisor = scales(rule).moment_divisor ** entry.power
    axes = [_first_copies(axis) for axis in tile.axes] if asymmetric else list(tile.axes)
    if entry.form == "row":
        axes[-1] = IndexVector.identity(1)
    elif entry.form == "column":
        axes[-2] = IndexVector.identity(1)
    fill = Fill(mean / divisor if entry.power == 2 else 0.0, 0.0)
    return Tile(tuple(axes), divisor=divisor, fill=(fill, fill, fill))


def _first_copies(axis: IndexVector) -> IndexVector:
    """The axis with its first copies alone; what stands in place of the others has no source."""
    found: list[Segment] = []
    for segment in axis.segments:
        if segment.start == NEW or segment.copies == 1:
            found.append(segment)
            continue
        each = segment.length // segment.groups
        for start in range(segment.start, segment.start + segment.length, each):
            found += [Segment(start, each), Segment(NEW, each * (segment.copies - 1))]
    return IndexVector(tuple(found))


def _learned(how: Learned, power: int) -> Learned:
    prefix = _INVERSE[power]
    axes = tuple(
        tuple(part if part.matrix is None else _renamed(part, f"{prefix}{part.matrix}") for part in axis)
        for axis in how.axes
    )
    return replace(how, mix=f"{prefix}{how.mix}", axes=axes)


def _renamed(part: LearnedPart, matrix: str) -> LearnedPart:
    return replace(part, matrix=matrix)


def moment_matrices(matrices: Mapping[str, torch.Tensor], single: Collection[str]) -> dict[str, torch.Tensor]:
    """The matrices of the moments of learned rules: the pseudo-inverses, transposed, and the squares of their entries.

    Gradients go back through a linear map by its transpose; of the moments that would give the source's, these are the
    smallest. For copies they are the moments of copies. single: coefficients of layers that have one source each, which are
    so many maps of one number.
    """
    found = {}
    for name, matrix in matrices.items():
        wide = matrix.double()
        inverse = (1 / wide if name in single else torch.linalg.pinv(wide).T).to(matrix.dtype).contiguous()
        found[f"{_INVERSE[1]}{name}"], found[f"{_INVERSE[2]}{name}"] = inverse, inverse.square()
    return found


def correct_runs(rule: Rule, entry: Entry, moment: torch.Tensor) -> None:
    """Scale the ranges of a grown moment whose entries have fewer copies than the rule's divisor says."""
    for run in scales(rule).runs:
        if run.axis < moment.ndim and moment.shape[run.axis] >= run.start + run.length:
            moment.narrow(run.axis, run.start, run.length).mul_(run.ratio**entry.power)


def mean_of(moment: torch.Tensor) -> float:
    """The mean of a moment, summed in float64 a piece at a time."""
    pieces = moment.reshape(-1).split(1 << 22)
    return float(np.sum([float(piece.double().sum()) for piece in pieces])) / max(1, moment.numel())
