"""Interpolation: every layer several times in a row (the other stacking order of arXiv 2405.15319)."""

from __future__ import annotations

from growkernels.operators.base import DepthOperator
from growkernels.plans import Claim


def index(num_layers: int, factor: int) -> tuple[int, ...]:
    """Target layer i is source layer i // k."""
    return tuple(i // factor for i in range(num_layers * factor))


INTERPOLATE = DepthOperator(
    name="interpolate",
    index=index,
    claim=Claim(
        "depth", "no", "each layer is applied several times in a row, to what it already computed; training mends it"
    ),
)
