"""Split experts: each cut into G slices of its features, and G times as many for each token: the same function and size.

All slices of a chosen expert are chosen, as they have its row of the router. Where weights sum to one each gets 1/G of the
expert's, which a factor G on what they put out makes up for.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.experts import Experts, check_shapes, find_experts, with_values
from growkernels.layouts.knobs import read
from growkernels.operators.base import ExpertGrowth, ExpertOperator, Made
from growkernels.options import GrowthOptions
from growkernels.plans import IndexVector, Segment, Tile


def begin(layout: ModelLayout, options: GrowthOptions) -> ExpertGrowth:
    """What becomes of the experts of a model. Raises GrowthError for experts that cannot be split."""
    experts, slices = find_experts(layout), options.expert_split or 1
    if stacks := [t.name for t in layout.tensors.values() if t.name in experts.axes and not experts.is_router(t)]:
        raise GrowthError(
            f"expert_split: {stacks[0]} holds all experts in one tensor, of which slices are no ranges. Experts that a file "
            f"holds one by one can be split (of a live model: save it, and grow the checkpoint)."
        )
    values = experts.times(slices)
    for path in experts.keys["size"]:
        size = read(experts.loaded, path)
        if size % slices:
            raise GrowthError(f"expert_split is {slices}; expected a divisor of {path}, which is {size}.")
        values[path] = size // slices
    values |= {path: slices * read(experts.loaded, path) for path in experts.keys["shared"]}
    scaled = experts.scaled(slices) if experts.shares_out else {}
    divisor = 1 / slices if experts.shares_out and not scaled else 1.0
    check_shapes(layout, experts, with_values(layout.model_type, dict(layout.config), values))
    return ExpertGrowth(
        make=partial(_make, experts, slices, divisor),
        config=lambda config: with_values(layout.model_type, config, values | scaled),
        why="all slices of a chosen expert are chosen, and together they put out what it did",
    )


def _make(experts: Experts, slices: int, divisor: float, tensor: TensorLayout, how: Tile) -> tuple[Made, ...]:
    axes = list(how.axes)
    if tensor.name in experts.axes:
        axis = experts.axes[tensor.name]
        axes[axis] = IndexVector.tile(axes[axis].size, slices)
        shrunk = slices if experts.is_correction(tensor) else 1
        return (Made(tensor, replace(how, axes=tuple(axes), divisor=how.divisor * shrunk)),)
    if tensor.name not in experts.numbers:
        return (Made(tensor, how),)
    made = []
    axis = next(number for number, one in enumerate(tensor.axes) if str(one) == "ffn")
    size = tensor.axes[axis].size // slices
    for number in range(slices):
        name, group = experts.numbered(tensor, number * experts.count + experts.numbers[tensor.name])
        axes[axis] = IndexVector((Segment(number * size, size),))
        mine = replace(how, axes=tuple(axes), divisor=how.divisor * (divisor if experts.is_last(tensor) else 1.0))
        made.append(Made(replace(tensor, name=name, group=group), mine))
    return tuple(made)


SPLIT = ExpertOperator("split", ("expert_split",), begin)
