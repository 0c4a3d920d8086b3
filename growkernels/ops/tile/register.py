"""The schemas of `tile`, with its fake kernels and gradient, which are the same for every backend."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from growkernels.ops.fakes import fake_in_place
from growkernels.ops.tile.packing import tiled_shape

#: `layout` packs, for each rule: number of row segments, the segments (start, length, copies, groups), number of column
#: segments, those segments, diagonal (0 or 1), key; `scalars` packs divisor, shift, noise_std, then (constant, std) of the
#: fills old row x new column, new x old, new x new.
SCHEMAS = (
    (
        "tile_(Tensor(a!) out, Tensor weight, SymInt n_out, SymInt n_in, bool diagonal, float noise_std, float? snr_db,"
        " SymInt key) -> ()"
    ),
    (
        "tile(Tensor weight, SymInt n_out, SymInt n_in, bool diagonal, float noise_std, float? snr_db, SymInt key,"
        " ScalarType dtype) -> Tensor"
    ),
    "tile_rules_(Tensor(a!)[] outs, Tensor[] weights, int[] layout, float[] scalars) -> ()",
    # What graphs call, so that one serves all numbers. Eager calls do not: SymInts take 1 of 4 us for each small tensor.
    "tile_rules_traced_(Tensor(a!)[] outs, Tensor[] weights, SymInt[] layout, float[] scalars) -> ()",
)


def _fake(
    weight: Tensor,
    n_out: int,
    n_in: int,
    diagonal: bool,
    std: float,
    snr_db: float | None,
    key: int,
    dtype: torch.dtype,
) -> Tensor:
    return weight.new_empty(tiled_shape(weight, n_out, n_in), dtype=dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, ctx.n_out, ctx.n_in, ctx.diagonal = inputs[:4]
    ctx.shape, ctx.dtype = weight.shape, weight.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """Sum over the copies, divided as they were; the noise is a constant and joint rounding passes straight through."""
    if grad.dtype in (torch.bfloat16, torch.float16):
        grad = grad.float()
    if len(ctx.shape) == 1:
        total = grad.reshape(ctx.n_out, -1).sum(0) if grad.numel() else grad.new_zeros(ctx.shape)
    else:
        blocks = grad.reshape(ctx.n_out, ctx.shape[0], ctx.n_in, ctx.shape[1])
        if ctx.diagonal:
            total = sum((blocks[i, :, i % ctx.n_in] for i in range(1, ctx.n_out)), start=blocks[0, :, 0])
        else:
            total = blocks.sum((0, 2)) / ctx.n_in
    return total.to(ctx.dtype), *[None] * 7


def register(library: torch.library.Library) -> None:
    """Register fakes and gradients for a library; before any of its ops is called."""
    for name in ("tile_", "tile_rules_", "tile_rules_traced_"):
        torch.library.register_fake(f"{library.ns}::{name}", fake_in_place, lib=library)
    torch.library.register_fake(f"{library.ns}::tile", _fake, lib=library)
    torch.library.register_autograd(f"{library.ns}::tile", _backward, setup_context=_setup, lib=library)
