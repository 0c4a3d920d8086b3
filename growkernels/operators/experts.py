"""The operators of experts, and which one the options ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout
from growkernels.operators.base import ExpertGrowth, ExpertOperator, Layer, Ratios
from growkernels.operators.clone import CLONE
from growkernels.operators.split import SPLIT
from growkernels.operators.upcycle import UPCYCLE
from growkernels.options import GrowthOptions

EXPERT_OPERATORS: tuple[ExpertOperator, ...] = (CLONE, SPLIT, UPCYCLE)


def grow_experts(
    layout: ModelLayout, options: GrowthOptions, layers: Sequence[Layer], ratios: Ratios, learned: bool
) -> ExpertGrowth | None:
    """What becomes of the experts; None where the options leave them as they are.

    layers: those of the target; learned: whether ligo grows the rest. Raises GrowthError for what cannot grow at once, and
    where the operator does.
    """
    if not options.grows_experts:
        return None
    asked = {name: operator for operator in EXPERT_OPERATORS for name in operator.options}
    option = next(name for name in asked if getattr(options, name) is not None)
    if any(layer.averaged for layer in layers):
        raise GrowthError(f"{option} and averages of layers cannot be had at once; grow in two steps.")
    if learned:
        raise GrowthError(f"{option} and ligo cannot grow a model at once; grow it in two steps.")
    whole = options.width_operator == "hypercloning" and not options.sizes
    alone = not asked[option].with_width or options.expert_noise_db is not None or not whole
    if max(ratios.values()) > 1 and alone:
        given = option if options.expert_noise_db is None else "expert_noise_db"
        other = ", or with hypercloning by a ratio" if asked[option].with_width and not whole else ""
        raise GrowthError(
            f"{given} and a wider model cannot be had at once; grow in two steps, the width first{other}."
        )
    if options.noise_snr_db == "auto":
        options = replace(options, noise_snr_db=asked[option].noise_snr_db)
    return asked[option].begin(layout, options)
