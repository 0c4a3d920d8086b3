"""How many experts a dense model gets, of what size, and how many for a token: which numbers keep its function."""

from __future__ import annotations

from dataclasses import dataclass

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout
from growkernels.options import GrowthOptions

_IDLE_ROUTER = (
    "With one expert for a token its weight is always one: the router gets no gradient of the task, and only the balance loss "
    "trains it. Use top_k 2 or more."
)


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of experts, into how many each copy of the dense network is cut, and how many a token is sent to."""

    experts: int
    granularity: int
    top_k: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What cannot train."""
        return (_IDLE_ROUTER,) if self.top_k == 1 else ()


def mixture_counts(layout: ModelLayout, options: GrowthOptions) -> Counts:
    """The counts that the options ask for. Raises GrowthError for those that cannot be, or would not compute the same."""
    experts, granularity = options.moe or 1, options.granularity or 1
    counts = Counts(experts, granularity, options.top_k or (granularity if granularity > 1 else min(2, experts)))
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
