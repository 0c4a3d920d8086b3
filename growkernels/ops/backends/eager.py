"""The ops of the schema by the eager reference, for any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from growkernels.ops.backends.registry import Backend
from growkernels.ops.checks import check_memory, check_rule, check_target
from growkernels.ops.expand import reference as expand_reference
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.replicate import reference as replicate_reference
from growkernels.ops.tile import reference as tile_reference
from growkernels.ops.tile.numbers import RuleNumbers
from growkernels.ops.tile.packing import unpack


def tile_spec(
    weight: torch.Tensor, n_out: int, n_in: int, diagonal: bool, noise_std: float, snr_db: float | None, key: int
) -> RuleNumbers:
    """The general rule that `tile` stands for; measures the noise if `snr_db` asks for it."""
    if weight.ndim == 1:
        return RuleNumbers((0, 1, 1, 1), (0, weight.shape[0], n_out, 1))
    divisor = 1.0 if diagonal else float(n_in)
    if snr_db is not None:
        noise_std = noise_reference.noise_std(float(noise_reference.mean_square([weight], [divisor])), snr_db)
    rows, cols = (0, weight.shape[0], n_out, 1), (0, weight.shape[1], n_in, 1)
    return RuleNumbers(rows, cols, divisor, 0.0, diagonal, noise_std, key)


def tile_(
    out: torch.Tensor,
    weight: torch.Tensor,
    n_out: int,
    n_in: int,
    diagonal: bool,
    noise_std: float,
    snr_db: float | None,
    key: int,
) -> None:
    check_rule(out, weight, tile_spec(weight, n_out, n_in, diagonal, noise_std, None, key))
    check_memory((out,), (weight,))
    measured = tile_spec(weight, n_out, n_in, diagonal, noise_std, snr_db, key)
    tile_reference.tile_rules_([out], [weight], [measured.tile()])


def tile_rules_(
    outs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], layout: Sequence[int], scalars: Sequence[float]
) -> None:
    specs = unpack(layout, scalars)
    for out, weight, spec in zip(outs, weights, specs, strict=True):
        check_rule(out, weight, spec)
    check_memory(outs, weights)
    tile_reference.tile_rules_(outs, weights, [spec.tile() for spec in specs])


def replicate_(
    outs: Sequence[torch.Tensor],
    blocks: Sequence[torch.Tensor],
    index: Sequence[int],
    scale: Sequence[float],
    noise_alpha: float,
    noise_std: float,
    key: int,
) -> None:
    for out, i in zip(outs, index, strict=True):
        check_target(out, blocks[i], tuple(blocks[i].shape), f"block {i}")
    check_memory(outs, blocks)
    replicate_reference.replicate_(outs, blocks, index, scale, noise_alpha, noise_std, key)


def mean_square(tensors: Sequence[torch.Tensor], divisors: Sequence[float]) -> torch.Tensor:
    return noise_reference.mean_square(tensors, divisors).to(tensors[0].device)


def normal_(out: torch.Tensor, key: int, field: int, start: int) -> None:
    noise_reference.normal_(out, key, field, start)


EAGER = Backend(
    "eager",
    devices=(),
    why_not=lambda: "",
    implementations=lambda: {
        **{f.__name__: f for f in (tile_, tile_rules_, replicate_, mean_square, normal_)},
        **expand_reference.IMPLEMENTATIONS,
    },
    default_for=("cpu",),
)
