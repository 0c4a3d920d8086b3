"""The schemas of `replicate`, with its fake kernels and gradient, which are the same for every backend."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from growkernels.ops.fakes import fake_in_place

SCHEMAS = (
    (
        "replicate_(Tensor(a!)[] outs, Tensor[] blocks, int[] index, float[] scale, float noise_alpha, float noise_std,"
        " SymInt key) -> ()"
    ),
    "replicate(Tensor[] blocks, int[] index, float[] scale, float noise_alpha, float noise_std, SymInt key) -> Tensor[]",
)


def _fake(
    blocks: list[Tensor], index: list[int], scale: list[float], alpha: float, std: float, key: int
) -> list[Tensor]:
    return [torch.empty_like(blocks[i], memory_format=torch.contiguous_format) for i in index]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    blocks, ctx.index, ctx.scale, ctx.alpha = inputs[:4]
    ctx.like = [(b.shape, b.dtype, b.device) for b in blocks]


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
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
    torch.library.register_fake(f"{library.ns}::replicate_", fake_in_place, lib=library)
    torch.library.register_fake(f"{library.ns}::replicate", _fake, lib=library)
    torch.library.register_autograd(f"{library.ns}::replicate", _backward, setup_context=_setup, lib=library)
