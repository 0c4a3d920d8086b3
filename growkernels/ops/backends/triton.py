"""The ops of the schema by the Triton kernels, for CUDA tensors (for CPU tensors under Triton's interpreter).

Triton is imported at the first call: importing it takes a second, and machines without a GPU do not need it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from growkernels import devices
from growkernels.errors import GrowthError
from growkernels.ops.backends.eager import tile_spec
from growkernels.ops.backends.registry import Backend
from growkernels.ops.checks import check_memory, check_rule
from growkernels.ops.expand import products
from growkernels.ops.expand.cost import GPU_RATES
from growkernels.ops.raw_arguments import (
    check_copies,
    check_divisors,
    check_pairs,
    check_products,
    check_replicas,
    check_rules,
)
from growkernels.ops.tile.packing import unpack


def _on_device(*lists: Sequence[Tensor]) -> AbstractContextManager[Any]:
    """The one device of all tensors as the current one, where that means something."""
    found = {tensor.device for tensors in lists for tensor in tensors}
    if len(found) > 1:
        raise GrowthError(f"tensors are on {sorted(map(str, found))}; put them on one device")
    device = found.pop()
    if device.type == "cpu":
        return nullcontext()
    if why := fuses(*devices.capability(device)):
        raise GrowthError(why)
    return devices.current(device)


@cache
def fuses(major: int, minor: int) -> str:
    """Why this Triton's code would not have the reference's bits on a GPU of this compute capability, and what to do.

    Empty if it has. The ptxas that Triton 3.6 carries for these GPUs makes one instruction of a product and a sum that are to
    be rounded each, whatever it is told; that of 3.7 does not.
    """
    if major < 10 or tuple(map(int, version("triton").split(".")[:2])) >= (3, 7):
        return ""
    return (
        f"Triton {version('triton')} fuses products and sums on compute capability {major}.{minor}, which changes the bits of "
        f"noise and mixes; install Triton 3.7 or later, or build the extension with nvcc and choose backend 'cuda'"
    )


def _matrix(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 2 else tensor.unsqueeze(0)


def tile_(
    out: Tensor,
    weight: Tensor,
    n_out: int,
    n_in: int,
    diagonal: bool,
    noise_std: float,
    snr_db: float | None,
    key: int,
) -> None:
    from growkernels.kernels.mean_square import mean_square
    from growkernels.kernels.tile import tile
    from growkernels.kernels.tile_pieces import Measured, TileJob

    check_copies(weight, n_out, n_in)
    spec = tile_spec(weight, n_out, n_in, diagonal, noise_std, None, key)
    check_rule(out, weight, spec)
    check_memory((out,), (weight,))
    with _on_device((out, weight)):
        measured = None
        if snr_db is not None and n_in > 1:
            measured = Measured(mean_square([weight], [spec.divisor]), 10.0 ** (-snr_db / 20))
        tile([TileJob(_matrix(out), _matrix(weight), spec, measured)])


def tile_rules_(
    outs: Sequence[Tensor], weights: Sequence[Tensor], layout: Sequence[int], scalars: Sequence[float]
) -> None:
    from growkernels.kernels.tile import tile
    from growkernels.kernels.tile_pieces import TileJob

    specs = unpack(layout, scalars)
    check_rules(outs, weights, specs)
    if outs:
        with _on_device(outs, weights):
            tile([TileJob(_matrix(o), _matrix(w), spec) for o, w, spec in zip(outs, weights, specs, strict=True)])


def replicate_(
    outs: Sequence[Tensor],
    blocks: Sequence[Tensor],
    index: Sequence[int],
    scale: Sequence[float],
    noise_alpha: float,
    noise_std: float,
    key: int,
) -> None:
    from growkernels.kernels.replicate import replicate

    check_replicas(outs, blocks, index, scale)
    if outs:
        with _on_device(outs, blocks):
            replicate(outs, blocks, index, scale, noise_alpha, noise_std, key)


def mean_square(tensors: Sequence[Tensor], divisors: Sequence[float]) -> Tensor:
    from growkernels.kernels.mean_square import mean_square

    check_divisors(tensors, divisors)
    with _on_device(tensors):
        return mean_square(tensors, divisors)


def normal_(out: Tensor, key: int, field: int, start: int) -> None:
    from growkernels.kernels.noise import normal_

    check_memory((out,), ())
    with _on_device((out,)):
        normal_(out, key, field, start)


def mix_(outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor) -> None:
    from growkernels.kernels.expand import mix_

    check_pairs(outs, sources, coefficients, "coefficients")
    check_memory(outs, [*sources, coefficients])
    with _on_device(outs):
        mix_(outs, sources, coefficients)


def inner_products_(out: Tensor, left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    from growkernels.kernels.expand import inner_products_

    check_pairs(left, right, out, "out")
    check_memory([out], [*left, *right])
    with _on_device([out]):
        inner_products_(out, left, right)


def products_(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
    from growkernels.kernels.products import products_

    check_products(outs, left, right)
    if any(tensor.dtype == torch.float64 for tensor in (*outs, *left)):
        # No kernel of ours multiplies in float64.
        products.products_(outs, left, right, add)
        return
    with _on_device(outs):
        products_(outs, left, right, add)


def fastest_products_(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], add: bool) -> None:
    """By the Triton kernel, or one by one by cuBLAS: whichever is taken to be faster. cuBLAS alone multiplies float32."""
    processors = devices.processors(outs[0].device)
    shapes = [out.shape for out in outs]
    if left[0].dtype.itemsize == 2 and products.fill_together(shapes, processors):
        products_(outs, left, right, add)
    else:
        products.products_(outs, left, right, add)


TRITON = Backend(
    "triton",
    # Under Triton's interpreter its kernels run on CPU tensors.
    devices=("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",),
    why_not=lambda: "" if find_spec("triton") else "triton is not installed; install it (`pip install triton`)",
    implementations=lambda: {
        f.__name__: f for f in (tile_, tile_rules_, replicate_, mean_square, normal_, mix_, inner_products_, products_)
    },
    rates=GPU_RATES,
    default_for=("cuda",),
)
