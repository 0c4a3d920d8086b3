"""Gradients of `expand` by dense products, panel by panel of the target; what is cheaper to compute again is not kept.

For an operand X, with `T = B X`, the target `E = T A^T` and its gradient H: `dA = H^T T`, `V = H A`, `dB = V X^T`,
`dX = B^T V`. Mixing first, X is a mix of source layers and the gradient of `depth` is `<dX, W>`. Mixing last, X is a source
layer, H mixes the gradients G of the target layers by `depth^T`, and the gradient of `depth` is `<G, E>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from growkernels.ops.expand_layout import Expansion
from growkernels.ops.expand_products import Products


def add_gradients(products: Products, grads: Sequence[Tensor], totals: Expansion) -> None:
    """Add, to the gradients that `totals` has tensors for, those from the target layers' gradients."""
    weights = products.expansion.weights
    depth = None if totals.depth is None else totals.depth.new_zeros(totals.depth.shape, dtype=torch.float64)
    if products.depth is None:
        for batch, operands in products.batches():
            _add(products, grads[batch], operands, None, totals, totals.weights[batch], None)
    elif products.order.mix_first:
        for batch, operands in products.batches():
            of_operands = [
                None if depth is None else torch.zeros_like(operand, dtype=products.wide) for operand in operands
            ]
            _add(products, grads[batch], operands, None, totals, of_operands, None)
            if depth is not None:
                products.ops.inner_products_(depth[batch], of_operands, weights)
    else:
        _add(products, grads, weights, products.depth, totals, totals.weights, depth)
    if depth is not None:
        totals.depth.add_(depth)


class _Rows(NamedTuple):
    """The same rows of every operand's matrix, and, where they lie one below the other, all of them as one matrix."""

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
    totals: Expansion,
    of_operands: Sequence[Tensor | None],
    of_depth: Tensor | None,
) -> None:
    grads, operands, of_operands = (products.turned(tensors) for tensors in (grads, operands, of_operands))
    of_b, of_a = (totals.b, totals.a) if products.order.b_first else (totals.a, totals.b)
    for rows in products.panels(len(operands)):
        upstream = _upstream(products, [grad[rows] for grad in grads], len(operands), coefficients)
        if of_a is not None or of_depth is not None:
            left = _buffer(products, len(operands), rows.stop - rows.start, products.a.size)
            products.multiply_left(left.parts, operands, rows)
            if of_a is not None:
                learned = upstream.columns(slice(products.a.kept, None))
                lefts = left.parts if learned.whole is None else [left.whole]
                products.ops.products_([of_a], [part.t() for part in learned.fewest], lefts, True)
            if of_depth is not None:
                _add_of_depth(products, of_depth, [grad[rows] for grad in grads], left)
        if of_b is not None or any(total is not None for total in of_operands):
            _add_of_factors(products, upstream, operands, rows, of_b, of_operands)


def _upstream(products: Products, grads: Sequence[Tensor], layers: int, coefficients: Tensor | None) -> _Rows:
    """H of every operand."""
    if coefficients is None and grads[0].dtype == products.factor:
        if layers == 1:
            return _Rows(grads, grads[0])
        if products.tuning.grouped:
            return _Rows(grads, None)
    upstream = _buffer(products, layers, len(grads[0]), products.a.target)
    products.combine(upstream.parts, grads, None if coefficients is None else coefficients.t())
    return upstream


def _add_of_depth(products: Products, of_depth: Tensor, grads: Sequence[Tensor], left: _Rows) -> None:
    """`<G, E>`; the kept columns of E are T itself."""
    kept, count = products.a.kept, len(grads[0])
    if kept:
        products.ops.inner_products_(of_depth, [grad[:, :kept] for grad in grads], left.parts)
    if len(products.a.matrix):
        right = products.empty(len(left.parts) * count, len(products.a.matrix), products.wide)
        products.ops.products_([right], [left.whole], [products.a.matrix.t()], False)
        products.ops.inner_products_(of_depth, [grad[:, kept:] for grad in grads], right.split(count))


def _add_of_factors(
    products: Products,
    upstream: _Rows,
    operands: Sequence[Tensor],
    rows: slice,
    of_b: Tensor | None,
    of_operands: Sequence[Tensor | None],
) -> None:
    """`dB` and `dX`; where rows of B are the identity's, `dX` is V itself."""
    inner = _inner(products, upstream, rows.stop - rows.start)
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


def _inner(products: Products, upstream: _Rows, count: int) -> _Rows:
    """V."""
    a, kept = products.a.matrix, upstream.columns(slice(products.a.kept))
    if not len(a):
        return kept
    inner = _buffer(products, len(upstream.parts), count, products.a.size)
    learned = upstream.columns(slice(products.a.kept, None))
    if products.a.kept:
        products.move(inner.parts, kept.parts)
    outs = inner.parts if learned.whole is None else [inner.whole]
    products.ops.products_(outs, learned.fewest, [a] * len(outs), products.a.kept > 0)
    return inner
