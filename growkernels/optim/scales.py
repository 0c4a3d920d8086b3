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
    divisors = tile.divisors or ((),) * len(tile.axes)
    found = [_multiplicity(axis, parts) for axis, parts in zip(tile.axes, divisors, strict=True)]
    copies = prod(most for most, _, _ in found)
    # A diagonal rule keeps one of n_in copies of the input: the function sees the sum over n_in of them divided by n_in.
    divisor = tile.divisor * (tile.n_in if tile.diagonal else 1)
    divided = prod(most / strongest for most, strongest, _ in found)
    runs = tuple(
        Run(axis, start, length, ratio) for axis, (*_, parts) in enumerate(found) for start, length, ratio in parts
    )
    return Scales(divisor * divided, copies, runs, all(len(set(parts)) <= 1 for parts in divisors))


@lru_cache(maxsize=1024)
def _multiplicity(
    axis: IndexVector, divisors: tuple[float, ...]
) -> tuple[int, float, tuple[tuple[int, int, float], ...]]:
    """The most copies of an entry of the axis; the most copies by divisor; and the other runs of target entries, as (start,
    length, ratio): their gradients are `ratio` times those that belong to these numbers.
    """
    if not divisors and axis.uniform and len(axis.segments) == 1:
        return axis.copies, float(axis.copies), ()
    indices = axis.indices()
    drawn = indices >= 0
    if not drawn.any():
        return 1, 1.0, ()
    counts = np.bincount(indices[drawn])[np.maximum(indices, 0)]
    divided = np.repeat(divisors, [s.size for s in axis.segments]) if divisors else np.ones(len(indices))
    shares = counts / divided
    strongest = float(shares[drawn].max())
    ratios = np.where(drawn, strongest / np.where(drawn, shares, strongest), 1.0)
    edges = np.flatnonzero(np.diff(ratios)) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [len(ratios)]])
    runs = ((int(a), int(b - a), float(ratios[a])) for a, b in zip(starts, ends, strict=True))
    return int(counts[drawn].max()), strongest, tuple(run for run in runs if run[2] != 1.0)
