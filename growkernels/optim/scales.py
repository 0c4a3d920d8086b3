"""What a rule does to the scale of a tensor and of its gradient: `c`, `K` and `s`.

A target of K copies of every source entry, each `c` times the source's, computes what the source computes if the function
sees the sum of the copies over `1 / c`. Then every entry of the target has `s = 1 / (c K)` of the source entry's gradient,
also where a diagonal rule puts zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod, sqrt

import numpy as np

from growkernels.plans import IndexVector, Rule, Tile


@dataclass(frozen=True, slots=True)
class Run:
    """A range of a target axis whose gradients are `ratio` times those that c and K say."""

    axis: int
    start: int
    length: int
    ratio: float


@dataclass(frozen=True, slots=True)
class Scales:
    """`divisor`: D = 1 / c, what the function sees the weight divided by. `copies`: K, of every source entry.

    `runs`: ranges with other gradients, where an axis does not repeat or divide all of its entries alike. `is_even`: whether
    the weights have one c; else no learning rate of the tensor continues the source's training, and moments alone are grown.
    """

    divisor: float = 1.0
    copies: int = 1
    runs: tuple[Run, ...] = ()
    is_even: bool = True

    @property
    def weight(self) -> float:
        """c: the size of target entries by that of source entries."""
        return 1.0 / abs(self.divisor)

    @property
    def moment_divisor(self) -> float:
        """K / D: what first moments are divided by; second ones by its square."""
        return self.copies / self.divisor

    @property
    def gradient(self) -> float:
        """s: the size of gradients of target entries by that of those of source entries."""
        return abs(self.divisor) / self.copies

    @property
    def norm(self) -> float:
        """c sqrt(K): the norm of the source's gradient by that of the target's."""
        return self.weight * sqrt(self.copies)


def scales(rule: Rule) -> Scales:
    """The scales of a rule; those of a plain copy where entries are not copies: learned rules, and new tensors."""
    tile = rule.how
    if not isinstance(tile, Tile) or tile.draws_nothing:
        return Scales()
    own = tile.divisors or ((),) * len(tile.axes)
    found = [_multiplicity(axis, divisors) for axis, divisors in zip(tile.axes, own, strict=True)]
    # A diagonal rule keeps one of n_in copies of the input: the function sees the sum over n_in of them divided by n_in.
    divisor = tile.divisor * (tile.n_in if tile.diagonal else 1) * prod(one for _, one, _ in found)
    runs = tuple(
        Run(axis, start, length, ratio) for axis, (_, _, parts) in enumerate(found) for start, length, ratio in parts
    )
    even = all(len(set(divisors)) <= 1 for divisors in own)
    return Scales(divisor, prod(most for most, _, _ in found), runs, even)


@lru_cache(maxsize=1024)
def _multiplicity(
    axis: IndexVector, divisors: tuple[float, ...]
) -> tuple[int, float, tuple[tuple[int, int, float], ...]]:
    """The most copies of an entry of the axis, and what such entries are divided by along it.

    And the runs (start, length, ratio) of target entries with another gradient: of fewer copies, or divided by another number.
    """
    if axis.uniform and not divisors and len({segment.start for segment in axis.segments}) == len(axis.segments) == 1:
        return axis.copies, 1.0, ()
    indices = axis.indices()
    drawn = indices >= 0
    if not drawn.any():
        return 1, 1.0, ()
    counts = np.bincount(indices[drawn])
    most = int(counts.max())
    of_target = np.where(drawn, counts[np.maximum(indices, 0)], most)
    numbers = np.repeat(divisors or 1.0, [segment.size for segment in axis.segments] if divisors else len(indices))
    one = float(numbers[drawn & (of_target == most)][0])
    ratios = np.where(drawn, most / of_target * numbers / one, 1.0)
    edges = np.flatnonzero(np.diff(ratios)) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [len(ratios)]])
    runs = ((int(a), int(b - a), float(ratios[a])) for a, b in zip(starts, ends, strict=True))
    return most, one, tuple(run for run in runs if run[2] != 1)
