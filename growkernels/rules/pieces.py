"""A tile as parts that one divisor and one source serve each: how segments with divisors of their own reach the kernels.

A kernel divides by one number. A tile whose segments have their own, and one with means, is a grid of rectangles of its
target, each a plain tile: kernels get them as targets of one call. Noise and normal fills of each are drawn by a key of its
own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod
from typing import NamedTuple

from growkernels.rules.index import MEAN, NEW, IndexVector, Segment
from growkernels.rules.tile import Tile

#: 2^64 over the golden ratio, odd: no two of the first 2^64 multiples are the same.
_STEP = 0x9E3779B97F4A7C15


class Piece(NamedTuple):
    """A rectangle of a target: its range along each axis, and its tile.

    `means`: the axes along which its source is the mean over the whole axis, kept as an axis of one entry.
    """

    ranges: tuple[range, ...]
    tile: Tile
    means: tuple[int, ...]


class _Run(NamedTuple):
    """Consecutive segments that are divided by the same number and have as many copies."""

    start: int
    axis: IndexVector
    divisor: float
    is_mean: bool


def is_plain(tile: Tile) -> bool:
    """Whether a tile is one piece as it is."""
    return not tile.divisors and not any(axis.has_mean for axis in tile.axes)


def pieces(tile: Tile) -> list[Piece]:
    """The rectangles of a tile, in the order of its axes; together they are the whole target."""
    divisors = tile.divisors or ((),) * len(tile.axes)
    runs = [list(_runs(axis, own)) for axis, own in zip(tile.axes, divisors, strict=True)]
    found = []
    for number, chosen in enumerate(product(*runs)):
        inside = replace(
            tile,
            axes=tuple(run.axis for run in chosen),
            divisor=tile.divisor * prod(run.divisor for run in chosen),
            key=(tile.key + number * _STEP) % 2**64,
            divisors=(),
        )
        ranges = tuple(range(run.start, run.start + run.axis.size) for run in chosen)
        found.append(Piece(ranges, inside, tuple(axis for axis, run in enumerate(chosen) if run.is_mean)))
    return found


def _runs(axis: IndexVector, divisors: tuple[float, ...]) -> Iterator[_Run]:
    start = 0
    held: list[Segment] = []
    last, mean = 1.0, False
    for segment, divisor in zip(axis.segments, divisors or (1.0,) * len(axis.segments), strict=True):
        # What has no source is divided by nothing, and stands with what is before it.
        drawn = [s.copies for s in held if s.start != NEW]
        differs = segment.start != NEW and drawn and (divisor, segment.copies) != (last, drawn[-1])
        if held and (segment.start == MEAN or mean or differs):
            yield _run(start, held, last, mean)
            start += sum(s.size for s in held)
            held = []
        if segment.start != NEW or not held:
            last = divisor
        held.append(segment)
        mean = segment.start == MEAN
    if held:
        yield _run(start, held, last, mean)


def _run(start: int, held: list[Segment], divisor: float, mean: bool) -> _Run:
    if mean:
        return _Run(start, IndexVector((Segment(0, 1, held[0].length),)), divisor, True)
    return _Run(start, IndexVector(tuple(held)), divisor, False)
