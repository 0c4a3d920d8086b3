"""Zero growth in depth: the stack again on top of itself, in copies that change nothing yet (G_zero of arXiv 2405.15319)."""

from __future__ import annotations

from growkernels.operators import gstack
from growkernels.operators.base import DepthOperator, Layer
from growkernels.operators.llama_pro import CLAIM, identities
from growkernels.options import GrowthOptions


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """The order of `gstack`, in which second and later copies of a layer change nothing."""
    return identities([layer.source for layer in gstack.layers(num_layers, options)])


ZERO = DepthOperator("zero", layers, CLAIM, given=identities)
