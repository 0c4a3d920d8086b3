"""Dense to mixture of experts: copies of the feed-forward network, or slices of copies (arXiv 2212.05055, 2410.07524).

The weights of the chosen experts sum to one, so that equal experts put out what the dense network did, whatever the router.
Slices come in whole groups with one row of the router, which is drawn once for a group: the weight of each is 1/G of the
group's, and the square root of G on `up` and `down` makes up for it. A shared expert that is the dense network leaves nothing
for the others to put out at first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.mixtures import PROJECTIONS, Mixture, find_mixture, mixture_config
from growkernels.operators.base import ExpertGrowth, ExpertOperator, Made
from growkernels.operators.redraw import redrawn
from growkernels.options import GrowthOptions
from growkernels.plans import NEW, Fill, IndexVector, Learned, Segment, Tile


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many experts there are, of what granularity, and how many for a token."""

    experts: int
    granularity: int
    top_k: int


def begin(layout: ModelLayout, options: GrowthOptions) -> ExpertGrowth:
    """What becomes of a dense model. Raises GrowthError for models and counts that would not compute the same."""
    mixture = find_mixture(layout)
    counts = _counts(layout, options)
    if options.shared and not mixture.shared:
        raise GrowthError(f"shared: {mixture.model_type} has no shared expert; leave shared out.")
    ffn = layout.sizes["ffn"] // counts.granularity
    values = {mixture.count: counts.experts, "num_experts_per_tok": counts.top_k, mixture.size: ffn}
    if mixture.shared_size:
        values[mixture.shared_size] = layout.sizes["ffn"] if options.shared else ffn
    changed = "a share of each expert's features is drawn anew; further training recovers it"
    kept = "the shared expert is the dense network, and the others put out nothing yet"
    equal = "the weights of the chosen experts sum to one, and together they put out what the dense network did"
    return ExpertGrowth(
        make=partial(_make, mixture, counts, options, float(layout.config.get("initializer_range", 0.02))),
        config=lambda config: mixture_config(layout, mixture, config, values),
        why=kept if options.shared else changed if options.reinit else equal,
        preserves=options.reinit is None or options.shared,
    )


def _counts(layout: ModelLayout, options: GrowthOptions) -> _Counts:
    experts, granularity = options.moe or 1, options.granularity or 1
    counts = _Counts(experts, granularity, options.top_k or (granularity if granularity > 1 else min(2, experts)))
    ffn = layout.sizes["ffn"]
    if experts < 2:
        raise GrowthError(f"moe is {experts}; expected at least 2 experts.")
    if ffn % granularity or experts % granularity:
        raise GrowthError(
            f"granularity is {granularity}; expected a divisor of the ffn size {ffn} and of the number of experts {experts}."
        )
    if not 1 <= counts.top_k <= experts:
        raise GrowthError(f"top_k is {counts.top_k}; expected 1 to {experts}, the number of experts.")
    if counts.top_k % granularity and not options.shared:
        raise GrowthError(
            f"top_k is {counts.top_k} and granularity {granularity}: tokens would get parts of a network, and the output would "
            f"be off by 18 to 25 % (measured with 6 of granularity 4). Give a multiple of {granularity}."
        )
    if options.reinit is not None and granularity > 1:
        raise GrowthError("reinit and granularity cannot be had at once; leave one of the two out.")
    return counts


def _make(
    mixture: Mixture, counts: _Counts, options: GrowthOptions, router_std: float, tensor: TensorLayout, how: Tile
) -> tuple[Made, ...]:
    ending = next((ending for ending in PROJECTIONS if tensor.group.endswith(ending)), None)
    if ending is None:
        return (Made(tensor, how),)
    part = PROJECTIONS[ending]

    def named(name: str, new: bool, how: Tile | Learned, drawn_as: str = "") -> Made:
        group, layer = f"{tensor.group.removesuffix(ending)}{name}.weight", str(tensor.layer)
        made = replace(
            tensor, name=group.replace("{}", layer), group=group, places=(), writes_stream=part == "down" and not new
        )
        return Made(made, how, drawn_as, new)

    made = []
    for expert in range(counts.experts):
        mine = _slice(how, part, expert % counts.granularity, counts.granularity, options)
        name = f"{mixture.block}.experts.{expert}"
        if options.reinit is not None and not (part == "down" and options.shared):
            place = tensor.group.removesuffix(ending).replace("{}", str(tensor.layer)) + name
            mine = redrawn(mine, 1 if part == "down" else 0, options.reinit, options.seed, place)
        made.append(named(f"{name}.{mixture.parts[part]}", False, mine))
    if mixture.shared:
        shared = _shared(how, part, counts.granularity, options)
        made.append(named(f"{mixture.block}.{mixture.shared}.{mixture.parts[part]}", False, shared))
    if part == "down":
        hidden = how.axes[0].size
        made.append(named(f"{mixture.block}.gate", True, _router(counts, hidden, router_std)))
        if mixture.shared:
            made.append(named(f"{mixture.block}.{mixture.shared}_gate", True, Tile.zeros((1, hidden), 1)))
    return tuple(made)


def _slice(how: Tile, part: str, number: int, granularity: int, options: GrowthOptions) -> Tile:
    """Of a projection, what one expert of a group has; its last one at zero beside a shared expert."""
    axis = 1 if part == "down" else 0
    size = how.axes[axis].size // granularity
    axes = list(how.axes)
    axes[axis] = IndexVector((Segment(number * size, size),))
    how = replace(how, axes=tuple(axes))
    if part == "down" and options.shared:
        return Tile.zeros(how.shape, how.sum_axis)
    return how if part == "gate" or granularity == 1 or options.shared else replace(how, divisor=granularity**-0.5)


def _shared(how: Tile, part: str, granularity: int, options: GrowthOptions) -> Tile:
    """The shared expert's projection: the dense one, which a sigmoid of zero halves; or a small one that puts out nothing."""
    if options.shared:
        return replace(how, divisor=0.5) if part == "down" else how
    small = _slice(how, part, 0, granularity, options)
    return Tile.zeros(small.shape, small.sum_axis) if part == "down" else small


def _router(counts: _Counts, hidden: int, std: float) -> Tile:
    """Normal rows, one for each group of slices, which all of the group have."""
    groups = counts.experts // counts.granularity
    rows = IndexVector((Segment(NEW, groups, counts.granularity, groups if counts.granularity > 1 else 1),))
    fill = Fill(0.0, std)
    return Tile((rows, IndexVector.new(hidden)), 1, fill=(fill, fill, fill))


UPCYCLE = ExpertOperator("upcycle", ("moe",), begin)
