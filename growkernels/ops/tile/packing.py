"""Rules as what crosses the op boundary: views of tensors as matrices, and two flat lists of numbers; and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.tile.means import mean_along
from growkernels.ops.tile.numbers import RuleNumbers
from growkernels.rules.index import IndexVector
from growkernels.rules.pieces import Piece, is_plain, pieces
from growkernels.rules.tile import Tile

_ONE_ROW = (0, 1, 1, 1)
#: Where a rule keeps its own packed form, which calls would otherwise make again: 4 of 9 us.
_KEPT = "_packed"


class Packed(NamedTuple):
    """A rule as numbers, see the schema of `tile_rules_`, and how its tensors are seen as matrices."""

    layout: tuple[int, ...]
    scalars: tuple[float, ...]
    #: The stored axes in the matrix's order; None: as they are stored.
    order: tuple[int, ...] | None
    #: How many of them are rows together; the others are columns. None are: a vector.
    rows: int
    #: The source's shape that the numbers are for; None: any.
    shape: tuple[int, ...] | None
    #: The tiles that the rule is made of where it is not one; it has no numbers then.
    pieces: tuple[Piece, ...] = ()


class Copy(NamedTuple):
    """A target that is copied from a computed tensor: one of several matrices side by side in it, or entries several times."""

    out: Tensor
    computed: Tensor
    #: The axis of `computed` on which the matrices stand, which of them the target is (None: all, one after another along its
    #: first axis), and their number.
    matrices: tuple[int, int | None, int] | None = None
    #: For each axis, which entries are taken; None for all.
    taken: tuple[Tensor | None, ...] = ()

    def carry_out(self) -> None:
        """Copy, once `computed` has been written."""
        value, out = self.computed, self.out
        if self.matrices is not None:
            axis, number, count = self.matrices
            value = value.unflatten(axis, (count, -1)).movedim(axis, 0)
            if number is None:
                out.unflatten(0, (count, -1)).copy_(value)
            else:
                out.copy_(value[number])
            return
        for axis, index in enumerate(self.taken):
            if index is not None:
                value = value.index_select(axis, index.to(value.device))
        out.copy_(value.view(out.shape))


class Jobs(NamedTuple):
    """What `tile_rules_` of a backend takes."""

    outs: list[Tensor]
    weights: list[Tensor]
    layout: list[int]
    scalars: list[float]
    #: Targets that kernels cannot write in place, what is computed for them, and how they are taken from it.
    copies: list[Copy]


#: Numbers of a rule that are not integers.
_SCALARS = 9


def signed(key: int) -> int:
    """An unsigned 64-bit key as the signed integer that op schemas carry; what does not fit stays for the op to refuse."""
    return key - 2**64 if 2**63 <= key < 2**64 else key


def pack(outs: Sequence[Tensor], weights: Sequence[Tensor], tiles: Iterable[Tile]) -> Jobs:
    """The arguments of `tile_rules_`. Raises GrowthError for tensors without the rule's number of axes."""
    places: list[Tensor] = []
    sources: list[Tensor] = []
    layout: list[int] = []
    scalars: list[float] = []
    copies: list[Copy] = []
    for out, weight, tile in zip(outs, weights, tiles, strict=True):
        count = len(tile.axes)
        if out.ndim != count or weight.ndim != count:
            raise GrowthError(
                f"out has shape {tuple(out.shape)}, weight {tuple(weight.shape)}; the rule has {count} axes, expected as many"
            )
        if tile.noise is not None and tile.noise.share is not None:
            # All that share the noise are computed, so that this one gets the bits that it has among them.
            matrices = (tile.sum_axis or 0, *tile.noise.share)
            tile = tile.joined()
            copies.append(Copy(out, out.new_empty(tile.shape), matrices))
            out = copies[-1].computed
        elif any(axis.repeats_new for axis in tile.axes):
            taken = tuple(torch.from_numpy(axis.draws()) if axis.repeats_new else None for axis in tile.axes)
            tile = tile.drawn_once()
            copies.append(Copy(out, out.new_empty(tile.shape), taken=taken))
            out = copies[-1].computed
        packed = packed_form(tile, weight)
        if packed.pieces:
            inner = _pack_pieces(out, weight, packed.pieces)
            places += inner.outs
            sources += inner.weights
            layout += inner.layout
            scalars += inner.scalars
            copies += inner.copies
            continue
        layout += packed.layout
        scalars += packed.scalars
        if packed.order is None:
            places.append(out)
            sources.append(weight)
            continue
        matrix = as_matrix(out, packed.order, packed.rows)
        if matrix is None:
            stored = out.permute(packed.order)
            matrix = torch.empty(_matrix_shape(stored.shape, packed.rows), dtype=out.dtype, device=out.device)
            copies.append(Copy(stored, matrix))
        source = as_matrix(weight, packed.order, packed.rows)
        if source is None:
            stored = weight.permute(packed.order)
            source = stored.reshape(_matrix_shape(stored.shape, packed.rows))
        places.append(matrix)
        sources.append(source)
    return Jobs(places, sources, layout, scalars, copies)


def _pack_pieces(out: Tensor, weight: Tensor, pieces: Sequence[Piece]) -> Jobs:
    """The jobs of the rectangles of one target."""
    means: dict[tuple[int, ...], Tensor] = {(): weight}
    outs: list[Tensor] = []
    for piece in pieces:
        part = out
        for axis, entries in enumerate(piece.ranges):
            part = part.narrow(axis, entries.start, len(entries))
        outs.append(part)
        if piece.means not in means:
            means[piece.means] = mean_along(weight, piece.means)
    return pack(outs, [means[piece.means] for piece in pieces], [piece.tile for piece in pieces])


def buffer_numel(tile: Tile) -> int:
    """Elements of the buffer that a target is copied from where it shares its noise; 0 for what is written in place."""
    shares = tile.noise is not None and tile.noise.share is not None
    return prod(tile.joined().shape) if shares else 0


def packed_form(tile: Tile, weight: Tensor) -> Packed:
    """The rule as numbers, for a source of this shape."""
    if torch.compiler.is_compiling():
        return _pack(tile, tuple(weight.shape))
    kept: Packed | None = tile.__dict__.get(_KEPT)
    if kept is None or (kept.shape is not None and kept.shape != weight.shape):
        kept = tile.__dict__[_KEPT] = _pack(tile, tuple(weight.shape))
    return kept


def as_matrix(tensor: Tensor, order: tuple[int, ...], rows: int) -> Tensor | None:
    """A view of the tensor as a matrix or vector, its axes in this order; None if its strides allow none."""
    if order == (1, 0):
        return tensor.t()
    moved = tensor.permute(order)
    try:
        return moved.view(_matrix_shape(moved.shape, rows))
    except RuntimeError:
        return None


def _matrix_shape(shape: Sequence[int], rows: int) -> tuple[int, ...]:
    columns = prod(shape[rows:])
    return (prod(shape[:rows]), columns) if rows else (columns,)


def _pack(tile: Tile, shape: tuple[int, ...]) -> Packed:
    if not is_plain(tile):
        return Packed((), (), None, 0, None, tuple(pieces(tile)))
    order, rows = _order(tile, shape)
    axes = [(tile.axes[axis], shape[axis]) for axis in order]
    left = _joined(axes[:rows], tile.diagonal).flat() if rows else _ONE_ROW
    right = _joined(axes[rows:], False).flat()
    layout = (len(left) // 4, *left, len(right) // 4, *right, int(tile.diagonal), signed(tile.key))
    fills = [number for fill in tile.fill for number in _numbers(fill.mean, fill.std)]
    noise = 0.0 if tile.noise is None else tile.noise.std
    if noise is None:
        raise GrowthError("the noise of a rule has no standard deviation; give Noise(std=...), or carry out its plan")
    as_stored = order == tuple(range(len(order))) and rows == len(order) - 1 <= 1
    scalars = (tile.divisor, tile.shift, noise, *fills)
    return Packed(layout, scalars, None if as_stored else order, rows, shape if len(order) > 2 else None)


def _numbers(mean: float | None, std: float | None) -> tuple[float, float]:
    if mean is None or std is None:
        raise GrowthError("a fill of a rule is not measured; give Fill(mean, std), or carry out its plan")
    return mean, std


def _order(tile: Tile, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The stored axes in a matrix's order, and how many of them are its rows."""
    axes = tuple(range(len(tile.axes)))
    by_position = tile.is_random or tile.diagonal or len(set(tile.fill)) > 1
    if len(axes) > 2 and not by_position:
        # Every order gives the same values: the one in which the tensor is stored, its whole axes at the end in one.
        grown = [axis for axis in axes if not tile.axes[axis].is_identity(shape[axis])]
        return axes, max([0, *grown])
    order = axes
    if tile.sum_axis is not None:
        last = [axis for axis in (tile.output, tile.sum_axis) if axis is not None]
        order = (*(axis for axis in axes if axis not in last), *last)
    return order, max(len(axes) - 1, 0)


def _joined(axes: Sequence[tuple[IndexVector, int]], own_copies: bool) -> IndexVector:
    """Axes of the sizes given as a single axis, the last one running fastest."""
    joined = IndexVector.identity(1)
    for number, (axis, size) in enumerate(axes):
        joined = axis if not number else axis.within(joined, size, own_copies)
    return joined


def unpack(layout: Sequence[int], scalars: Sequence[float]) -> list[RuleNumbers]:
    """The rules of packed numbers, in matrix form; keys stay signed. Raises GrowthError for lists that are not whole rules."""
    found: list[RuleNumbers] = []
    at = 0
    if len(scalars) % _SCALARS:
        raise GrowthError(f"{len(scalars)} scalars; expected {_SCALARS} for each rule")
    for start in range(0, len(scalars), _SCALARS):
        axes = []
        for _ in range(2):
            segments = layout[at] if at < len(layout) else 0
            if segments < 0:
                raise GrowthError(f"layout gives {segments} segments")
            end = at + 1 + 4 * segments
            axes.append(tuple(layout[at + 1 : end]))
            at = end
        if at + 2 > len(layout):
            raise GrowthError("layout ends in the middle of a rule")
        divisor, shift, std, c0, s0, c1, s1, c2, s2 = scalars[start : start + _SCALARS]
        fill = ((c0, s0), (c1, s1), (c2, s2))
        found.append(RuleNumbers(axes[0], axes[1], divisor, shift, bool(layout[at]), std, layout[at + 1], fill))
        at += 2
    if at != len(layout):
        raise GrowthError("layout has numbers left over after the last rule")
    return found


def tiled_shape(weight: Tensor, n_out: int, n_in: int) -> tuple[int, ...]:
    """The shape of `tile`'s result."""
    shape = weight.shape
    return (n_out * shape[0],) if len(shape) == 1 else (n_out * shape[0], n_in * shape[1])
