"""`tile`: the width rule. A weight's copies side by side, divided by the input copies, with noise that sums to zero."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.backends import ops_of
from growkernels.ops.checks import (
    check_dtype,
    check_gradients,
    check_integer,
    check_key,
    check_memory,
    check_std,
    check_target,
    check_tensor,
    check_tensors,
    check_tile,
    refuse,
    seen_by_kernels,
    unrecorded,
)
from growkernels.ops.tile.packing import pack, tiled_shape
from growkernels.ops.transforms import check_transforms
from growkernels.rules.tile import Tile
from growkernels.rules.variant import Variant

#: Elements up to which a call's own cost matters: the functional op's layer for gradients, in Python, takes 6 of 12 us.
_SMALL = 1 << 16
#: Bytes that a 64-bit process can address.
_ADDRESSES = 1 << 47
_DIAGONAL = {"symmetric": False, "diagonal": True}


def _check(weight: Tensor, n_out: int, n_in: int, variant: str) -> bool:
    """Whether the variant is diagonal."""
    check_tensor("weight", weight)
    if not (isinstance(n_out, int) and isinstance(n_in, int)):
        check_integer("n_out", n_out)
        check_integer("n_in", n_in)
    if n_out < 1 or n_in < 1:
        raise GrowthError(f"n_out={n_out}, n_in={n_in}; numbers of copies are at least 1")
    if weight.ndim != 2 and (weight.ndim != 1 or n_in != 1):
        raise GrowthError(
            f"weight has shape {tuple(weight.shape)} and n_in={n_in}; expected [out, in], or [size] with n_in=1"
        )
    diagonal = _DIAGONAL.get(variant) if isinstance(variant, str) else None
    if diagonal is None:
        raise GrowthError(f"unknown variant {variant!r}; choose 'symmetric' or 'diagonal'")
    return diagonal


def tile(
    weight: Tensor,
    n_out: int,
    n_in: int,
    variant: Variant = "symmetric",
    noise_std: float | None = None,
    snr_db: float | None = None,
    key: int = 0,
    dtype: torch.dtype | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """A weight grown in width by whole copies: block (i, j) is W / n_in ("symmetric"), or W where j = i mod n_in, else 0.

    weight: [O, I] or [I] (then n_in = 1), any strides, float32/bfloat16/float16/float64; returns [n_out O, n_in I] (or
    [n_out I]) of `dtype`, the weight's by default. Noise (n_in >= 2): standard deviation `noise_std` in the weight's units,
    or `snr_db` decibels below the divided weight; a pure function of `key` and the position; sums to zero over the input
    copies. Differentiable in weight by reverse mode, the noise a constant. Raises GrowthError for arguments out of range, and
    under transforms of `torch.func`. HyperCloning, arXiv 2409.12903; noise version 1.
    """
    diagonal = _check(weight, n_out, n_in, variant)
    transformed = check_transforms("tile", (weight,))
    dtype = dtype or weight.dtype
    check_dtype("weight", weight.dtype)
    check_dtype("dtype", dtype)
    std = check_std(noise_std, snr_db)
    ops = ops_of(backend, weight)
    key = check_key(key)
    try:
        # Sizes are looked at last: in a traced graph that would be a guard.
        if transformed or weight.requires_grad or torch.compiler.is_compiling() or weight.numel() > _SMALL:
            return ops.tile(weight, n_out, n_in, diagonal, std, snr_db, key, dtype)
        out = weight.new_empty(tiled_shape(weight, n_out, n_in), dtype=dtype)
        ops.tile_(out, weight, n_out, n_in, diagonal, std, snr_db, key)
        return out
    except (RuntimeError, TypeError, OverflowError) as error:
        _check_size(weight, n_out, n_in, dtype)
        refuse(error)


def tile_(
    out: Tensor,
    weight: Tensor,
    n_out: int,
    n_in: int,
    variant: Variant = "symmetric",
    noise_std: float | None = None,
    snr_db: float | None = None,
    key: int = 0,
    *,
    backend: str | None = None,
) -> None:
    """`tile` into `out` [n_out O, n_in I], any strides and supported dtype, on the weight's device, not overlapping it.

    Records no gradient. Raises GrowthError for arguments that do not fit.
    """
    diagonal = _check(weight, n_out, n_in, variant)
    check_tensor("out", out)
    check_transforms("tile_", (out, weight))
    std = check_std(noise_std, snr_db)
    check_gradients((out,), (weight,))
    if not seen_by_kernels((out,), (weight,)):
        _check_target(out, weight, n_out, n_in)
    try:
        ops_of(backend, out).tile_(out, weight, n_out, n_in, diagonal, std, snr_db, check_key(key))
    except (RuntimeError, GrowthError) as error:
        _check_target(out, weight, n_out, n_in)
        refuse(error)


def tile_rules_(
    outs: Sequence[Tensor], weights: Sequence[Tensor], specs: Sequence[Tile], *, backend: str | None = None
) -> None:
    """Write many tensors by rules of any form: `outs[k]` from `weights[k]` by `specs[k]`, a `Tile`.

    Args:
        outs: tensors of the rules' shapes, with any strides; no output may overlap an input.
        weights: their sources, on the same device, in any mix of float32, bfloat16, float16 and float64. A rule that draws on
            no source takes any tensor of as many axes, such as an empty one.
        specs: the rules; noise has its standard deviation.
        backend: "cuda", "triton" or "eager"; None for the fastest that runs on the device.

    Returns:
        Nothing. A stack of matrices with noise, a diagonal or normal fills that is not stored as `[batch, output, input]` goes
        through memory of its own size; everything else is written in place.

    Raises:
        GrowthError: if a shape, an index or a number does not fit; nothing is written then.

    Example:
        >>> rule = Tile(axes=(IndexVector.tile(O, 2), IndexVector.tile(I, 2)), sum_axis=1, divisor=2)
        >>> ops.tile_rules_([out], [weight], [rule])
    """
    check_tensors("outs", outs)
    check_tensors("weights", weights)
    check_transforms("tile_rules_", (*outs, *weights))
    if not hasattr(specs, "__len__"):
        raise GrowthError(f"specs is not a list; expected one Tile for each of {len(outs)} outs")
    if not all(isinstance(spec, Tile) for spec in specs):
        raise GrowthError("one of specs is not a Tile; expected a list of Tile(axes, sum_axis, ...)")
    if not len(outs) == len(weights) == len(specs):
        raise GrowthError(f"{len(outs)} outs, {len(weights)} weights and {len(specs)} specs; expected equal numbers")
    if not outs:
        return
    check_gradients(outs, weights)
    if not seen_by_kernels(outs, weights):
        _check_rules(outs, weights, specs)
    try:
        jobs = pack(outs, weights, specs)
        ops = ops_of(backend, outs[0])
        if torch.compiler.is_compiling():
            ops.tile_rules_traced_(jobs.outs, jobs.weights, jobs.layout, jobs.scalars)
        else:
            with unrecorded():
                ops.tile_rules_(jobs.outs, jobs.weights, jobs.layout, jobs.scalars)
    except (RuntimeError, GrowthError) as error:
        _check_rules(outs, weights, specs)
        refuse(error)
    for out, matrix in jobs.copies:
        out.copy_(matrix.view(out.shape))


def _check_size(weight: Tensor, n_out: int, n_in: int, dtype: torch.dtype) -> None:
    """What no machine has memory for."""
    shape = tiled_shape(weight, n_out, n_in)
    if prod(shape) * dtype.itemsize >= _ADDRESSES:
        raise GrowthError(
            f"n_out={n_out} and n_in={n_in} copies of a weight of shape {tuple(weight.shape)} are more than a machine can have "
            f"memory for; expected numbers of copies that fit it"
        )


def _check_target(out: Tensor, weight: Tensor, n_out: int, n_in: int) -> None:
    check_target(out, weight, tiled_shape(weight, n_out, n_in), "tile with these n_out and n_in")
    check_memory((out,), (weight,))


def _check_rules(outs: Sequence[Tensor], weights: Sequence[Tensor], specs: Sequence[Tile]) -> None:
    for out, weight, spec in zip(outs, weights, specs, strict=True):
        check_tile(out, weight, spec)
    check_memory(outs, weights)
