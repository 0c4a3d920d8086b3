"""Zero extension: new features read at random, and nothing reads them yet (Gstack's G_zero, arXiv 2405.15319).

A new unit of a feed-forward network has random weights in and zeros out; a new head random queries, keys and values, and
zeros in the output projection; a new feature of the stream zeros in what writes it. The function stays, and every weight
trains: the zeros from the first step on, the others as soon as these have moved.
"""

from __future__ import annotations

from growkernels.layouts.base import ModelLayout, Ratio, Symbol, TensorLayout
from growkernels.operators import stream
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.operators.sizes import find_ratios
from growkernels.options import GrowthOptions
from growkernels.plans import Tile

#: One copy of the source's stream; what is new is no copy.
_WAY = stream.Way(copies=1, fresh=True)


def ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, Ratio]:
    """The target's sizes over the source's. Raises GrowthError for families whose norms are not known."""
    found = find_ratios(layout, options)
    stream.check_stream(layout, found, _WAY)
    return found


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor: zeros where a new feature is written to the stream, or read from a new unit."""
    return stream.grow(tensor, layout, ratios, _WAY)


ZERO_WIDTH = WidthOperator(
    name="zero",
    ratios=ratios,
    grow=grow,
    why="nothing writes the new features of the stream and nothing reads the new units yet: what would is zero",
)
