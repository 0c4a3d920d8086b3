"""Gstack: the whole stack of layers on top of itself, several times (arXiv 2405.15319)."""

from __future__ import annotations

from growkernels.operators.base import DepthOperator
from growkernels.plans import Claim


def index(num_layers: int, factor: int) -> tuple[int, ...]:
    """Target layer i is source layer i mod l."""
    return tuple(i % num_layers for i in range(num_layers * factor))


GSTACK = DepthOperator(
    name="gstack",
    index=index,
    claim=Claim(
        "depth", "no", "stacked layers are applied to what the layers below them already computed; training mends it"
    ),
)
