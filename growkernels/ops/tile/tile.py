"""`tile`: the width rule. A weight's copies side by side, divided by the input copies, with noise that sums to zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from growkernels.ops.replicate.replicate import replicate_
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
    """A weight grown in width by whole copies, divided, with noise that sums to zero over the input copies.

    Block (i, j) of the result is `W / n_in` ("symmetric"), or `W` where `j = i mod n_in` and else 0 ("diagonal").
    Differentiable in the weight by reverse mode; the noise is a constant.

    Args:
        weight: [O, I], or [I] with n_in = 1; any strides; float32, bfloat16, float16 or float64.
        n_out: copies of every output.
        n_in: copies of every input.
        variant: "symmetric" or "diagonal".
        noise_std: standard deviation of the noise, in the weight's units; needs n_in >= 2.
        snr_db: instead of it, decibels by which the noise lies below the divided weight.
        key: 64-bit key of the noise, as `noise_key` makes it; noise is a pure function of it and of the position.
        dtype: of the result; None: the weight's.
        backend: "cpu", "cuda", "triton" or "eager"; None chooses by the device.

    Returns:
        [n_out O, n_in I], or [n_out I], contiguous.

    Raises:
        GrowthError: an argument is out of range, or a transform of `torch.func` follows the weight.

    Example:
        >>> wide = ops.tile(weight, 2, 2, snr_db=10.0, key=ops.noise_key(0, "layers.0.mlp.up_proj.weight"))

    HyperCloning, arXiv 2409.12903; noise version 1.
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
    """Write what `tile` returns into a tensor that is there. Records no gradient.

    Args:
        out: [n_out O, n_in I], any strides and supported dtype, on the weight's device, not overlapping it.
        weight, n_out, n_in, variant, noise_std, snr_db, key, backend: as in `tile`.

    Raises:
        GrowthError: arguments do not fit.

    Example:
        >>> out = torch.empty(2 * 512, 2 * 256)
        >>> ops.tile_(out, torch.randn(512, 256), 2, 2)
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
    if any(spec.blend is not None for spec in specs):
        _write_blended(outs, weights, specs, backend)
        return
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
    # What is computed for one copy may be copied itself: the last ones stand first in the order of the work.
    for copy in reversed(jobs.copies):
        copy.carry_out()


def _write_blended(
    outs: Sequence[Tensor], weights: Sequence[Tensor], specs: Sequence[Tile], backend: str | None
) -> None:
    """Rules of which some are blended with noise at the end: those are computed in memory of their own first."""
    _check_rules(outs, weights, specs)
    plain = list(outs)
    for k, (out, weight, spec) in enumerate(zip(outs, weights, specs, strict=True)):
        if spec.blend is not None:
            wide = torch.float64 in (out.dtype, weight.dtype)
            plain[k] = torch.empty(out.shape, dtype=torch.float64 if wide else torch.float32, device=out.device)
    tile_rules_(plain, weights, [replace(spec, blend=None) for spec in specs], backend=backend)
    for out, value, spec in zip(outs, plain, specs, strict=True):
        if spec.blend is not None:
            share, std = spec.blend.share, spec.blend.std
            replicate_([out], [value], [0], noise_alpha=share, noise_std=std, key=spec.key, backend=backend)


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
