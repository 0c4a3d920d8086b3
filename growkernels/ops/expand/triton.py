"""The parts of `expand` by Triton kernels, imported at the first call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from growkernels import devices
from growkernels.ops.checks import check_memory
from growkernels.ops.expand import products
from growkernels.ops.raw_arguments import check_pairs, check_products
from growkernels.ops.triton_launch import on_device


def mix_(outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor) -> None:
    from growkernels.kernels.expand import mix_

    check_pairs(outs, sources, coefficients, "coefficients")
    check_memory(outs, [*sources, coefficients])
    with on_device(outs):
        mix_(outs, sources, coefficients)


def inner_products_(out: Tensor, left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    from growkernels.kernels.expand import inner_products_

    check_pairs(left, right, out, "out")
    check_memory([out], [*left, *right])
    with on_device([out]):
        inner_products_(out, left, right)


def products_(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
    from growkernels.kernels.products import products_

    check_products(outs, left, right)
    if any(tensor.dtype == torch.float64 for tensor in (*outs, *left)):
        # No kernel of ours multiplies in float64.
        products.products_(outs, left, right, add)
        return
    with on_device(outs):
        products_(outs, left, right, add)


def fastest_products_(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
    """Small products all at once by the Triton kernel, large ones one by one by cuBLAS, which alone multiplies float32."""
    check_products(outs, left, right)
    if left[0].dtype.itemsize != 2:
        products.products_(outs, left, right, add)
        return
    terms = len(left) // len(outs)
    processors = devices.processors(outs[0].device)
    small = [products.goes_together(out.shape, processors) for out in outs]
    for which, function in ((True, products_), (False, products.products_)):
        chosen = [number for number, each in enumerate(small) if each == which]
        pairs = [number * terms + term for number in chosen for term in range(terms)]
        if chosen:
            function([outs[number] for number in chosen], [left[k] for k in pairs], [right[k] for k in pairs], add)
