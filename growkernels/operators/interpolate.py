"""Interpolation: every layer several times in a row (the other stacking order of arXiv 2405.15319)."""

from __future__ import annotations

from growkernels.errors import GrowthError
from growkernels.operators.base import DepthOperator, Layer
from growkernels.options import GrowthOptions
from growkernels.plans import Claim


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """Target layer i of L is source layer floor(i l / L): i // k for k times as many; longer runs are spread.

    With `block`, the same for blocks of so many layers: whole periods of a pattern stay together.
    """
    size, count = options.block or 1, options.target_layers(num_layers)
    if num_layers % size or count % size:
        raise GrowthError(f"block {size} does not divide the source's {num_layers} and the target's {count} layers.")
    blocks, target = num_layers // size, count // size
    return tuple(Layer(i * blocks // target * size + place) for i in range(target) for place in range(size))


INTERPOLATE = DepthOperator(
    name="interpolate",
    layers=layers,
    claim=Claim(
        "depth",
        "no",
        "each layer is applied several times in a row, to what it already computed; further training recovers it",
    ),
    reads=("block",),
)
