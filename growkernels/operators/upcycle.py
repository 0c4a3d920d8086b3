"""Dense to mixture of experts: copies of the feed-forward network, or slices of copies (arXiv 2212.05055, 2410.07524).

The weights of the chosen experts sum to one, so that equal experts put out what the dense network did, whatever the router.
Slices come in whole groups with one row of the router, which is drawn once for a group. A shared expert that is the dense
network leaves nothing for the others to put out at first.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.mixtures import PROJECTIONS, Mixture, find_mixture, mixture_config
from growkernels.operators.base import ExpertGrowth, ExpertOperator, Made
from growkernels.operators.expert_slices import expert_slice, router_rows, shared_projection
from growkernels.operators.mixture_counts import Counts, mixture_counts
from growkernels.operators.redraw import redrawn
from growkernels.options import GrowthOptions
from growkernels.plans import Tile

_EQUAL = "the weights of the chosen experts sum to one, and together they put out what the dense network did"
_KEPT = "the shared expert is the dense network, and the others put out nothing yet"
_DRAWN = "a share of each expert's features is drawn anew; further training recovers it"


def begin(layout: ModelLayout, options: GrowthOptions) -> ExpertGrowth:
    """What becomes of a dense model. Raises GrowthError for models and counts that would not compute the same."""
    mixture, counts = find_mixture(layout), mixture_counts(layout, options)
    if options.shared and not mixture.shared:
        raise GrowthError(f"shared: {mixture.model_type} has no shared expert; leave shared out.")
    ffn = layout.sizes["ffn"] // counts.granularity
    values = {mixture.count: counts.experts, "num_experts_per_tok": counts.top_k, mixture.size: ffn}
    if mixture.shared_size:
        values[mixture.shared_size] = layout.sizes["ffn"] if options.shared else ffn
    return ExpertGrowth(
        make=partial(_make, mixture, counts, options, float(layout.config.get("initializer_range", 0.02))),
        config=lambda config: mixture_config(layout, mixture, config, values),
        why=_KEPT if options.shared else _DRAWN if options.reinit else _EQUAL,
        preserves=options.reinit is None or options.shared,
        warnings=counts.warnings,
    )


def _make(
    mixture: Mixture, counts: Counts, options: GrowthOptions, router_std: float, tensor: TensorLayout, how: Tile
) -> tuple[Made, ...]:
    ending = next((ending for ending in PROJECTIONS if tensor.group.endswith(ending)), None)
    if ending is None:
        return (Made(tensor, how),)
    part, block = PROJECTIONS[ending], tensor.group.removesuffix(ending) + mixture.block

    def named(name: str, how: Tile, new: bool = False) -> Made:
        group = f"{block}.{name}.weight"
        stored = replace(tensor, name=group.replace("{}", str(tensor.layer)), group=group, places=())
        return Made(replace(stored, writes_stream=part == "down" and not new), how, new=new)

    made = []
    for expert in range(counts.experts):
        mine = expert_slice(how, part, expert, counts, options.shared)
        if options.reinit is not None and not (part == "down" and options.shared):
            place = f"{block.replace('{}', str(tensor.layer))}.experts.{expert}"
            mine = redrawn(mine, 1 if part == "down" else 0, options.reinit, options.seed, place)
        made.append(named(f"experts.{expert}.{mixture.parts[part]}", mine))
    if mixture.shared:
        shared = shared_projection(how, part, counts, options.shared)
        made.append(named(f"{mixture.shared}.{mixture.parts[part]}", shared))
    if part == "down":
        hidden = how.axes[0].size
        made.append(named("gate", router_rows(counts, hidden, router_std), new=True))
        if mixture.shared:
            made.append(named(f"{mixture.shared}_gate", Tile.zeros((1, hidden), 1), new=True))
    return tuple(made)


UPCYCLE = ExpertOperator("upcycle", ("moe",), begin)
