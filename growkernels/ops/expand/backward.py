"""Gradients of `expand` by dense products, panel by panel of the target; what was not saved (`expand_saved`) is computed again.

For an operand X, with `T = B X`, the target `E = T A^T` and its gradient H: `dA = H^T T`, `V = H A`, `dB = V X^T`,
`dX = B^T V`. Mixing first, X is a mix of source layers and the gradient of `depth` is `<dX, W>`. Mixing last, X is a source
layer, H mixes the gradients G of the target layers by `depth^T`, and the gradient of `depth` is `<G, E>`, or `<G A, T>`: then
V mixes what `G A` is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from growkernels.ops.expand.cost import goes_by_inner
from growkernels.ops.expand.forward import Products
from growkernels.ops.expand.packing import Parts


def add_gradients(products: Products, grads: Sequence[Tensor], totals: Parts[Tensor | None]) -> None:
    """Add, to the gradients that `totals` has tensors for, those from the target layers' gradients."""
    weights = products.expansion.layers
    depth = None if totals.depth is None else totals.depth.new_zeros(totals.depth.shape, dtype=torch.float64)
    if products.depth is None:
        for batch, operands in products.batches():
            _add(products, grads[batch], operands, None, totals, totals.weights[batch], None)
    elif products.order.mix_first:
        for batch, operands in products.batches():
            zeros = [torch.zeros_like(operand, dtype=products.wide) for operand in operands if depth is not None]
            _add(products, grads[batch], operands, None, totals, zeros or [None] * len(operands), None)
            if depth is not None:
                products.ops.inner_products_(depth[batch], zeros, weights)
    else:
        _add(products, grads, weights, products.depth, totals, totals.weights, depth)
    if depth is not None and totals.depth is not None:
        totals.depth.add_(depth)


class _Rows(NamedTuple):
    """The same rows of every operand's matrix, and, where they follow one another in memory, all of them as one matrix."""

    parts: Sequence[Tensor]
    whole: Tensor | None

    @property
    def fewest(self) -> Sequence[Tensor]:
        """The same in as few matrices as can be."""
        return self.parts if self.whole is None else [self.whole]

    def columns(self, columns: slice) -> _Rows:
        """Some columns."""
        return _Rows([part[:, columns] for part in self.parts], None if self.whole is None else self.whole[:, columns])


def _buffer(products: Products, layers: int, count: int, columns: int) -> _Rows:
    whole = products.empty(layers * count, columns, products.factor)
    return _Rows(whole.split(count), whole)


def _add(
    products: Products,
    grads: Sequence[Tensor],
    operands: Sequence[Tensor],
    coefficients: Tensor | None,
    totals: Parts[Tensor | None],
    of_operands: Sequence[Tensor | None],
    of_depth: Tensor | None,
) -> None:
    grads, operands = products.turned(grads), products.turned(operands)
    if not products.order.b_first:
        of_operands = [None if total is None else total.t() for total in of_operands]
    of_b, of_a = (totals.b, totals.a) if products.order.b_first else (totals.a, totals.b)
    layers, learned = len(operands), slice(products.a.kept, None)
    wants_operands = any(total is not None for total in of_operands)
    inner_rows = products.b.target if wants_operands else len(products.b.matrix) if of_b is not None else 0
    has_second = products.saved.second is not None
    by_inner = of_depth is not None and goes_by_inner(products.expansion, products.order, inner_rows, has_second)
    for rows in products.panels(layers):
        parts = [grad[rows] for grad in grads]
        # Rows of the identity make nothing of B's gradient.
        wants_inner = wants_operands or (of_b is not None and rows.start >= products.b.kept)
        left = None if of_a is None and of_depth is None else _left(products, operands, rows)
        inner = None
        if wants_inner and not by_inner:
            upstream = _mixed(products, parts, layers, coefficients)
            inner, upstream = _inner(products, upstream), upstream.columns(learned)
        elif of_a is not None:
            upstream = _mixed(products, [part[:, learned] for part in parts], layers, coefficients)
        if left is not None:
            if of_a is not None:
                lefts = left.parts if upstream.whole is None else [left.whole]
                products.ops.products_([of_a], [part.t() for part in upstream.fewest], lefts, True)
            if by_inner:
                of_targets = _inner(products, _as_factors(products, parts))
                products.ops.inner_products_(of_depth, of_targets.parts, left.parts)
                inner = _mixed(products, of_targets.parts, layers, coefficients) if wants_inner else None
            elif of_depth is not None:
                _add_of_depth(products, of_depth, parts, left, rows)
        if inner is not None:
            _add_of_factors(products, inner, operands, rows, of_b, of_operands)


def _left(products: Products, operands: Sequence[Tensor], rows: slice) -> _Rows:
    """T."""
    whole = products.first_of(len(operands), rows)
    left = _Rows(whole.split(rows.stop - rows.start), whole)
    if not products.saves_first(rows):
        products.multiply_left(left.parts, operands, rows)
    return left


def _mixed(products: Products, tensors: Sequence[Tensor], layers: int, coefficients: Tensor | None) -> _Rows:
    """Of the target layers' rows those of every operand: H of their gradients, V of their V."""
    if coefficients is None:
        return _as_factors(products, tensors)
    mixed = _buffer(products, layers, *tensors[0].shape)
    products.ops.mix_(mixed.parts, tensors, coefficients.t())
    return mixed


def _as_factors(products: Products, tensors: Sequence[Tensor]) -> _Rows:
    """In the dtype that products take; where it is theirs already, as they lie, unless small ones are better joined."""
    if tensors[0].dtype == products.factor:
        if len(tensors) == 1:
            return _Rows(tensors, tensors[0])
        if products.tuning.grouped or len(tensors[0]) >= products.tuning.rows:
            return _Rows(tensors, None)
    factors = _buffer(products, len(tensors), *tensors[0].shape)
    products.move(factors.parts, tensors)
    return factors


def _add_of_depth(products: Products, of_depth: Tensor, grads: Sequence[Tensor], left: _Rows, rows: slice) -> None:
    """`<G, E>`; the kept columns of E are T itself."""
    kept = products.a.kept
    if kept:
        products.ops.inner_products_(of_depth, [grad[:, :kept] for grad in grads], left.parts)
    if len(products.a.matrix):
        right = products.second_of(len(left.parts), rows)
        if products.saved.second is None:
            products.ops.products_([right], [left.whole], [products.a.matrix.t()], False)
        parts = right.split(rows.stop - rows.start)
        products.ops.inner_products_(of_depth, [grad[:, kept:] for grad in grads], parts)


def _add_of_factors(
    products: Products,
    inner: _Rows,
    operands: Sequence[Tensor],
    rows: slice,
    of_b: Tensor | None,
    of_operands: Sequence[Tensor | None],
) -> None:
    """`dB` and `dX` from V; where rows of B are the identity's, `dX` is V itself."""
    first, last = rows.start - products.b.kept, rows.stop - products.b.kept
    wanted = [(of, part) for of, part in zip(of_operands, inner.parts, strict=True) if of is not None]
    if first < 0:
        for of_operand, part in wanted:
            of_operand[rows].add_(part)
        return
    if of_b is not None:
        for some in products.factors_at_once(operands):
            factors = [operand.to(products.factor).t() for operand in operands[some]]
            products.ops.products_([of_b[first:last]], inner.parts[some], factors, True)
    if wanted:
        outs, parts = zip(*wanted, strict=True)
        products.ops.products_(outs, [products.learned(rows).t()] * len(outs), parts, True)


def _inner(products: Products, upstream: _Rows) -> _Rows:
    """V of H, or of the gradients of target layers."""
    a, kept = products.a.matrix, upstream.columns(slice(products.a.kept))
    if not len(a):
        return kept
    inner = _buffer(products, len(upstream.parts), len(upstream.parts[0]), products.a.size)
    learned = upstream.columns(slice(products.a.kept, None))
    if products.a.kept:
        products.move(inner.parts, kept.parts)
    outs = inner.parts if learned.whole is None else [inner.whole]
    products.ops.products_(outs, learned.fewest, [a] * len(outs), products.a.kept > 0)
    return inner
