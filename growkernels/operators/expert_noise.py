"""Noise that lets copies of an expert train apart: on last projections, where it cancels, or on all, where it does not."""

from __future__ import annotations

from dataclasses import replace

import torch

from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.experts import Experts
from growkernels.options import GrowthOptions
from growkernels.plans import Noise, Tile

_LOCKED = (
    "Symmetry lock: without noise the copies of an expert get equal gradients, and stay equal for ever: the target trains like "
    "the source. Use noise_snr_db (10 dB, which cancels) or expert_noise_db (40 dB, which does not)."
)


def group_of(copy: int, copies: int) -> tuple[int, int]:
    """The copies over which the noise of one cancels: the first of them and their number, two, or the last three if odd."""
    if copies % 2 and copy >= copies - 3:
        return copies - 3, 3
    return copy - copy % 2, 2


def noisy(
    experts: Experts, options: GrowthOptions, tensor: TensorLayout, how: Tile, share: tuple[int | None, int]
) -> Tile:
    """With noise that cancels where the tensor is a last projection and has none that cancels over copies of its input.

    Where the published noise is asked for, with that: noise of its own, as one copy of two has, without the other. Experts
    that stand along the axis that products sum over (DBRX) are copies of the input themselves.
    """
    along = experts.axes.get(tensor.name, -1) == how.sum_axis
    if options.expert_noise_db is not None:
        noise = Noise(options.expert_noise_db, share=(0, 2))
        return how if along or tensor.input_axis is None else replace(how, noise=noise)
    if options.noise is None or not experts.is_last(tensor) or how.noise is not None:
        return how
    return replace(how, noise=Noise(options.noise, share=None if along else share))


def noise_warnings(layout: ModelLayout, options: GrowthOptions) -> tuple[str, ...]:
    """What there is to say where copies start equal, or as good as equal."""
    decibels = options.noise if options.expert_noise_db is None else options.expert_noise_db
    if decibels is None:
        return (_LOCKED,)
    stored = next(iter(layout.tensors.values())).spec.dtype if options.dtype == "keep" else options.dtype
    # Half of the step between two numbers is a quarter of epsilon in the middle of a binade.
    if 10 ** (-decibels / 20) >= torch.finfo(getattr(torch, stored)).eps / 4:
        return ()
    small = f"Noise of {decibels:g} dB is below the rounding of {stored} weights, and changes next to none of them"
    return (f"{small}. {_LOCKED}",)
