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
from growkernels.operators.expert_noise import group_of, noise_warnings, noisy
from growkernels.options import GrowthOptions
from growkernels.plans import IndexVector, Tile


def begin(layout: ModelLayout, options: GrowthOptions) -> ExpertGrowth:
    """What becomes of the experts of a model. Raises GrowthError for counts that are not exact."""
    experts = find_experts(layout)
    copies = options.expert_copies or _whole(experts, options.num_experts or 1)
    values = experts.times(copies)
    scaled = {} if experts.shares_out else experts.scaled(1, copies)
    divisor = 1 if experts.shares_out or scaled else copies
    exact = options.expert_noise_db is None
    return ExpertGrowth(
        make=partial(_make, experts, copies, divisor, options),
        config=lambda config: with_values(layout.model_type, config, values | scaled),
        why="all copies of a chosen expert are chosen, and together they put out what it did"
        if exact
        else "noise on the copies of experts and routers changes the function; further training recovers it",
        preserves=exact,
        warnings=noise_warnings(layout, options),
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
    if experts.is_last(tensor):
        how = replace(how, divisor=how.divisor * divisor)
    if tensor.name in experts.numbers:
        return tuple(_copy(experts, copies, options, tensor, how, copy) for copy in range(copies))
    if tensor.name in experts.axes:
        axis, axes = experts.axes[tensor.name], list(how.axes)
        axes[axis] = IndexVector.tile(axes[axis].size, copies) if axes[axis].is_identity() else axes[axis].times(copies)
        shrunk = copies if experts.is_correction(tensor) else 1
        how = replace(how, axes=tuple(axes), divisor=how.divisor * shrunk)
        return (Made(tensor, noisy(experts, options, tensor, how, (None, copies))),)
    return (Made(tensor, how),)


def _copy(experts: Experts, copies: int, options: GrowthOptions, tensor: TensorLayout, how: Tile, copy: int) -> Made:
    """One copy of a part of an expert; with the published noise, the first one stays."""
    number, (first, count) = experts.numbers[tensor.name], group_of(copy, copies)
    name, group = experts.numbered(tensor, copy * experts.count + number)
    made = replace(tensor, name=name, group=group)
    if options.expert_noise_db is not None:
        return Made(made, noisy(experts, options, tensor, how, (0, 2)) if copy else how)
    drawn_as = experts.numbered(tensor, first * experts.count + number)[1]
    return Made(made, noisy(experts, options, tensor, how, (copy - first, count)), drawn_as)


CLONE = ExpertOperator("clone", ("expert_copies", "num_experts"), begin, with_width=True, noise_snr_db=10.0)
