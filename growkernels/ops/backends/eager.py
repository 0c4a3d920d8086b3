"""The ops of the schema by the eager reference, for any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from growkernels.ops.backends.registry import Backend
from growkernels.ops.checks import check_dtype, check_memory, check_rule
from growkernels.ops.expand import reference as expand_reference
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.raw_arguments import (
    check_backward,
    check_copies,
    check_divisors,
    check_needed,
    check_pairs,
    check_products,
    check_replicas,
    check_rules,
    check_stacks,
    check_targets,
)
from growkernels.ops.replicate import reference as replicate_reference
from growkernels.ops.tile import reference as tile_reference
from growkernels.ops.tile.packing import unpack


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
    check_copies(weight, n_out, n_in)
    check_rule(out, weight, tile_reference.tile_numbers(weight, n_out, n_in, diagonal, noise_std, None, key))
    check_memory((out,), (weight,))
    measured = tile_reference.tile_numbers(weight, n_out, n_in, diagonal, noise_std, snr_db, key)
    tile_reference.tile_rules_([out], [weight], [measured.tile()])


def tile_rules_(
    outs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], layout: Sequence[int], scalars: Sequence[float]
) -> None:
    specs = unpack(layout, scalars)
    check_rules(outs, weights, specs)
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
    check_replicas(outs, blocks, index, scale)
    replicate_reference.replicate_(outs, blocks, index, scale, noise_alpha, noise_std, key)


def mean_square(tensors: Sequence[torch.Tensor], divisors: Sequence[float]) -> torch.Tensor:
    check_divisors(tensors, divisors)
    return noise_reference.mean_square(tensors, divisors).to(tensors[0].device)


def normal_(out: torch.Tensor, key: int, field: int, start: int) -> None:
    noise_reference.normal_(out, key, field, start)


def expand_(
    outs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    matrices: Sequence[torch.Tensor],
    layout: Sequence[int],
) -> None:
    check_targets(outs, check_stacks(weights, matrices, layout), [*weights, *matrices])
    expand_reference.expand_(outs, weights, matrices, layout)


def expand(
    weights: Sequence[torch.Tensor],
    matrices: Sequence[torch.Tensor],
    layout: Sequence[int],
    dtype: torch.dtype,
    needed: Sequence[bool],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    check_stacks(weights, matrices, layout)
    check_dtype("dtype", dtype)
    check_needed(needed, [*weights, *matrices])
    return expand_reference.expand(weights, matrices, layout, dtype, needed)


def expand_backward(
    grads: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    matrices: Sequence[torch.Tensor],
    layout: Sequence[int],
    saved: Sequence[torch.Tensor],
    needed: Sequence[bool],
) -> list[torch.Tensor]:
    check_backward(grads, check_stacks(weights, matrices, layout), saved, needed, len(weights) + len(matrices))
    return expand_reference.expand_backward(grads, weights, matrices, layout, saved, needed)


def mix_(outs: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], coefficients: torch.Tensor) -> None:
    check_pairs(outs, sources, coefficients, "coefficients")
    check_memory(outs, [*sources, coefficients])
    expand_reference.mix_(outs, sources, coefficients)


def inner_products_(out: torch.Tensor, left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> None:
    check_pairs(left, right, out, "out")
    check_memory([out], [*left, *right])
    expand_reference.inner_products_(out, left, right)


def products_(
    outs: Sequence[torch.Tensor], left: Sequence[torch.Tensor], right: Sequence[torch.Tensor], add: bool
) -> None:
    check_products(outs, left, right)
    expand_reference.products_(outs, left, right, add)


EAGER = Backend(
    "eager",
    devices=(),
    why_not=lambda: "",
    implementations=lambda: {
        f.__name__: f
        for f in (
            tile_,
            tile_rules_,
            replicate_,
            mean_square,
            normal_,
            expand_,
            expand,
            expand_backward,
            mix_,
            inner_products_,
            products_,
        )
    },
    default_for=("cpu",),
)
