"""`tile` by Triton kernels. Triton is imported at the first call: that takes a second, and not every machine needs it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from growkernels.ops.checks import check_memory, check_rule
from growkernels.ops.raw_arguments import check_copies, check_rules
from growkernels.ops.tile.packing import unpack
from growkernels.ops.tile.reference import tile_numbers
from growkernels.ops.triton_launch import on_device


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

    check_copies(weight, n_out, n_in)
    spec = tile_numbers(weight, n_out, n_in, diagonal, noise_std, None, key)
    check_rule(out, weight, spec)
    check_memory((out,), (weight,))
    with on_device((out, weight)):
        measured = None
        if snr_db is not None and n_in > 1:
            measured = Measured(mean_square([weight], [spec.divisor]), 10.0 ** (-snr_db / 20))
        tile([TileJob(_matrix(out), _matrix(weight), spec, measured)])


def tile_rules_(
    outs: Sequence[Tensor], weights: Sequence[Tensor], layout: Sequence[int], scalars: Sequence[float]
) -> None:
    from growkernels.kernels.tile import tile
    from growkernels.kernels.tile_pieces import TileJob

    specs = unpack(layout, scalars)
    check_rules(outs, weights, specs)
    if outs:
        with on_device(outs, weights):
            tile([TileJob(_matrix(o), _matrix(w), spec) for o, w, spec in zip(outs, weights, specs, strict=True)])
