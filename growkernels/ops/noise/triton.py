"""`mean_square` and `normal_` by Triton kernels, imported at the first call."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from growkernels.ops.checks import check_memory
from growkernels.ops.raw_arguments import check_divisors
from growkernels.ops.triton_launch import on_device


def mean_square(tensors: Sequence[Tensor], divisors: Sequence[float]) -> Tensor:
    from growkernels.kernels.mean_square import mean_square

    check_divisors(tensors, divisors)
    with on_device(tensors):
        return mean_square(tensors, divisors)


def normal_(out: Tensor, key: int, field: int, start: int) -> None:
    from growkernels.kernels.noise import normal_

    check_memory((out,), ())
    with on_device((out,)):
        normal_(out, key, field, start)
