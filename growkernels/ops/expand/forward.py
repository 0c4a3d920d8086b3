"""`expand` by dense products, `products_`, between mixes of layers, `mix_`.

It is written for B first; A first is the same with everything transposed. Beyond its result a call holds the intermediates of
a panel of the target and of a few source layers, never a stack; what is a block of the target is made in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from growkernels.ops.expand.cost import CPU_RATES, Order, Rates
from growkernels.ops.expand.formats import Formats
from growkernels.ops.expand.packing import Expansion
from growkernels.ops.expand.saved import Saved


class Tuning(NamedTuple):
    """How much is worked on at once.

    panel: elements of a panel's intermediates, so that mixes find them in cache; rows: of a panel at least, so that products
    stay efficient; together: elements of small source layers that are grown together; grouped: whether one call of `products_`
    for many layers costs less than joining them in memory for one product.
    """

    panel: int
    rows: int
    together: int
    grouped: bool


#: By `Rates.is_gpu`: 32 MB (24 layers from 6 of 1024 x 1024 took 605 ms on an AMD EPYC with 8 MB, 499 with 16, 490
#: with 32; 350, 324, 301 on an Intel Xeon, and 302 with 64); on a GPU, layers that give all its processors work.
TUNING = {False: Tuning(1 << 23, 128, 1 << 16, False), True: Tuning(1 << 23, 128, 1 << 23, True)}


class Side(NamedTuple):
    """A growing axis: the first `kept` target indices are the source's, `matrix` [others, size] makes the others."""

    matrix: Tensor
    kept: int

    @property
    def size(self) -> int:
        """Number of source indices."""
        return self.matrix.shape[1]

    @property
    def target(self) -> int:
        """Number of target indices."""
        return self.kept + len(self.matrix)


class Products:
    """One expansion in one order, on the ops of one library; `b` is the side that is multiplied first."""

    def __init__(
        self,
        ops: Any,
        expansion: Expansion,
        order: Order,
        formats: Formats,
        rates: Rates = CPU_RATES,
        saved: Saved | None = None,
    ) -> None:
        self.ops, self.expansion, self.order, self.tuning = ops, expansion, order, TUNING[rates.is_gpu]
        self.saved = Saved() if saved is None else saved
        self.factor, self.wide = formats
        rows, columns = expansion.weights[0].shape
        sides = self._side(expansion.b, rows), self._side(expansion.a, columns)
        self.b, self.a = sides if order.b_first else sides[::-1]
        self.depth = None if expansion.depth is None else expansion.depth.to(self.wide)

    def _side(self, matrix: Tensor | None, size: int) -> Side:
        if matrix is None:
            return Side(self.expansion.weights[0].new_empty((0, size), dtype=self.factor), size)
        return Side(matrix.to(self.factor), size if self.expansion.structured else 0)

    @property
    def together(self) -> int:
        """Target layers that are grown together."""
        return max(1, self.tuning.together // self.expansion.weights[0].numel())

    def turned(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """As they are, or transposed for A first."""
        return list(matrices) if self.order.b_first else [matrix.t() for matrix in matrices]

    def empty(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """A buffer whose elements lie in memory in the order of the target's."""
        return self._shaped(self.b.matrix.new_empty(rows * columns, dtype=dtype), rows, columns)

    def _shaped(self, memory: Tensor, rows: int, columns: int) -> Tensor:
        return memory.view(rows, columns) if self.order.b_first else memory.view(columns, rows).t()

    def first_of(self, layers: int, rows: slice) -> Tensor:
        """`B X` of these target rows, layer below layer: where it was saved or will be, else memory for it."""
        first, count, columns = rows.start - self.b.kept, layers * (rows.stop - rows.start), self.a.size
        if self.saved.first is None or first < 0:
            return self.empty(count, columns, self.factor)
        start = layers * first * columns
        return self._shaped(self.saved.first[start : start + count * columns], count, columns)

    def saves_first(self, rows: slice) -> bool:
        """Whether `B X` of these target rows outlives the panel."""
        return self.saved.first is not None and rows.start >= self.b.kept

    def second_of(self, layers: int, rows: slice) -> Tensor:
        """`B X A^T`, its learned columns, likewise."""
        count, columns = layers * (rows.stop - rows.start), len(self.a.matrix)
        if self.saved.second is None:
            return self.empty(count, columns, self.wide)
        start = layers * rows.start * columns
        return self._shaped(self.saved.second[start : start + count * columns], count, columns)

    def batches(self, blocks: Sequence[Tensor] | None = None) -> Iterator[tuple[slice, Sequence[Tensor]]]:
        """Target layers that are grown together, and what they are grown from: layers, or mixes of them (in `blocks`)."""
        weights, layers = self.expansion.layers, self.expansion.target_layers
        for first in range(0, layers, self.together):
            batch = slice(first, min(first + self.together, layers))
            if self.depth is None:
                yield batch, weights[batch]
                continue
            if blocks is None:
                shape = batch.stop - first, *weights[0].shape
                mixed: Sequence[Tensor] = weights[0].new_empty(shape, dtype=self.factor).unbind()
            else:
                mixed = blocks[batch]
            self.ops.mix_(mixed, weights, self.depth[batch])
            yield batch, mixed

    def panels(self, layers: int, whole: bool = False) -> Iterator[slice]:
        """Target rows that are worked on together; none has both kept rows and others."""
        fewest = self.tuning.rows
        # Whole multiples: of 2048 rows, 8 times 256 took 574 ms where 9 times 227 and 5 took 632.
        step = fewest * max(1, round(self.tuning.panel / (layers * (self.a.size + self.a.target) * fewest)))
        for start, stop in ((0, self.b.kept), (self.b.kept, self.b.target)):
            length = stop - start if whole else step
            for first in range(start, stop, max(length, 1)):
                yield slice(first, min(first + length, stop))

    def learned(self, rows: slice) -> Tensor:
        """The rows of B that make these target rows."""
        return self.b.matrix[rows.start - self.b.kept : rows.stop - self.b.kept]

    def move(self, outs: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
        """Copy tensors into others, each value rounded once."""
        if self.tuning.grouped or self.wide == torch.float64:
            # One launch for all; and torch rounds float64 to float32 on its way to 16 bits.
            self.ops.replicate_(outs, sources, list(range(len(outs))), [1.0] * len(outs), 0.0, 0.0, 0)
            return
        for out, source in zip(outs, sources, strict=True):
            out.copy_(source)

    def combine(self, outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor | None) -> None:
        """Write mixes of the sources, or the sources themselves."""
        if coefficients is None:
            self.move(outs, sources)
        else:
            self.ops.mix_(outs, sources, coefficients)

    def multiply_left(self, outs: Sequence[Tensor], operands: Sequence[Tensor], rows: slice) -> None:
        """Write `B X` of every operand X for these target rows."""
        if rows.start < self.b.kept:
            self.move(outs, [operand[rows] for operand in operands])
            return
        for some in self.factors_at_once(operands):
            factors = [operand.to(self.factor) for operand in operands[some]]
            self.ops.products_(outs[some], [self.learned(rows)] * len(factors), factors, False)

    def factors_at_once(self, operands: Sequence[Tensor]) -> Iterator[slice]:
        """All of them, but only so many that must be converted first: that takes memory."""
        step = self.together if any(operand.dtype != self.factor for operand in operands) else len(operands)
        for first in range(0, len(operands), step):
            yield slice(first, first + step)

    def write(self, outs: Sequence[Tensor]) -> None:
        """Write the target layers."""
        weights = self.expansion.layers
        if self.depth is not None and self.expansion.b is None and self.expansion.a is None:
            self.ops.mix_(outs, weights, self.depth)
        elif self.depth is None or self.order.mix_first:
            # Results that products take as factors again need no memory of their own.
            direct = all(out.dtype == self.factor for out in outs) and (self.tuning.grouped or self.together == 1)
            placed = direct and self.depth is not None and self.b.kept > 0 and self.a.kept > 0
            blocks = [out[: weights[0].shape[0], : weights[0].shape[1]] for out in outs] if placed else None
            for batch, operands in self.batches(blocks):
                self._write(self.turned(outs[batch]), self.turned(operands), None, direct, placed)
        else:
            self._write(self.turned(outs), self.turned(weights), self.depth, False, False)

    def _write(
        self,
        outs: Sequence[Tensor],
        operands: Sequence[Tensor],
        coefficients: Tensor | None,
        direct: bool,
        placed: bool,
    ) -> None:
        """The target layers from their operands; `direct`: products go into them, `placed`: the operands lie in them."""
        kept, learned, layers = self.a.kept, len(self.a.matrix), len(operands)
        factor = self.a.matrix.t()
        for rows in self.panels(layers, whole=self.tuning.grouped and direct and kept > 0):
            lefts, rights = ([out[rows, columns] for out in outs] for columns in (slice(kept), slice(kept, None)))
            count = rows.stop - rows.start
            if direct and kept:
                parts = lefts
            else:
                left = self.first_of(layers, rows)
                parts = left.split(count)
            if not (placed and rows.start < self.b.kept):
                self.multiply_left(parts, operands, rows)
            if kept and not direct:
                self.combine(lefts, parts, coefficients)
            if learned and direct:
                self.ops.products_(rights, parts, [factor] * layers, False)
            elif learned:
                right = self.second_of(layers, rows)
                self.ops.products_([right], [left], [factor], False)
                self.combine(rights, right.split(count), coefficients)
