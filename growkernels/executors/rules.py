"""Rules as executors need them: whether they fit their sources, and what their noise asks for."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch

from growkernels.errors import GrowthError
from growkernels.executors.sources.base import Tensors
from growkernels.ops.noise.reference import noise_std
from growkernels.plans import DTYPE_BYTES, Learned, Rule, Tile


def check_fit(source: Tensors, rule: Rule) -> None:
    """Raise GrowthError unless the source has what the rule draws on, in a form that ops take."""
    for name in rule.sources:
        if name not in source.tensors:
            raise GrowthError(f"{rule.target} grows from {name}, which {source.name} does not have.")
    if is_moved(rule, source):
        return
    for name, dtype in ((rule.target, rule.spec.dtype), *((name, source.tensors[name].dtype) for name in rule.sources)):
        if dtype not in DTYPE_BYTES:
            raise GrowthError(f"{name} is {dtype}; weights are grown from and to {', '.join(DTYPE_BYTES)}.")
    match rule.how:
        case Tile():
            _check_tile(source, rule, rule.how)
        case Learned():
            _check_learned(source, rule, rule.how)


def is_moved(rule: Rule, source: Tensors) -> bool:
    """Whether a rule copies a tensor that is no weight, and that no arithmetic touches: integers, quantized values."""
    return rule.spec.dtype not in DTYPE_BYTES and rule.is_copy and rule.spec == source.tensors[rule.source]


def _check_tile(source: Tensors, rule: Rule, tile: Tile) -> None:
    for name in rule.drawn:
        needed, found = tile.source_shape, source.tensors[name].shape
        if len(needed) != len(found) or any(end > size for end, size in zip(needed, found, strict=True)):
            raise GrowthError(f"{rule.target} needs {name} of at least {list(needed)}; it has {list(found)}.")
    if tile.noise is not None and tile.noise.std is None and tile.noise.snr_db is None:
        raise GrowthError(f"{rule.target} has noise with neither a standard deviation nor a signal-to-noise ratio.")


def _check_learned(source: Tensors, rule: Rule, learned: Learned) -> None:
    shape = learned.source_shape
    for name in rule.sources:
        if (found := source.tensors[name].shape) != shape:
            raise GrowthError(f"{rule.target} needs {name} of shape {list(shape)}; it has {list(found)}.")
    if not learned.weights and not 1 <= len(shape) <= 2:
        raise GrowthError(f"{rule.target} has {len(shape)} axes; learned growth takes matrices and vectors.")


def signal(rule: Rule) -> tuple[str, float] | None:
    """The source and divisor whose mean square sets the rule's noise; None where nothing is to be measured."""
    how = rule.how
    if isinstance(how, Learned) or how.noise is None or how.noise.std is not None:
        return None
    # Over the block that carries signal: for the diagonal structure that is W itself; of several, the weakest one.
    summed = how.divisors[how.sum_axis] if how.divisors and how.sum_axis is not None else ()
    return rule.source, 1.0 if how.diagonal else how.divisor * max(summed, default=1.0)


def with_signal(rule: Rule, mean_square: float) -> Rule:
    """The rule with the standard deviation that its signal-to-noise ratio asks for (noise version 1, "Sigma")."""
    noise = rule.how.noise if isinstance(rule.how, Tile) else None
    if noise is None or noise.snr_db is None:
        raise ValueError(f"{rule.target} asks for no signal-to-noise ratio")
    std = noise_std(mean_square, noise.snr_db)
    # A tensor with NaN or Inf, let through on request, has no strength to measure and takes no noise.
    return rule.with_std(std if isfinite(std) else 0.0)


def source_of(weights: Sequence[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
    """What `tile_rules_` reads for a `Tile`: the source, or an empty tensor where nothing is drawn from one."""
    return weights[0] if weights else out.new_empty((0,) * out.ndim)
