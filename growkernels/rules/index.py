"""Index vectors: for each index of a target axis, the source index and the copy it comes from.

Everything is a list of segments, each in closed form: `length` source indices are cut into `groups` equal groups, and
every group is laid down `copies` times before the next one starts. One group is a tile (`i mod n`), as many groups as
indices is an interleave (`i // k`), the groups of grouped-query attention are what lies between; fused parts
(`[q | k | v]`) are several segments; a segment that starts at `NEW` has no source: each of its `length` entries is drawn
once, and its copies are equal; one at `MEAN` holds the mean over all source indices. A general gather is many short segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

NEW = -1
MEAN = -2


@dataclass(frozen=True, slots=True)
class Segment:
    """`length` source indices from `start`, in `groups` groups, each repeated `copies` times."""

    start: int
    length: int
    copies: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if self.length < 0 or self.copies < 1 or self.groups < 1 or self.length % self.groups:
            raise ValueError(f"{self}: length must be >= 0 and a multiple of groups; copies and groups >= 1")
        new_in_groups = self.start == NEW and self.copies == 1 < self.groups
        if self.start < MEAN or new_in_groups or (self.start == MEAN and (self.copies, self.groups) != (1, 1)):
            raise ValueError(
                f"{self}: start must be >= 0, NEW with one group where there is one copy, or MEAN with one copy and one group"
            )

    @property
    def size(self) -> int:
        """Number of target indices."""
        return self.length * self.copies

    def indices(self) -> np.ndarray:
        """Source index of each target index, int64; NEW where there is none, MEAN where there are all."""
        if self.start < 0:
            return np.full(self.size, self.start, np.int64)
        groups = np.arange(self.start, self.start + self.length, dtype=np.int64).reshape(self.groups, 1, -1)
        return np.broadcast_to(groups, (self.groups, self.copies, groups.shape[2])).reshape(-1)

    def copy_ids(self) -> np.ndarray:
        """Which copy of its source each target index is, int64; 0 for NEW."""
        ids = np.arange(self.copies, dtype=np.int64).reshape(1, -1, 1)
        return np.broadcast_to(ids, (self.groups, self.copies, self.length // self.groups)).reshape(-1)


@dataclass(frozen=True, slots=True)
class IndexVector:
    """How one axis of a target tensor draws on the same axis of its source; `segments` in target order."""

    segments: tuple[Segment, ...]

    @classmethod
    def identity(cls, size: int) -> IndexVector:
        """Target index i is source index i."""
        return cls((Segment(0, size),))

    @classmethod
    def tile(cls, size: int, copies: int, groups: int = 1) -> IndexVector:
        """The source axis `copies` times end to end: `i mod size`; inside each of `groups` groups if given."""
        return cls((Segment(0, size, copies, groups),))

    @classmethod
    def interleave(cls, size: int, copies: int) -> IndexVector:
        """Each index `copies` times in a row: `i // copies`."""
        return cls((Segment(0, size, copies, size),)) if size else cls.identity(0)

    @classmethod
    def new(cls, size: int) -> IndexVector:
        """`size` target indices without a source."""
        return cls((Segment(NEW, size),))

    @classmethod
    def extend(cls, size: int, new: int) -> IndexVector:
        """The source axis, then `new` fresh indices."""
        return cls((Segment(0, size), Segment(NEW, new)))

    @classmethod
    def parts(cls, sizes_and_copies: Iterable[tuple[int, int]]) -> IndexVector:
        """Fused parts in order, each of (source size, copies), tiled on its own."""
        segments, start = [], 0
        for size, copies in sizes_and_copies:
            segments.append(Segment(start, size, copies))
            start += size
        return cls(tuple(segments))

    @classmethod
    def gather(cls, indices: Sequence[int]) -> IndexVector:
        """Any source index (or NEW) for each target index; consecutive runs are kept as one segment."""
        segments: list[Segment] = []
        for index in indices:
            last = segments[-1] if segments else None
            if last and (index == NEW == last.start or (last.start != NEW and index == last.start + last.length)):
                segments[-1] = Segment(last.start, last.length + 1)
            else:
                segments.append(Segment(index, 1))
        return cls(tuple(segments))

    @property
    def size(self) -> int:
        """Number of target indices."""
        if len(self.segments) == 1:
            # Most have one, and plans ask thousands of times.
            return self.segments[0].length * self.segments[0].copies
        return sum([segment.size for segment in self.segments])

    @property
    def source_size(self) -> int:
        """Number of source indices up to the last one that is drawn on."""
        return max([0, *[s.start + s.length for s in self.segments if s.start >= 0]])

    @property
    def copies(self) -> int:
        """How often a source index is repeated; the largest if parts differ."""
        return max([1, *[segment.copies for segment in self.segments]])

    @property
    def uniform(self) -> bool:
        """Whether every source index is repeated equally often and nothing is NEW."""
        return all(s.start >= 0 and s.copies == self.copies for s in self.segments)

    @property
    def is_new(self) -> bool:
        """Whether no target index has a source."""
        return all(s.start == NEW for s in self.segments)

    @property
    def has_new(self) -> bool:
        """Whether some target index has no source."""
        return any(s.start == NEW and s.length for s in self.segments)

    def block(self, count: int) -> IndexVector | None:
        """The part that this axis is `count` times end to end; None if it is none."""
        first = self.segments[0] if len(self.segments) == 1 else None
        if first is not None and first.copies == count and first.groups == 1:
            return IndexVector((Segment(first.start, first.length),))
        each = len(self.segments) // count
        if not each or self.segments != self.segments[:each] * count:
            return None
        return IndexVector(self.segments[:each])

    def times(self, count: int) -> IndexVector:
        """This axis `count` times end to end."""
        return IndexVector(self.segments * count)

    @property
    def repeats_new(self) -> bool:
        """Whether some new entries are copies of one draw."""
        return any(s.start == NEW and s.copies > 1 for s in self.segments)

    def drawn_once(self) -> IndexVector:
        """This axis with each new entry once."""
        if not self.repeats_new:
            return self
        return IndexVector(tuple(Segment(NEW, s.length) if s.start == NEW else s for s in self.segments))

    def draws(self) -> np.ndarray:
        """For each target index, where it is on the axis of `drawn_once`, int64 [size]."""
        places, start = [], 0
        for s in self.segments:
            if s.start == NEW:
                places.append(Segment(start, s.length, s.copies, s.groups).indices())
                start += s.length
            else:
                places.append(np.arange(start, start + s.size, dtype=np.int64))
                start += s.size
        return np.concatenate(places or [np.empty(0, np.int64)])

    @property
    def has_mean(self) -> bool:
        """Whether some target index holds the mean over the source axis."""
        return any(s.start == MEAN and s.length for s in self.segments)

    def is_identity(self, size: int | None = None) -> bool:
        """Whether target index i is source index i, for all of a source axis of `size` if given."""
        return self.segments == (Segment(0, self.size),) and size in (None, self.size)

    def within(self, outer: IndexVector, size: int | None = None, own_copies: bool = False) -> IndexVector:
        """This axis and the one that it lies in, `outer`, as a single axis: the rows of a stack of matrices.

        size: of this axis in the source, `source_size` by default. Copies are those of this axis; where it has one only, they
        may be those of `outer`, unless `own_copies` asks for this axis's. Target index `i * self.size + j` has the source
        index `outer[i] * size + self[j]`, NEW if either is.
        """
        size = self.source_size if size is None else size
        only = self.segments[0] if len(self.segments) == 1 else None
        whole = only is not None and (only.start, only.length) == (0, size)
        found: list[Segment] = []
        for s in outer.segments:
            if s.start == NEW or self.is_new:
                found.append(Segment(NEW, s.size * self.size))
            elif only is not None and whole and s.copies == 1:
                found.append(Segment(s.start * size, s.length * size, only.copies, s.length * only.groups or 1))
            elif only is not None and whole and only.copies == 1 and not own_copies:
                found.append(Segment(s.start * size, s.length * size, s.copies, s.groups))
            else:
                each = s.length // s.groups
                for first in range(s.start, s.start + s.length, each or 1):
                    run = IndexVector(self._at(range(first, first + each), size, whole))
                    found += run.segments * s.copies
        return IndexVector(tuple(found))

    def _at(self, outer: range, size: int, whole: bool) -> tuple[Segment, ...]:
        """The segments of this axis inside each of some consecutive outer indices."""
        if whole:
            return self.within(IndexVector((Segment(outer.start, len(outer)),)), size).segments
        return tuple(
            s if s.start == NEW else Segment(i * size + s.start, s.length, s.copies, s.groups)
            for i in outer
            for s in self.segments
        )

    def indices(self) -> np.ndarray:
        """Source index of each target index, int64 [size]."""
        return np.concatenate([s.indices() for s in self.segments] or [np.empty(0, np.int64)])

    def copy_ids(self) -> np.ndarray:
        """Copy number of each target index, int64 [size]."""
        return np.concatenate([s.copy_ids() for s in self.segments] or [np.empty(0, np.int64)])

    def flat(self) -> tuple[int, ...]:
        """The segments as integers `(start, length, copies, groups)` end to end: the form that kernels take."""
        return tuple(n for s in self.segments for n in (s.start, s.length, s.copies, s.groups))

    def to_json(self) -> list[list[int]]:
        """Segments as lists, for the manifest."""
        return [[s.start, s.length, s.copies, s.groups] for s in self.segments]

    @classmethod
    def from_json(cls, data: list[list[int]]) -> IndexVector:
        """The inverse of `to_json`."""
        return cls(tuple(Segment(*row) for row in data))
