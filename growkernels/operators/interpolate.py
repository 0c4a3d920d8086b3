"""Interpolation: every layer several times in a row (the other stacking order of arXiv 2405.15319)."""

from __future__ import annotations

from growkernels.operators.base import DepthOperator, Layer
from growkernels.options import GrowthOptions
from growkernels.plans import Claim


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """Target layer i is source layer i // k."""
    factor = options.depth or 1
    return tuple(Layer(i // factor) for i in range(num_layers * factor))


INTERPOLATE = DepthOperator(
    name="interpolate",
    layers=layers,
    claim=Claim(
        "depth",
        "no",
        "each layer is applied several times in a row, to what it already computed; further training recovers it",
    ),
)
