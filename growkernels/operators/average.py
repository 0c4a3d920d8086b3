"""Averages in depth: each new layer is the mean of two neighbors (OpT-DeUS without its alignment, arXiv 2508.08011)."""

from __future__ import annotations

from collections.abc import Sequence

from growkernels.operators.base import DepthOperator, Layer, repeats
from growkernels.operators.llama_pro import inserted
from growkernels.options import GrowthOptions
from growkernels.plans import Claim


def averages(order: Sequence[int]) -> tuple[Layer, ...]:
    """The layers of an order, in which second and later copies of a layer are its mean with the next one."""
    return tuple(Layer(source, averaged=new) for source, new in zip(order, repeats(order), strict=True))


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """The order of `llama_pro`, with means for its copies."""
    return averages(inserted(num_layers, options))


AVERAGE = DepthOperator(
    name="average",
    layers=layers,
    claim=Claim(
        "depth", "no", "new layers are means of their neighbors, which nobody trained; further training recovers it"
    ),
    reads=("block",),
    given=averages,
)
