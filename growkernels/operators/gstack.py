"""Gstack: the whole stack of layers on top of itself, several times (arXiv 2405.15319)."""

from __future__ import annotations

from growkernels.operators.base import DepthOperator, Layer
from growkernels.options import GrowthOptions
from growkernels.plans import Claim


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """Target layer i is source layer i mod l; of a count that l does not divide, the last copy but one ends early.

    So the last copy is whole, and the model ends with the layer that it was trained to end with.
    """
    copies, rest = divmod(options.target_layers(num_layers), num_layers)
    whole = tuple(map(Layer, range(num_layers)))
    return whole * (copies - 1) + whole[:rest] + whole


GSTACK = DepthOperator(
    name="gstack",
    layers=layers,
    claim=Claim(
        "depth",
        "no",
        "stacked layers are applied to what the layers below them already computed; further training recovers it",
    ),
)
