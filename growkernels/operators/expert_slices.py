"""The rules of what a dense network becomes: an expert's slice of a projection, a shared expert's, and the router's rows."""

from __future__ import annotations

from dataclasses import replace

from growkernels.operators.mixture_counts import Counts
from growkernels.plans import NEW, Fill, IndexVector, Segment, Tile


def expert_slice(how: Tile, part: str, number: int, counts: Counts, shared: bool) -> Tile:
    """Of a projection (gate, up or down), what expert `number` has; its last one at zero beside a shared expert.

    Each of G slices gets 1/G of its group's weight: `up` and `down` take the square root of G each.
    """
    axis = 1 if part == "down" else 0
    size = how.axes[axis].size // counts.granularity
    axes = list(how.axes)
    axes[axis] = IndexVector((Segment(number % counts.granularity * size, size),))
    how = replace(how, axes=tuple(axes))
    if part == "down" and shared:
        return Tile.zeros(how.shape, how.sum_axis)
    return (
        how if part == "gate" or counts.granularity == 1 or shared else replace(how, divisor=counts.granularity**-0.5)
    )


def shared_projection(how: Tile, part: str, counts: Counts, shared: bool) -> Tile:
    """The shared expert's projection: the dense one, which a sigmoid of zero halves; or a small one that puts out nothing."""
    if shared:
        return replace(how, divisor=0.5) if part == "down" else how
    small = expert_slice(how, part, 0, counts, False)
    return Tile.zeros(small.shape, small.sum_axis) if part == "down" else small


def router_rows(counts: Counts, hidden: int, std: float) -> Tile:
    """Normal rows, one for each group of slices, which all of the group have."""
    groups = counts.experts // counts.granularity
    rows = IndexVector((Segment(NEW, groups, counts.granularity, groups if counts.granularity > 1 else 1),))
    fill = Fill(0.0, std)
    return Tile((rows, IndexVector.new(hidden)), 1, fill=(fill, fill, fill))
