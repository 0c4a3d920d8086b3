"""`replicate`: copies of blocks (layers) by an index list, with a scale and noise per copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.backends import ops_of
from growkernels.ops.checks import (
    check_devices,
    check_dtype,
    check_gradients,
    check_integer,
    check_key,
    check_memory,
    check_number,
    check_std,
    check_target,
    check_tensor,
    check_tensors,
    refuse,
    seen_by_kernels,
    unrecorded,
)
from growkernels.ops.transforms import check_transforms


def _check(
    blocks: Sequence[Tensor],
    index: Sequence[int],
    scale: Any,
    noise_alpha: float,
    noise_std: float | None,
) -> tuple[list[float], float]:
    """One scale per output, and the noise level."""
    check_tensors("blocks", blocks)
    if not isinstance(index, (list, tuple, range)):
        raise GrowthError(f"index is {index!r}; expected a list of integers, one for each output")
    for i in index:
        if not isinstance(i, int):
            check_integer("an index", i)
    if index and not 0 <= min(index) <= max(index) < len(blocks):
        i = next(i for i in index if not 0 <= i < len(blocks))
        raise GrowthError(f"index {i} is outside the {len(blocks)} blocks; expected 0 to {len(blocks) - 1}")
    if isinstance(scale, (list, tuple)):
        scales = list(scale)
        for each in scales:
            check_number("a scale", each)
    else:
        try:
            scales = [1.0 if scale is None else float(scale)] * len(index)
        except (TypeError, ValueError, RuntimeError):
            raise GrowthError(f"scale is {scale!r}; expected one number, or a list of one per output") from None
    if len(scales) != len(index):
        raise GrowthError(f"{len(scales)} scales for {len(index)} outputs; give one number, or one per output")
    check_number("noise_alpha", noise_alpha)
    if not 0.0 <= noise_alpha <= 1.0:
        raise GrowthError(f"noise_alpha is {noise_alpha}; expected a share from 0 to 1")
    std = check_std(noise_std)
    if noise_alpha and noise_std is None:
        raise GrowthError(f"noise_alpha={noise_alpha} needs noise_std, the standard deviation of the noise")
    return scales, std


def replicate(
    blocks: Sequence[Tensor],
    index: Sequence[int],
    scale: float | Sequence[float] | None = None,
    noise_alpha: float = 0.0,
    noise_std: float | None = None,
    key: int = 0,
    *,
    backend: str | None = None,
) -> list[Tensor]:
    """Copy tensors by an index list, with scale and noise: Gstack (arXiv 2405.15319) and its noise after stacking.

    Output k is `(1 - noise_alpha) * (scale[k] * blocks[index[k]]) + noise_alpha * (noise_std * z)`, where `z` is field 1 of
    the noise, counted over the outputs laid end to end. Differentiable in the blocks by reverse mode.

    Args:
        blocks: tensors of any shapes and strides, float32, bfloat16, float16 or float64.
        index: the block of every output.
        scale: one factor, or one for each output; None: 1.
        noise_alpha: share of the noise, 0 to 1.
        noise_std: standard deviation of the noise; needed where there is any.
        key: 64-bit key of the noise, as `noise_key` makes it.
        backend: "cpu", "cuda", "triton" or "eager"; None chooses by the device.

    Returns:
        Contiguous tensors of the blocks' shapes and dtypes, one for each index.

    Raises:
        GrowthError: arguments are out of range, or a transform of `torch.func` follows a block.

    Example:
        >>> ops.replicate([a, b, c], index=[0, 1, 2, 0, 1, 2])
    """
    scales, std = _check(blocks, index, scale, noise_alpha, noise_std)
    check_transforms("replicate", blocks)
    for block in blocks:
        check_tensor("a block", block)
        check_dtype("a block", block.dtype)
    if not blocks:
        return []
    check_devices(blocks)
    try:
        return ops_of(backend, blocks[0]).replicate(list(blocks), list(index), scales, noise_alpha, std, check_key(key))
    except RuntimeError as error:
        refuse(error)


def replicate_(
    outs: Sequence[Tensor],
    blocks: Sequence[Tensor],
    index: Sequence[int],
    scale: float | Sequence[float] | None = None,
    noise_alpha: float = 0.0,
    noise_std: float | None = None,
    key: int = 0,
    *,
    backend: str | None = None,
) -> None:
    """Write what `replicate` returns into tensors that are there. Records no gradient.

    Args:
        outs: one tensor for each index, of its block's shape, any strides and supported dtype, overlapping no block.
        blocks, index, scale, noise_alpha, noise_std, key, backend: as in `replicate`.

    Raises:
        GrowthError: arguments do not fit.

    Example:
        >>> ops.replicate_([out], [weight], index=[0])
    """
    scales, std = _check(blocks, index, scale, noise_alpha, noise_std)
    check_tensors("outs", outs)
    check_transforms("replicate_", (*outs, *blocks))
    if len(outs) != len(index):
        raise GrowthError(f"{len(outs)} outs for {len(index)} indices; expected equal numbers")
    if not outs:
        return
    check_gradients(outs, blocks)
    if not seen_by_kernels(outs, blocks):
        _check_tensors(outs, blocks, index)
    try:
        with unrecorded():
            ops_of(backend, outs[0]).replicate_(
                list(outs), list(blocks), list(index), scales, noise_alpha, std, check_key(key)
            )
    except (RuntimeError, GrowthError) as error:
        _check_tensors(outs, blocks, index)
        refuse(error)


def _check_tensors(outs: Sequence[Tensor], blocks: Sequence[Tensor], index: Sequence[int]) -> None:
    for block in blocks:
        check_tensor("the source", block)
    for out, i in zip(outs, index, strict=True):
        check_target(out, blocks[i], tuple(blocks[i].shape), f"block {i}")
    check_memory(outs, blocks)
