"""Gradients of `expand` by dense products, panel by panel of the target; what is cheaper to compute again is not kept.

For an operand X, with `T = B X`, the target `E = T A^T` and its gradient H: `dA = H^T T`, `V = H A`, `dB = V X^T`,
`dX = B^T V`. Mixing first, X is a mix of source layers and the gradient of `depth` is `<dX, W>`. Mixing last, X is a source
layer, H mixes the gradients G of the target layers by `depth^T`, and the gradient of `depth` is `<G, E>`.
"""

from __future__ import annotations

from collections.abc import Sequence

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
            of_operands = [None if depth is None else torch.zeros_like(operand) for operand in operands]
            _add(products, grads[batch], operands, None, totals, of_operands, None)
            if depth is not None:
                products.ops.inner_products_(depth[batch], of_operands, weights)
    else:
        _add(products, grads, weights, products.depth, totals, totals.weights, depth)
    if depth is not None:
        totals.depth.add_(depth)


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
            left = products.empty(len(upstream), products.a.matrix.shape[1])
            products.multiply_left(left, operands, rows)
            if of_a is not None:
                of_a.addmm_(upstream[:, products.a.kept :].t(), left)
            if of_depth is not None:
                _add_of_depth(products, of_depth, [grad[rows] for grad in grads], left)
        if of_b is not None or any(total is not None for total in of_operands):
            _add_of_factors(products, upstream, operands, rows, of_b, of_operands)


def _upstream(products: Products, grads: Sequence[Tensor], layers: int, coefficients: Tensor | None) -> Tensor:
    """H of every operand, one below the other."""
    if coefficients is None and layers == 1 and grads[0].dtype == products.dtype:
        return grads[0]
    count = len(grads[0])
    upstream = products.empty(layers * count, products.a.target)
    products.combine(upstream.split(count), grads, None if coefficients is None else coefficients.t())
    return upstream


def _add_of_depth(products: Products, of_depth: Tensor, grads: Sequence[Tensor], left: Tensor) -> None:
    """`<G, E>`; the kept columns of E are T itself."""
    kept, count = products.a.kept, len(grads[0])
    if kept:
        products.ops.inner_products_(of_depth, [grad[:, :kept] for grad in grads], left.split(count))
    if len(products.a.matrix):
        right = products.empty(len(left), len(products.a.matrix))
        torch.mm(left, products.a.matrix.t(), out=right)
        products.ops.inner_products_(of_depth, [grad[:, kept:] for grad in grads], right.split(count))


def _add_of_factors(
    products: Products,
    upstream: Tensor,
    operands: Sequence[Tensor],
    rows: slice,
    of_b: Tensor | None,
    of_operands: Sequence[Tensor | None],
) -> None:
    """`dB` and `dX`; where rows of B are the identity's, `dX` is V itself."""
    kept = products.a.kept
    inner = upstream[:, :kept]
    if len(products.a.matrix):
        product = torch.mm(upstream[:, kept:], products.a.matrix)
        inner = product.add_(inner) if kept else product
    first, last = rows.start - products.b.kept, rows.stop - products.b.kept
    for part, operand, of_operand in zip(inner.split(last - first), operands, of_operands, strict=True):
        if first < 0:
            if of_operand is not None:
                of_operand[rows].add_(part)
            continue
        if of_b is not None:
            of_b[first:last].addmm_(part, operand.to(products.dtype).t())
        if of_operand is not None:
            of_operand.addmm_(products.learned(rows).t(), part)
