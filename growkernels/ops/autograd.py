"""Fake kernels and gradients of the ops, the same for every backend. Registered before any op is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from growkernels.ops.expand import autograd as expand_autograd
from growkernels.ops.tile.packing import tiled_shape


def _fake_tile(
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


def _fake_replicate(
    blocks: list[Tensor], index: list[int], scale: list[float], alpha: float, std: float, key: int
) -> list[Tensor]:
    return [torch.empty_like(blocks[i], memory_format=torch.contiguous_format) for i in index]


def _fake_mean_square(tensors: list[Tensor], divisors: list[float]) -> Tensor:
    return torch.empty(len(tensors), dtype=torch.float64, device=tensors[0].device)


def _tile_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, ctx.n_out, ctx.n_in, ctx.diagonal = inputs[:4]
    ctx.shape, ctx.dtype = weight.shape, weight.dtype


def _tile_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
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


def _replicate_setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    blocks, ctx.index, ctx.scale, ctx.alpha = inputs[:4]
    ctx.like = [(b.shape, b.dtype, b.device) for b in blocks]


def _replicate_backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    totals: list[Tensor | None] = [None] * len(ctx.like)
    for grad, i, scale in zip(grads, ctx.index, ctx.scale, strict=True):
        if grad is None:
            continue
        wide = grad.float() if grad.dtype in (torch.bfloat16, torch.float16) else grad
        part = wide * ((1.0 - ctx.alpha) * scale)
        totals[i] = part if totals[i] is None else totals[i] + part
    result = [
        torch.zeros(shape, dtype=dtype, device=device) if total is None else total.to(dtype)
        for total, (shape, dtype, device) in zip(totals, ctx.like, strict=True)
    ]
    return result, *[None] * 5


def register(library: torch.library.Library) -> None:
    """Register fakes and gradients for a library; before any of its ops is called."""
    fakes: dict[str, Callable[..., Any]] = {
        "tile": _fake_tile,
        "replicate": _fake_replicate,
        "mean_square": _fake_mean_square,
    }
    fakes |= dict.fromkeys(("tile_", "tile_rules_", "replicate_", "normal_"), expand_autograd.fake_in_place)
    namespace = library.ns
    for name, fake in fakes.items():
        torch.library.register_fake(f"{namespace}::{name}", fake, lib=library)
    torch.library.register_autograd(f"{namespace}::tile", _tile_backward, setup_context=_tile_setup, lib=library)
    torch.library.register_autograd(
        f"{namespace}::replicate", _replicate_backward, setup_context=_replicate_setup, lib=library
    )
    expand_autograd.register(library)
