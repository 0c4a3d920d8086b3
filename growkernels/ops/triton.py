"""The ops of the schema by the Triton kernels, for CUDA tensors (for CPU tensors under Triton's interpreter).

Triton is imported at the first call: importing it takes a second, and machines without a GPU do not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.checks import check_memory, check_rule, check_target
from growkernels.ops.eager import tile_spec, tiled_shape
from growkernels.ops.layout import unpack


def _on_device(*lists: Sequence[Tensor]) -> AbstractContextManager[Any]:
    """The one device of all tensors as the current one, where that means something."""
    devices = {tensor.device for tensors in lists for tensor in tensors}
    if len(devices) > 1:
        raise GrowthError(f"tensors are on {sorted(map(str, devices))}; put them on one device")
    device = devices.pop()
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


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

    spec = tile_spec(weight, n_out, n_in, diagonal, noise_std, None, key)
    check_rule(out, weight, spec)
    check_memory((out,), (weight,))
    with _on_device((out, weight)):
        measured = None
        if snr_db is not None and n_in > 1:
            measured = Measured(mean_square([weight], [spec.divisor]), 10.0 ** (-snr_db / 20))
        tile([TileJob(_matrix(out), _matrix(weight), spec, measured)])


def tile(
    weight: Tensor,
    n_out: int,
    n_in: int,
    diagonal: bool,
    noise_std: float,
    snr_db: float | None,
    key: int,
    dtype: torch.dtype,
) -> Tensor:
    out = weight.new_empty(tiled_shape(weight, n_out, n_in), dtype=dtype)
    tile_(out, weight.detach(), n_out, n_in, diagonal, noise_std, snr_db, key)
    return out


def tile_rules_(
    outs: Sequence[Tensor], weights: Sequence[Tensor], layout: Sequence[int], scalars: Sequence[float]
) -> None:
    from growkernels.kernels.tile import tile
    from growkernels.kernels.tile_pieces import TileJob

    specs = unpack(layout, scalars)
    for out, weight, spec in zip(outs, weights, specs, strict=True):
        check_rule(out, weight, spec)
    check_memory(outs, weights)
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

    for out, i in zip(outs, index, strict=True):
        check_target(out, blocks[i], tuple(blocks[i].shape), f"block {i}")
    check_memory(outs, blocks)
    if outs:
        with _on_device(outs, blocks):
            replicate(outs, blocks, index, scale, noise_alpha, noise_std, key)


def replicate(
    blocks: Sequence[Tensor],
    index: Sequence[int],
    scale: Sequence[float],
    noise_alpha: float,
    noise_std: float,
    key: int,
) -> list[Tensor]:
    outs = [torch.empty_like(blocks[i], memory_format=torch.contiguous_format) for i in index]
    replicate_(outs, [block.detach() for block in blocks], index, scale, noise_alpha, noise_std, key)
    return outs


def mean_square(tensors: Sequence[Tensor], divisors: Sequence[float]) -> Tensor:
    from growkernels.kernels.mean_square import mean_square

    with _on_device(tensors):
        return mean_square(tensors, divisors)


def normal_(out: Tensor, key: int, field: int, start: int) -> None:
    from growkernels.kernels.noise import normal_

    check_memory((out,), ())
    with _on_device((out,)):
        normal_(out, key, field, start)


#: Implementations by op name.
IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (tile_, tile, tile_rules_, replicate_, replicate, mean_square, normal_)
}
