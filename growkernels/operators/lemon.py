"""LEMON at any ratio: whole copies of the stream, and features behind them that start silent (arXiv 2310.07999).

With D = m d + r the stream holds m copies and r new features, which nothing writes yet; new heads and units of feed-forward
networks read at random, and nothing reads them yet. The function stays; see `operators.stream` for norms and factors.
"""

from __future__ import annotations

from growkernels.layouts.base import ModelLayout, Ratio, Symbol, TensorLayout
from growkernels.operators import stream
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.operators.sizes import find_ratios
from growkernels.options import GrowthOptions
from growkernels.plans import Tile


def ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, Ratio]:
    """The target's sizes over the source's. Raises GrowthError for families whose norms are not known."""
    found = find_ratios(layout, options)
    stream.check_stream(layout, found, _way(found))
    return found


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor."""
    return stream.grow(tensor, layout, ratios, _way(ratios))


def _way(ratios: Ratios) -> stream.Way:
    return stream.Way(copies=int(ratios["hidden"]), fresh=True)


LEMON = WidthOperator(
    name="lemon",
    ratios=ratios,
    grow=grow,
    why="the stream is copied, scaled so that its norms see what they saw, and nothing writes or reads the new features yet",
)
