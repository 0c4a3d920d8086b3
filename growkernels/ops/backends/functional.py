"""The ops that return new tensors, made of a backend's in-place ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from growkernels.ops.raw_arguments import check_copies, check_index
from growkernels.ops.tile.packing import tiled_shape


def tile(
    tile_: Callable[..., None],
    weight: Tensor,
    n_out: int,
    n_in: int,
    diagonal: bool,
    noise_std: float,
    snr_db: float | None,
    key: int,
    dtype: torch.dtype,
) -> Tensor:
    """`tile` by `tile_`."""
    check_copies(weight, n_out, n_in)
    out = weight.new_empty(tiled_shape(weight, n_out, n_in), dtype=dtype)
    tile_(out, weight.detach(), n_out, n_in, diagonal, noise_std, snr_db, key)
    return out


def replicate(
    replicate_: Callable[..., None], blocks: Sequence[Tensor], index: Sequence[int], scale: Sequence[float], *noise: Any
) -> list[Tensor]:
    """`replicate` by `replicate_`."""
    check_index(blocks, index, scale)
    outs = [torch.empty_like(blocks[i], memory_format=torch.contiguous_format) for i in index]
    replicate_(outs, [block.detach() for block in blocks], index, scale, *noise)
    return outs
