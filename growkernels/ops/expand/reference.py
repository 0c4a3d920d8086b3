"""What `expand` means, plain and slow, and what the parts mean that it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from growkernels.ops.arithmetic import load, store
from growkernels.ops.expand.packing import Expansion, distribute, empty_targets, unpack


def _dense(matrix: Tensor | None, size: int, structured: bool) -> np.ndarray:
    """B or A in full."""
    if matrix is None:
        return np.eye(size)
    learned = load(matrix, np.float64)
    return np.concatenate([np.eye(size), learned]) if structured else learned


class _Values:
    """An expansion's numbers: W [L1, O, I], B, A, w and the mixes S [L2, O, I]."""

    def __init__(self, expansion: Expansion) -> None:
        self.w = np.stack([load(weight, np.float64) for weight in expansion.weights])
        layers, rows, columns = self.w.shape
        self.b = _dense(expansion.b, rows, expansion.structured)
        self.a = _dense(expansion.a, columns, expansion.structured)
        self.depth = np.eye(layers) if expansion.depth is None else load(expansion.depth, np.float64)
        self.mixed = np.tensordot(self.depth, self.w, 1)


def expand_(
    outs: Sequence[Tensor], weights: Sequence[Tensor], matrices: Sequence[Tensor], layout: Sequence[int]
) -> None:
    """`B S_l A^T` in float64, rounded once."""
    targets = iter(outs)
    for expansion in unpack(weights, matrices, layout):
        v = _Values(expansion)
        for layer in v.b @ v.mixed @ v.a.T:
            out = next(targets)
            out.copy_(store(layer, out.dtype))


def expand(
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    dtype: torch.dtype,
    needed: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor]]:
    outs = empty_targets(weights, matrices, layout, dtype)
    expand_([layer for out in outs for layer in out.unbind()], weights, matrices, layout)
    return outs, []


def expand_backward(
    grads: Sequence[Tensor],
    weights: Sequence[Tensor],
    matrices: Sequence[Tensor],
    layout: Sequence[int],
    saved: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:
    """With `P_l = B^T G_l A`: `dB = sum G_l A S_l^T`, `dA = sum G_l^T B S_l`, `dw_lj = <P_l, W_j>`, `dW_j = sum w_lj P_l`."""
    inputs = [*weights, *matrices]
    totals = [np.zeros(tensor.shape) for tensor in inputs]
    count = len(weights)
    of_expansions = distribute(totals[:count], totals[count:], layout)
    for grad, expansion, of in zip(grads, unpack(weights, matrices, layout), of_expansions, strict=True):
        v, g = _Values(expansion), load(grad, np.float64)
        of_source = v.b.T @ g @ v.a
        for total, of_weight in zip(of.weights, np.tensordot(v.depth.T, of_source, 1), strict=True):
            total += of_weight
        for wanted, product in (
            (of.b, np.einsum("lpi,loi->po", g @ v.a, v.mixed)),
            (of.a, np.einsum("lpq,lpi->qi", g, v.b @ v.mixed)),
            (of.depth, np.einsum("loi,joi->lj", of_source, v.w)),
        ):
            if wanted is not None:
                wanted += product[len(product) - len(wanted) :]
    return [
        store(total, tensor.dtype).to(tensor.device)
        for tensor, total, wanted in zip(inputs, totals, needed, strict=True)
        if wanted
    ]


def mix_(outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor) -> None:
    """`outs[l] = sum_k coefficients[l, k] sources[k]`, in that order, every product and sum rounded, then the store.

    In float32, or float64 if a tensor is.
    """
    tensors = (*outs, *sources, coefficients)
    dtype = np.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else np.float32
    terms = [load(source, dtype) for source in sources]
    for out, factors in zip(outs, load(coefficients, dtype), strict=True):
        # Infinities and NaN are what some inputs are made for.
        with np.errstate(over="ignore", invalid="ignore"):
            total = factors[0] * terms[0]
            for factor, term in zip(factors[1:], terms[1:], strict=True):
                total = total + factor * term
        out.copy_(store(total, out.dtype))


def inner_products_(out: Tensor, left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    """`out[l, k] += <left[l], right[k]>`; the order of the sums is the implementation's."""
    first, second = (torch.stack([tensor.double().flatten() for tensor in tensors]) for tensors in (left, right))
    out.add_(first @ second.t())


def products_(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
    """`outs[g] = sum of left[p] @ right[p]` over its pairs, in float64, rounded once; with `add`, added to what it holds."""
    terms = len(left) // len(outs)
    for g, out in enumerate(outs):
        pairs = [(load(left[p], np.float64), load(right[p], np.float64)) for p in range(g * terms, (g + 1) * terms)]
        total = sum((first @ second for first, second in pairs), load(out, np.float64) if add else np.zeros(out.shape))
        out.copy_(store(total, out.dtype))
