"""Interpolation: every layer several times in a row (the other stacking order of arXiv 2405.15319)."""

from __future__ import annotations

from growkernels.operators.base import DepthOperator, Layer
from growkernels.options import GrowthOptions
from growkernels.plans import Claim


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """Target layer i of L is source layer floor(i l / L): i // k for k times as many; longer runs are spread."""
    count = options.target_layers(num_layers)
    return tuple(Layer(i * num_layers // count) for i in range(count))


INTERPOLATE = DepthOperator(
    name="interpolate",
    layers=layers,
    claim=Claim(
        "depth",
        "no",
        "each layer is applied several times in a row, to what it already computed; further training recovers it",
    ),
)
