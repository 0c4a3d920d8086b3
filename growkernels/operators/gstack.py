"""Gstack: the whole stack of layers on top of itself, several times (arXiv 2405.15319)."""

from __future__ import annotations

from growkernels.operators.base import DepthOperator, Layer
from growkernels.options import GrowthOptions
from growkernels.plans import Claim


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """Target layer i is source layer i mod l."""
    return tuple(Layer(i % num_layers) for i in range(num_layers * (options.depth or 1)))


GSTACK = DepthOperator(
    name="gstack",
    layers=layers,
    claim=Claim(
        "depth",
        "no",
        "stacked layers are applied to what the layers below them already computed; further training recovers it",
    ),
)
