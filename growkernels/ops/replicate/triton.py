"""`replicate` by Triton kernels, imported at the first call."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from growkernels.ops.raw_arguments import check_replicas
from growkernels.ops.triton_launch import on_device


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

    check_replicas(outs, blocks, index, scale)
    if outs:
        with on_device(outs, blocks):
            replicate(outs, blocks, index, scale, noise_alpha, noise_std, key)
