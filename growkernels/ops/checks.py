"""Argument checks shared by the ops: each names what was given, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan

import torch
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.layout import signed

DTYPES = frozenset((torch.float32, torch.bfloat16, torch.float16, torch.float64))
_PLAIN = (Tensor, torch.nn.Parameter)


def check_dtype(what: str, dtype: torch.dtype) -> None:
    """Only floating-point dtypes that can be grown."""
    if dtype not in DTYPES:
        raise GrowthError(f"{what} has dtype {dtype}; expected float32, bfloat16, float16 or float64")


def check_key(key: int) -> int:
    """The key in the signed form that ops carry."""
    if not -(2**63) <= key < 2**64:
        raise GrowthError(f"key {key} does not fit 64 bits; make one with noise_key(seed, name)")
    return signed(key)


def check_std(noise_std: float | None, snr_db: float | None = None) -> float:
    """The noise level as a float, 0 for none."""
    if noise_std is None:
        if snr_db is not None and isnan(snr_db):
            raise GrowthError("snr_db is NaN; expected decibels")
        return 0.0
    if snr_db is not None:
        raise GrowthError(f"noise_std={noise_std} and snr_db={snr_db} are both given; give one of them")
    if not (noise_std >= 0 and isfinite(noise_std)):
        raise GrowthError(f"noise_std is {noise_std}; expected a finite number >= 0")
    return noise_std


def check_device(tensor: Tensor, backend: str | None) -> None:
    """Only CPU tensors have a compiled backend."""
    if tensor.device.type not in ("cpu", "meta") and backend != "eager":
        raise GrowthError(
            f"no fused kernel for {tensor.device.type} tensors; move them to the CPU or pass backend='eager'"
        )


def _span(tensor: Tensor) -> tuple[int, int]:
    if tensor.is_contiguous():
        count = tensor.numel()
    else:
        count = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + count * tensor.element_size()


def check_target(out: Tensor, source: Tensor, shape: tuple[int, ...], rule: str, backend: str | None) -> None:
    """`out` must have the shape, a supported dtype, the source's device, and no gradient to follow."""
    if out.shape != shape:
        raise GrowthError(f"out has shape {tuple(out.shape)}; {rule} writes {tuple(shape)}")
    if out.dtype not in DTYPES or source.dtype not in DTYPES:
        check_dtype("out", out.dtype)
        check_dtype("the source", source.dtype)
    if out.device != source.device:
        raise GrowthError(f"out is on {out.device}, the source on {source.device}; put them on one device")
    if not out.is_cpu:
        check_device(out, backend)
    if torch.is_grad_enabled() and (out.requires_grad or source.requires_grad):
        raise GrowthError(
            "in-place ops do not record gradients, and out or the source requires grad; "
            "call them under torch.no_grad(), or use the functional form"
        )


def check_memory(outs: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Neither entries of one `out` that share memory, nor memory shared with any source (told by their address ranges).

    Nothing is checked for tensors without memory of their own: fake ones, or those of a traced graph.
    """
    if torch.compiler.is_compiling():
        return
    if len(outs) == len(sources) == 1 and _apart(outs[0], sources[0]):
        return
    if not all(type(t) in _PLAIN and t.is_cpu for t in (*outs, *sources)):
        return
    for out in outs:
        if not out.is_contiguous():
            _check_strides(out)
    written = sorted(_span(out) for out in outs if out.numel())
    read = sorted(_span(source) for source in sources if source.numel())
    # Two sorted lists of ranges are walked together; of the ranges that start earlier only the furthest end matters.
    furthest, at = 0, 0
    for start, end in written:
        while at < len(read) and read[at][0] < end:
            furthest = max(furthest, read[at][1])
            at += 1
        if furthest > start:
            raise GrowthError("out overlaps an input in memory; write into a tensor of its own")


def _apart(out: Tensor, source: Tensor) -> bool:
    """Whether two dense tensors lie apart: the common case, told quickly."""
    if not (type(out) in _PLAIN and type(source) in _PLAIN and out.is_contiguous() and source.is_contiguous()):
        return False
    start, low = out.data_ptr(), source.data_ptr()
    return start + out.nbytes <= low or low + source.nbytes <= start


def _check_strides(out: Tensor) -> None:
    reach = 0
    for stride, size in sorted((s, n) for s, n in zip(out.stride(), out.shape, strict=True) if n > 1):
        if stride <= reach:
            raise GrowthError(
                f"entries of out share memory (shape {tuple(out.shape)}, strides {out.stride()}); copy it"
            )
        reach += stride * (size - 1)
