"""`expand` by dense products: torch multiplies, the library's own kernels mix layers.

Arithmetic is in float32 (float64 if a tensor of the call is float64), in which every intermediate is kept. It is written for
B first; A first is the same with everything transposed. Beyond its result a call holds the intermediates of a panel of the
target and of one source layer, never a stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from growkernels.ops.expand_layout import Expansion
from growkernels.ops.expand_order import Order

#: Elements of a panel's intermediates, by device, so that mixes find them in cache: 8 MB, and 32 MB of a GPU's L2; and rows
#: of a panel, so that products stay efficient.
_PANEL, _ROWS = {"cpu": 1 << 21, "cuda": 1 << 23}, 128
#: Elements of small source layers that are grown together.
_TOGETHER = 1 << 16


class Side(NamedTuple):
    """A growing axis: the first `kept` target indices are the source's, `matrix` [others, size] makes the others."""

    matrix: Tensor
    kept: int

    @property
    def target(self) -> int:
        """Number of target indices."""
        return self.kept + len(self.matrix)


class Products:
    """One expansion in one order, on the ops of one library; `b` is the side that is multiplied first."""

    def __init__(self, ops: Any, expansion: Expansion, order: Order, dtype: torch.dtype) -> None:
        self.ops, self.expansion, self.order, self.dtype = ops, expansion, order, dtype
        rows, columns = expansion.weights[0].shape
        sides = self._side(expansion.b, rows), self._side(expansion.a, columns)
        self.b, self.a = sides if order.b_first else sides[::-1]
        self.depth = None if expansion.depth is None else expansion.depth.to(dtype)

    def _side(self, matrix: Tensor | None, size: int) -> Side:
        if matrix is None:
            return Side(self.expansion.weights[0].new_empty((0, size), dtype=self.dtype), size)
        return Side(matrix.to(self.dtype), size if self.expansion.structured else 0)

    def turned(self, matrices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """As they are, or transposed for A first."""
        return list(matrices) if self.order.b_first else [None if m is None else m.t() for m in matrices]

    def empty(self, rows: int, columns: int) -> Tensor:
        """A buffer whose elements lie in memory in the order of the target's."""
        like = self.b.matrix
        return like.new_empty(rows, columns) if self.order.b_first else like.new_empty(columns, rows).t()

    def batches(self) -> Iterator[tuple[slice, Sequence[Tensor]]]:
        """Target layers that are grown together, and what they are grown from: layers, or mixes of them."""
        weights, layers = self.expansion.weights, self.expansion.target_layers
        step = max(1, _TOGETHER // weights[0].numel())
        for first in range(0, layers, step):
            batch = slice(first, min(first + step, layers))
            if self.depth is None:
                yield batch, weights[batch]
            else:
                shape = batch.stop - first, *weights[0].shape
                mixed = weights[0].new_empty(shape, dtype=self.dtype).unbind()
                self.ops.mix_(mixed, weights, self.depth[batch])
                yield batch, mixed

    def panels(self, layers: int) -> Iterator[slice]:
        """Target rows that are worked on together; none has both kept rows and others."""
        elements = _PANEL[self.b.matrix.device.type]
        step = max(_ROWS, elements // (layers * (self.a.matrix.shape[1] + self.a.target)))
        for start, stop in ((0, self.b.kept), (self.b.kept, self.b.target)):
            for first in range(start, stop, step):
                yield slice(first, min(first + step, stop))

    def learned(self, rows: slice) -> Tensor:
        """The rows of B that make these target rows."""
        return self.b.matrix[rows.start - self.b.kept : rows.stop - self.b.kept]

    def combine(self, outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor | None) -> None:
        """Write mixes of the sources, or the sources themselves."""
        if coefficients is not None:
            self.ops.mix_(outs, sources, coefficients)
        else:
            for out, source in zip(outs, sources, strict=True):
                out.copy_(source)

    def multiply_left(self, out: Tensor, operands: Sequence[Tensor], rows: slice) -> None:
        """Write `B X` of every operand X for these target rows, one below the other."""
        for part, operand in zip(out.split(rows.stop - rows.start), operands, strict=True):
            if rows.start < self.b.kept:
                part.copy_(operand[rows])
            else:
                torch.mm(self.learned(rows), operand.to(self.dtype), out=part)

    def write(self, outs: Sequence[Tensor]) -> None:
        """Write the target layers."""
        weights = self.expansion.weights
        if self.depth is not None and self.expansion.b is None and self.expansion.a is None:
            self.ops.mix_(outs, weights, self.depth)
        elif self.depth is None or self.order.mix_first:
            for batch, operands in self.batches():
                self._write(self.turned(outs[batch]), self.turned(operands), None)
        else:
            self._write(self.turned(outs), self.turned(weights), self.depth)

    def _write(self, outs: Sequence[Tensor], operands: Sequence[Tensor], coefficients: Tensor | None) -> None:
        kept, learned = self.a.kept, len(self.a.matrix)
        in_place = coefficients is None and len(operands) == 1 and outs[0].dtype == self.dtype
        for rows in self.panels(len(operands)):
            lefts, rights = ([out[rows, columns] for out in outs] for columns in (slice(kept), slice(kept, None)))
            count = rows.stop - rows.start
            height = len(operands) * count
            left = lefts[0] if in_place and kept else self.empty(height, self.a.matrix.shape[1])
            self.multiply_left(left, operands, rows)
            if kept and not in_place:
                self.combine(lefts, left.split(count), coefficients)
            if learned:
                right = rights[0] if in_place else self.empty(height, learned)
                torch.mm(left, self.a.matrix.t(), out=right)
                if not in_place:
                    self.combine(rights, right.split(count), coefficients)
