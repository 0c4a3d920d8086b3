"""The eager reference of `replicate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from growkernels.ops.arithmetic import compute_dtype, load, store
from growkernels.ops.noise.reference import COPY_FIELD, z


def replicate_(
    outs: Sequence[torch.Tensor],
    blocks: Sequence[torch.Tensor],
    index: Sequence[int],
    scale: Sequence[float],
    noise_alpha: float,
    noise_std: float,
    key: int,
) -> None:
    """`outs[k] = (1 - a) * (scale[k] * blocks[index[k]]) + a * (std * z)`; without noise `scale[k] * blocks[index[k]]`."""
    start = 0
    for k, out in enumerate(outs):
        block = blocks[index[k]]
        if scale[k] == 1 and not noise_alpha and block.dtype == out.dtype:
            out.copy_(block)
            start += out.numel()
            continue
        compute = compute_dtype(block.dtype, out.dtype)
        with np.errstate(all="ignore"):
            values = compute(scale[k]) * load(block, compute)
            if noise_alpha:
                e = start + np.arange(out.numel(), dtype=np.int64).reshape(tuple(out.shape))
                values = blended(values, e, noise_alpha, noise_std, key, compute)
        out.copy_(store(np.asarray(values, compute), out.dtype))
        start += out.numel()


def blended(
    values: np.ndarray, positions: np.ndarray, alpha: float, std: float, key: int, compute: type[np.floating]
) -> np.ndarray:
    """`(1 - a) * values + a * (std * z)`, with the normals of these positions."""
    normal = z(key, COPY_FIELD, positions).astype(compute).reshape(positions.shape)
    noise = compute(alpha) * (compute(std) * normal)
    mixed: np.ndarray = compute(1.0 - alpha) * values + noise
    return mixed
