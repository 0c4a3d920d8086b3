"""The rules of copied tensors as verification reads them: from the JSON of a manifest, apart from how executors read plans.

The two must agree on every tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np
import torch

from growkernels.ops.arithmetic import compute_dtype, store
from growkernels.ops.replicate.reference import blended
from growkernels.ops.tile.means import mean_along
from growkernels.ops.tile.reference import tile_rule_slice
from growkernels.rules.blend import Blend
from growkernels.rules.index import IndexVector
from growkernels.rules.pieces import Piece, is_plain, pieces
from growkernels.rules.tile import Fill, Noise, Tile


class Tensors(Protocol):
    """Named tensors, read on demand: an opened checkpoint."""

    def tensor(self, name: str) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A grown tensor, its source and its rule in matrix form: [output, input], all other axes before the output."""

    target: str
    source: str
    kind: str
    tile: Tile
    #: Stored axes in the order of the matrix. The last are the columns; the others together, in this order, the rows.
    order: tuple[int, ...]
    #: The source, its columns last; empty if nothing is drawn from it.
    weight: torch.Tensor
    grown: torch.Tensor
    #: Whether products sum over the columns.
    is_summed: bool
    #: Noise that the target is blended with, its key, and where in the stored tensor of which shape this reading begins.
    blend: Blend | None = None
    key: int = 0
    starts: tuple[int, ...] = ()
    stored: tuple[int, ...] = ()

    def wanted(self, rows: range, columns: range) -> torch.Tensor:
        """What the reference gives for a slice of `grown`, in its dtype."""
        if self.blend is None:
            return tile_rule_slice(self.weight, self.tile, self.tile.shape, rows, columns, self.grown.dtype)
        compute = compute_dtype(self.weight.dtype, self.grown.dtype)
        wide = torch.float64 if compute is np.float64 else torch.float32
        values = tile_rule_slice(self.weight, self.tile, self.tile.shape, rows, columns, wide).numpy()
        positions = self._positions(np.asarray(rows, np.int64), np.asarray(columns, np.int64))
        mixed = blended(values, positions, self.blend.share, self.blend.std, self.key, compute)
        return store(np.asarray(mixed, compute), self.grown.dtype)

    def _positions(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The row-major positions of entries in the stored tensor, int64 [rows, columns]."""
        places = [*np.unravel_index(rows, tuple(self.grown.shape[:-1])), columns]
        found = np.zeros((len(rows), len(columns)), np.int64)
        for number, axis in enumerate(self.order):
            entries = (places[number] + self.starts[axis]) * prod(self.stored[axis + 1 :])
            found += entries[None, :] if number == len(self.order) - 1 else entries[:, None]
        return found

    def rows_of(self, matrix: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Some rows of `weight` or `grown`, [rows, columns]."""
        return matrix[torch.unravel_index(torch.as_tensor(rows), matrix.shape[:-1])]

    def place(self, row: int, column: int) -> list[int]:
        """The index of an entry of the target as it is stored."""
        if len(self.order) < 2:
            return [column]
        found = [*map(int, torch.unravel_index(torch.tensor(row), self.grown.shape[:-1])), column]
        return [found[self.order.index(axis)] for axis in range(len(self.order))]


def read_tile(row: dict[str, Any], entry: dict[str, Any], source: Tensors, target: Tensors) -> Iterator[Reading]:
    """The rule of one target tensor, from its row and its entry in the table of a plan's JSON.

    Several where segments have divisors of their own, or hold means: a rectangle of the target each.
    """
    tile = Tile.from_json(entry | {"key": row.get("key", 0)})
    grown = target.tensor(row["target"])
    for piece in [Piece(tuple(map(range, tile.shape)), tile, ())] if is_plain(tile) else pieces(tile):
        part = grown[tuple(slice(entries.start, entries.stop) for entries in piece.ranges)]
        reading = _read_tile(row, piece.tile.to_json(), piece.tile.key, source, part, piece.means)
        if tile.blend is not None:
            starts = tuple(entries.start for entries in piece.ranges)
            reading = replace(reading, blend=tile.blend, key=tile.key, starts=starts, stored=tuple(grown.shape))
        yield reading


def _read_tile(
    row: dict[str, Any], entry: dict[str, Any], key: int, source: Tensors, grown: torch.Tensor, means: tuple[int, ...]
) -> Reading:
    axes = [IndexVector.from_json(axis) for axis in entry["axes"]]
    name = (
        row["sources"][0] if row["sources"] and all(any(start >= 0 for start, *_ in a) for a in entry["axes"]) else ""
    )
    weight = source.tensor(name) if name else grown.new_empty((0,) * grown.ndim)
    if name and means:
        weight = mean_along(weight, means)
    order = list(range(len(axes)))
    summed, output = entry["sum_axis"], entry["output_axis"]
    if summed is not None:
        order.remove(summed)
        if output is not None:
            order.append(order.pop(order.index(output)))
        order.append(summed)
    rows = IndexVector.identity(1)
    for number, axis in enumerate(order[:-1]):
        rows = axes[axis].within(rows, weight.shape[axis], own_copies=True) if number else axes[axis]
    noise_std = row.get("noise_std")
    share = (entry["noise"] or {}).get("share")
    column_fill, row_fill, both_fill = (Fill(mean, std) for mean, std in entry["fill"])
    tile = Tile(
        axes=(rows, axes[order[-1]] if order else IndexVector.identity(1)),
        sum_axis=1,
        divisor=entry["divisor"],
        shift=entry["shift"],
        diagonal=entry["diagonal"],
        noise=Noise(std=noise_std, share=None if share is None else tuple(share)) if noise_std else None,
        fill=(column_fill, row_fill, both_fill),
        key=key,
    )
    weight, grown = (t.permute(order) if t.ndim > 1 else t.reshape(1, -1) for t in (weight, grown))
    return Reading(row["target"], name, row["kind"], tile, tuple(order), weight, grown, summed is not None)
