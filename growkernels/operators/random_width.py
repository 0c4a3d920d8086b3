"""Random extension: new features are random in what they read and in what reads them (Gstack's G_random, arXiv 2405.15319).

The paper, as MSG (arXiv 2305.02869), masks them at first and lifts the mask in training. Without a mask the function changes.
"""

from __future__ import annotations

from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.operators import stream, zero_width
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.options import GrowthOptions
from growkernels.plans import Tile


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor: random weights wherever a new feature is written or read."""
    way = stream.Way(copies=1, fresh=True, written=layout.initializer_range)
    return stream.grow(tensor, layout, ratios, way)


RANDOM_WIDTH = WidthOperator(
    name="random",
    ratios=zero_width.ratios,
    grow=grow,
    why="new features are random, and are read at once",
    preserves=False,
)
