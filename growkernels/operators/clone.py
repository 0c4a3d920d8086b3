"""Cloned experts: every expert and its router row several times, and as many times more of them for each token.

The copies of the chosen experts are chosen, and share out the weight of one (arXiv 2510.08008, with top-k multiplied too).
Noise on their last projections sums to zero over them: they compute what one did, and train apart.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.experts import Experts, find_experts, with_values
from growkernels.operators.base import ExpertGrowth, ExpertOperator, Made
from growkernels.options import GrowthOptions
from growkernels.plans import IndexVector, Noise, Tile

_LOCKED = (
    "Symmetry lock: without noise the copies of an expert get equal gradients, and stay equal for ever: the target trains like "
    "the source. Use noise_snr_db (10 dB, which cancels) or expert_noise_db (40 dB, which does not)."
)


def begin(layout: ModelLayout, options: GrowthOptions) -> ExpertGrowth:
    """What becomes of the experts of a model. Raises GrowthError for counts that are not exact."""
    experts = find_experts(layout)
    copies = options.expert_copies or _whole(experts, options.num_experts or 1)
    values = experts.times(copies)
    scaled = {} if experts.shares_out else experts.scaled(1, copies)
    divisor = 1 if experts.shares_out or scaled else copies
    shared = "all copies of a chosen expert are chosen, and together they put out what it did"
    noisy = "noise on the copies of experts and routers changes the function; further training recovers it"
    return ExpertGrowth(
        make=partial(_make, experts, copies, divisor, options),
        config=lambda config: with_values(layout.model_type, config, values | scaled),
        why=shared if options.expert_noise_db is None else noisy,
        preserves=options.expert_noise_db is None,
        warnings=() if options.noise is not None or options.expert_noise_db is not None else (_LOCKED,),
    )


def _whole(experts: Experts, number: int) -> int:
    if number % experts.count or number < 2 * experts.count:
        raise GrowthError(
            f"num_experts is {number}, and the model has {experts.count}: only whole copies of all compute what it does, "
            f"as the weight of an expert with more copies than others would grow. Give a multiple, such as {2 * experts.count}."
        )
    return number // experts.count


def _make(
    experts: Experts, copies: int, divisor: int, options: GrowthOptions, tensor: TensorLayout, how: Tile
) -> tuple[Made, ...]:
    if experts.is_last(tensor) and divisor > 1:
        how = replace(how, divisor=how.divisor * divisor)
    if tensor.name in experts.numbers:
        return tuple(_copy(experts, copies, options, tensor, how, copy) for copy in range(copies))
    if tensor.name in experts.axes:
        axis, axes = experts.axes[tensor.name], list(how.axes)
        axes[axis] = IndexVector.tile(axes[axis].size, copies) if axes[axis].is_identity() else axes[axis].times(copies)
        how = replace(how, axes=tuple(axes))
        if experts.is_correction(tensor):
            how = replace(how, divisor=how.divisor * copies)
        return (Made(tensor, _noisy(experts, options, tensor, how, (None, copies))),)
    return (Made(tensor, how),)


def _copy(experts: Experts, copies: int, options: GrowthOptions, tensor: TensorLayout, how: Tile, copy: int) -> Made:
    """One copy of a part of an expert. Noise cancels over two copies each, and over the last three of an odd number."""
    first = min(copy - copy % 2, copies - copies % 2 - 2) if copies % 2 else copy - copy % 2
    count = 3 if copies % 2 and first == copies - 3 else 2
    name, group = experts.numbered(tensor, copy * experts.count + experts.numbers[tensor.name])
    drawn_as = experts.numbered(tensor, first * experts.count + experts.numbers[tensor.name])[1]
    made = replace(tensor, name=name, group=group)
    if options.expert_noise_db is not None:
        return Made(made, _published(options, tensor, how) if copy else how)
    return Made(made, _noisy(experts, options, tensor, how, (copy - first, count)), drawn_as)


def _noisy(
    experts: Experts, options: GrowthOptions, tensor: TensorLayout, how: Tile, share: tuple[int | None, int]
) -> Tile:
    """With noise that cancels, where the tensor is a last projection and has none that cancels over copies of its input."""
    if options.expert_noise_db is not None:
        return _published(options, tensor, how)
    if options.noise is None or not experts.is_last(tensor) or how.noise is not None:
        return how
    return replace(how, noise=Noise(options.noise, share=share))


def _published(options: GrowthOptions, tensor: TensorLayout, how: Tile) -> Tile:
    """With noise of its own, which nothing cancels: that of one copy of two, without the other."""
    if tensor.input_axis is None or how.n_in > 1:
        return how
    return replace(how, noise=Noise(options.expert_noise_db, share=(0, 2)))


CLONE = ExpertOperator("clone", ("expert_copies", "num_experts"), begin, with_width=True, noise_snr_db=10.0)
