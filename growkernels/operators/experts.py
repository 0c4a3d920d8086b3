"""The operators of experts, and which one the options ask for."""

from __future__ import annotations

from collections.abc import Mapping

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, Symbol
from growkernels.operators.base import ExpertGrowth, ExpertOperator
from growkernels.operators.clone import CLONE
from growkernels.operators.split import SPLIT
from growkernels.operators.upcycle import UPCYCLE
from growkernels.options import GrowthOptions

EXPERT_OPERATORS: tuple[ExpertOperator, ...] = (CLONE, SPLIT, UPCYCLE)


def grow_experts(
    layout: ModelLayout, options: GrowthOptions, ratios: Mapping[Symbol, int], learned: bool
) -> ExpertGrowth | None:
    """What becomes of the experts; None where the options leave them as they are.

    learned: whether ligo grows the rest. Raises GrowthError for what cannot grow at once, and where the operator does.
    """
    if not options.grows_experts:
        return None
    asked = {name: operator for operator in EXPERT_OPERATORS for name in operator.options}
    option = next(name for name in asked if getattr(options, name) is not None)
    if learned:
        raise GrowthError(f"{option} and ligo cannot grow a model at once; grow it in two steps.")
    if max(ratios.values()) > 1 and (not asked[option].with_width or options.expert_noise_db is not None):
        given = option if options.expert_noise_db is None else "expert_noise_db"
        raise GrowthError(f"{given} and a wider model cannot be had at once; grow in two steps, the width first.")
    return asked[option].begin(layout, options)
