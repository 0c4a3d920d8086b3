"""What others would run: plain PyTorch formulas, and the papers' algorithms written from their descriptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def tile(weight: Tensor, n_out: int, n_in: int) -> Tensor:
    """Every block W / n_in. The papers do the same for noise-free growth."""
    return weight.repeat(n_out, n_in) / n_in if weight.ndim == 2 else weight.repeat(n_out)


def tile_diagonal(weight: Tensor, n_out: int, n_in: int) -> Tensor:
    """W where the copies agree, else zero."""
    rows, cols = weight.shape
    out = weight.new_zeros(n_out * rows, n_in * cols)
    for i in range(n_out):
        j = i % n_in
        out[i * rows : (i + 1) * rows, j * cols : (j + 1) * cols] = weight
    return out


def tile_noisy(weight: Tensor, n_out: int, n_in: int, std: float | Tensor) -> Tensor:
    """The same noise law as ours in whole-tensor PyTorch: pairs (+e, -e), a triangle for the last three of an odd number."""
    rows, cols = weight.shape
    pairs = n_in // 2 if n_in % 2 == 0 else (n_in - 3) // 2
    e = torch.randn(n_out * rows, pairs, 1, cols, dtype=weight.dtype, device=weight.device) * std
    noise = torch.cat([e, -e], dim=2).flatten(1)
    if n_in % 2:
        z = torch.randn(2, n_out * rows, cols, dtype=weight.dtype, device=weight.device) * std
        swing = z[1] * 0.75**0.5
        noise = torch.cat([noise, z[0], swing - z[0] / 2, -swing - z[0] / 2], dim=1)
    return weight.repeat(n_out, n_in) / n_in + noise


def tile_snr(weight: Tensor, n_out: int, n_in: int, snr_db: float) -> Tensor:
    """`tile_noisy`, its size measured first."""
    return tile_noisy(weight, n_out, n_in, _std(weight / n_in, snr_db))


def paper_tile_noisy(weight: Tensor, n_out: int, n_in: int, std: float | Tensor) -> Tensor:
    """HyperCloning (arXiv 2409.12903) as its authors describe it: blocks of noise of cancelling signs, put together by
    concatenation and added to the repeated and divided weight; the last of an odd number of blocks has none.
    """
    noise_rows = []
    for _ in range(n_out):
        blocks = []
        for _ in range(n_in // 2):
            e = torch.randn_like(weight) * std
            blocks += [e, -e]
        if n_in % 2:
            blocks.append(torch.zeros_like(weight))
        noise_rows.append(torch.cat(blocks, dim=1))
    return weight.repeat(n_out, n_in) / n_in + torch.cat(noise_rows, dim=0)


def paper_tile_snr(weight: Tensor, n_out: int, n_in: int, snr_db: float) -> Tensor:
    """`paper_tile_noisy`, its size measured first."""
    return paper_tile_noisy(weight, n_out, n_in, _std(weight / n_in, snr_db))


def _std(signal: Tensor, snr_db: float) -> Tensor:
    return (signal.float().square().mean().sqrt() * 10 ** (-snr_db / 20)).to(signal.dtype)


def paper_tile_diagonal(weight: Tensor, n_out: int, n_in: int) -> Tensor:
    """Blocks and zero blocks put together by concatenation."""
    rows = [
        torch.cat([weight if j == i % n_in else torch.zeros_like(weight) for j in range(n_in)], dim=1)
        for i in range(n_out)
    ]
    return torch.cat(rows, dim=0)


def replicate(blocks: Sequence[Tensor], index: Sequence[int]) -> list[Tensor]:
    """A new tensor for every copy."""
    return [blocks[i].clone() for i in index]


def paper_replicate(outs: Sequence[Tensor], blocks: Sequence[Tensor], index: Sequence[int]) -> Sequence[Tensor]:
    """Gstack (arXiv 2405.15319): the small model's layers loaded into the layers of a large model that exists already."""
    for out, i in zip(outs, index, strict=True):
        out.copy_(blocks[i])
    return outs


def replicate_noisy(blocks: Sequence[Tensor], index: Sequence[int], alpha: float, std: float) -> list[Tensor]:
    """Gstack's noise after stacking: `(1 - a) W + a e`."""
    return [(1 - alpha) * blocks[i] + alpha * (std * torch.randn_like(blocks[i])) for i in index]


def mean_square(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Squares in float32, summed in float64."""
    return [torch.stack([t.float().square().mean(dtype=torch.float64) for t in tensors])]


def expand(weights: Sequence[Tensor], b: Tensor, a: Tensor, depth: Tensor, structured: bool = False) -> Tensor:
    """Mixed, then multiplied: batched products of the whole stack. Structured matrices are made whole first."""
    b, a = _whole(b, structured), _whole(a, structured)
    return b @ torch.tensordot(depth, torch.stack(list(weights)), 1) @ a.t()


def paper_expand(weights: Sequence[Tensor], b: Tensor, a: Tensor, depth: Tensor, structured: bool = False) -> Tensor:
    """LiGO (arXiv 2303.00980) as released for language models: every source layer is expanded, and every target layer adds
    them up one by one.
    """
    b, a = _whole(b, structured), _whole(a, structured)
    expanded = [b @ weight @ a.t() for weight in weights]
    return torch.stack([sum(w * layer for w, layer in zip(row, expanded, strict=True)) for row in depth])


def _whole(matrix: Tensor, structured: bool) -> Tensor:
    if not structured:
        return matrix
    return torch.cat([torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device), matrix])


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile of a rival for exactly the shapes it meets, as many as a whole model has."""
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(function, dynamic=False)
