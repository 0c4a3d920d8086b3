"""Zero extension: new features read at random, and nothing reads them yet (Gstack's G_zero, arXiv 2405.15319).

A new unit of a feed-forward network has random weights in and zeros out; a new head random queries, keys and values, and
zeros in the output projection. The function stays, and every weight of the unit trains: the zeros from the first step on, the
others as soon as these have moved.
"""

from __future__ import annotations

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, Ratio, Symbol, TensorLayout
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.operators.features import axis_features
from growkernels.operators.sizes import find_ratios
from growkernels.options import GrowthOptions
from growkernels.plans import Fill, Tile

#: The standard deviation of fresh weights where the config names none.
_STD = 0.02


def ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, Ratio]:
    """The target's sizes over the source's. Raises GrowthError for another hidden size, which takes scales too."""
    found = find_ratios(layout, options)
    if found["hidden"] != 1:
        raise GrowthError(
            "width_operator zero extends feed-forward networks and heads; a wider stream takes other norms: give "
            "width_operator lemon with hidden_size."
        )
    return found


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor: zeros where products sum over new features."""
    return extended(tensor, layout, ratios, Fill())


def extended(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, read: Fill) -> Tile:
    """The source and new features, random in what they read. `read`: what reads them.

    Raises GrowthError for norms over them.
    """
    features = [axis_features(axis, layout, ratios, fresh=True) for axis in tensor.axes]
    if tensor.kind == "norm" and any(found.index.has_new for found in features):
        raise GrowthError(
            f"{tensor.name} is a norm over {tensor.axes[0]}, and would see the new ones: the function would change. Give "
            f"width_operator hypercloning and a whole multiple."
        )
    fresh = Fill() if tensor.input_axis is None else Fill(0.0, fresh_std(layout))
    output = tensor.output_axis if len(tensor.axes) > 2 else None
    return Tile(
        tuple(found.index for found in features), tensor.input_axis, fill=(read, fresh, read), output_axis=output
    )


def fresh_std(layout: ModelLayout) -> float:
    """The standard deviation that the config gives fresh weights."""
    std = layout.config.get("initializer_range")
    return float(std) if isinstance(std, (int, float)) and std > 0 else _STD


ZERO = WidthOperator(
    name="zero",
    ratios=ratios,
    grow=grow,
    why="nothing reads the new features yet: what would is zero",
)
