"""Rules as executors need them: whether they fit their sources, what their noise asks for, and the numbers ops take."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, prod
from typing import Protocol

import torch

from growkernels.errors import GrowthError
from growkernels.ops import TileSpec
from growkernels.ops.noise.reference import noise_std
from growkernels.plans import DTYPE_BYTES, Rule, TensorSpec

_ONE_ROW = (0, 1, 1, 1)


class Tensors(Protocol):
    """Named tensors with a name of their own: an opened checkpoint, a live model."""

    name: str
    tensors: Mapping[str, TensorSpec]

    def tensor(self, name: str) -> torch.Tensor: ...


def check_fit(source: Tensors, rule: Rule) -> None:
    """Raise GrowthError unless the source has what the rule draws on, in a form that ops take."""
    for name in rule.sources:
        if name not in source.tensors:
            raise GrowthError(f"{rule.target} grows from {name}, which {source.name} does not have.")
    if rule.learned is not None:
        _check_learned(source, rule)
        return
    spec = source.tensors[rule.source]
    for name, dtype in ((rule.source, spec.dtype), (rule.target, rule.spec.dtype)):
        if dtype not in DTYPE_BYTES:
            raise GrowthError(f"{name} is {dtype}; weights are grown from and to {', '.join(DTYPE_BYTES)}.")
    ends = tuple(max((s.start + s.length for s in axis.segments), default=0) for axis in rule.axes)
    if len(ends) != len(spec.shape) or any(end > size for end, size in zip(ends, spec.shape, strict=True)):
        raise GrowthError(f"{rule.target} needs {rule.source} of at least {list(ends)}; it has {list(spec.shape)}.")
    if len(ends) > 2 and not (rule.is_copy and spec.shape == rule.spec.shape):
        raise GrowthError(f"{rule.target} has {len(ends)} axes; matrices and vectors are grown, others only copied.")
    if rule.noise is not None and rule.noise.std is None and rule.noise.snr_db is None:
        raise GrowthError(f"{rule.target} has noise with neither a standard deviation nor a signal-to-noise ratio.")


def _check_learned(source: Tensors, rule: Rule) -> None:
    shape = rule.source_shape
    for name in rule.sources:
        if (found := source.tensors[name].shape) != shape:
            raise GrowthError(f"{rule.target} needs {name} of shape {list(shape)}; it has {list(found)}.")
    if not 1 <= len(shape) <= 2:
        raise GrowthError(f"{rule.target} has {len(shape)} axes; learned growth takes matrices and vectors.")
    for name, dtype in ((rule.target, rule.spec.dtype), *((name, source.tensors[name].dtype) for name in rule.sources)):
        if dtype not in DTYPE_BYTES:
            raise GrowthError(f"{name} is {dtype}; weights are grown from and to {', '.join(DTYPE_BYTES)}.")


def signal(rule: Rule) -> tuple[str, float] | None:
    """The source and divisor whose mean square sets the rule's noise; None where nothing is to be measured."""
    if rule.noise is None or rule.noise.std is not None:
        return None
    # Over the block that carries signal: for the diagonal structure that is W itself.
    return rule.source, 1.0 if rule.structure == "diagonal" else rule.divisor


def with_signal(rule: Rule, mean_square: float) -> Rule:
    """The rule with the standard deviation that its signal-to-noise ratio asks for (noise version 1, "Sigma")."""
    if rule.noise is None or rule.noise.snr_db is None:
        raise ValueError(f"{rule.target} asks for no signal-to-noise ratio")
    std = noise_std(mean_square, rule.noise.snr_db)
    # A tensor with NaN or Inf, let through on request, has no strength to measure and takes no noise.
    return rule.with_std(std if isfinite(std) else 0.0)


def as_rows(rule: Rule, tensor: torch.Tensor) -> torch.Tensor:
    """A view whose columns are the input axis; vectors, and whatever is only copied, as they lie."""
    if tensor.ndim != 2:
        return tensor.reshape(-1)
    return tensor.t() if rule.input_axis == 0 else tensor


def tile_spec(rule: Rule) -> TileSpec:
    """The rule as numbers, for tensors laid out by `as_rows`."""
    axes = [axis.flat() for axis in rule.axes]
    if len(axes) == 2:
        rows, cols = axes[::-1] if rule.input_axis == 0 else axes
    else:
        rows, cols = _ONE_ROW, axes[0] if len(axes) == 1 else (0, prod(rule.spec.shape), 1, 1)
    noise = rule.noise
    return TileSpec(
        rows=rows,
        cols=cols,
        divisor=rule.divisor,
        shift=rule.shift,
        diagonal=rule.structure == "diagonal",
        noise_std=noise.std or 0.0 if noise else 0.0,
        key=noise.key if noise else 0,
    )
