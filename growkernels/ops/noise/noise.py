"""The noise as ops: the normals themselves, and the mean square that sets their size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.backends import ops_of
from growkernels.ops.checks import (
    check_devices,
    check_dtype,
    check_gradients,
    check_inference,
    check_integer,
    check_key,
    check_number,
    check_signs,
    check_tensor,
    check_tensors,
    is_nan,
    refuse,
)
from growkernels.ops.transforms import check_transforms


def normal_(out: Tensor, key: int, field: int, start: int = 0, *, backend: str | None = None) -> None:
    """Fill a tensor with standard normals: `z(key, field, start + row-major index)`, rounded once to its dtype.

    Args:
        out: any shape, strides and supported dtype (float32, bfloat16, float16, float64).
        key: 64-bit key, as `noise_key` makes it.
        field: 64-bit number of the stream of normals under that key.
        start: index of the first element in the stream, at least 0.
        backend: "cpu", "cuda", "triton" or "eager"; None chooses by the device.

    Raises:
        GrowthError: an argument is out of range, or `out` is a leaf that requires grad.

    Example:
        >>> out = torch.empty(4, 8)
        >>> ops.normal_(out, ops.noise_key(0, "layers.0.weight"), field=0)

    The numbers are a pure function of the arguments, on every backend (noise version 1).
    """
    check_tensor("out", out)
    check_transforms("normal_", (out,))
    check_dtype("out", out.dtype)
    check_signs(out)
    check_inference((out,))
    check_gradients((out,), ())
    check_integer("field", field)
    check_integer("start", start)
    if start < 0:
        raise GrowthError(f"start is {start}; expected an index >= 0")
    try:
        ops_of(backend, out).normal_(out, check_key(key), field, start)
    except RuntimeError as error:
        refuse(error)


def mean_square(
    tensors: Sequence[Tensor], divisors: Sequence[float] | None = None, *, backend: str | None = None
) -> Tensor:
    """Mean of `(tensor / divisor) ** 2` of each tensor, in one fixed order that every backend follows.

    Args:
        tensors: any shapes, strides and supported dtypes, all on one device.
        divisors: one per tensor, none of them zero; None: 1.
        backend: "cpu", "cuda", "triton" or "eager"; None chooses by the device.

    Returns:
        float64 [len(tensors)]; 0 for an empty tensor.

    Raises:
        GrowthError: a tensor or a divisor does not fit, or a transform of `torch.func` follows a tensor.

    Example:
        >>> rms = ops.mean_square([weight], divisors=[2.0]).sqrt()

    The quotient is rounded to float32 (float64 for float64), products and sums to float64: over logical row-major elements,
    blocks of 4096 are summed in 32 interleaved lanes, each in order, which are then halved together; the block sums are
    summed by the same scheme until one is left.
    """
    check_tensors("tensors", tensors)
    if not (divisors is None or isinstance(divisors, (list, tuple))):
        raise GrowthError(f"divisors is {divisors!r}; expected a list, one for each tensor")
    for divisor in divisors or ():
        check_number("a divisor", divisor)
    divisors = [1.0] * len(tensors) if divisors is None else [float(d) for d in divisors]
    if len(divisors) != len(tensors):
        raise GrowthError(f"{len(divisors)} divisors for {len(tensors)} tensors; give one per tensor")
    for tensor, divisor in zip(tensors, divisors, strict=True):
        check_tensor("a tensor", tensor)
        check_dtype("a tensor", tensor.dtype)
        if not divisor or is_nan(divisor):
            raise GrowthError(f"divisor is {divisor}; expected a number other than zero")
    if not tensors:
        return torch.empty(0, dtype=torch.float64)
    check_devices(tensors)
    check_transforms("mean_square", tensors)
    try:
        return ops_of(backend, tensors[0]).mean_square([t.detach() for t in tensors], divisors)
    except RuntimeError as error:
        refuse(error)
