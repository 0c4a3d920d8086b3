"""One axis of a width rule as kernels walk it. Twin of csrc/common/axis.h."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Run(NamedTuple):
    """Visits of an axis with the same number of copies. A visit is one source index: read once, written to all its copies.

    Closed: `groups` times `length` source indices from `source` on (-1: new entries); copy c of group g begins at target
    index `target + (g * copies + c) * length`. Scattered (one group): visit i is source index `scattered[0, i]`, and its copy
    c goes to target index `scattered[1, i] + c * scattered[2, i]`.
    """

    source: int
    target: int
    length: int
    groups: int
    copies: int
    scattered: np.ndarray | None = None

    @property
    def new(self) -> bool:
        """Whether the visits are entries without a source."""
        return self.source < 0

    def blocks(self, size: int) -> int:
        """Blocks of `size` visits, none of them across two groups."""
        return self.groups * -(-self.length // size)


def closed(flat: Sequence[int]) -> list[Run]:
    """A run for each of the flat segments (start, length, copies, groups) that is not empty."""
    runs, target = [], 0
    for start, length, copies, groups in zip(*[iter(flat)] * 4, strict=True):
        if copies == 1:
            groups = 1
        if length:
            runs.append(Run(start, target, length // groups, groups, copies))
        target += length * copies
    return runs


def scattered(flat: Sequence[int]) -> list[Run]:
    """The same visits by index tables: a run for the new entries and one for each number of copies, however many segments."""
    start, length, copies, groups = np.asarray(flat, np.int64).reshape(-1, 4).T
    segment = np.repeat(np.arange(len(start)), length)
    offset = np.arange(len(segment)) - (np.cumsum(length) - length)[segment]
    step = (length // groups)[segment]
    source = np.where(start[segment] < 0, -1, start[segment] + offset)
    first = (np.cumsum(length * copies) - length * copies)[segment]
    target = first + offset // np.maximum(step, 1) * copies[segment] * step + offset % np.maximum(step, 1)
    kind = np.where(source < 0, 0, copies[segment])
    runs = []
    for copy_count in np.unique(kind).tolist():
        visits = np.stack([source, target, step])[:, kind == copy_count]
        runs.append(Run(-1 if copy_count == 0 else 0, 0, visits.shape[1], 1, max(copy_count, 1), visits))
    return runs
