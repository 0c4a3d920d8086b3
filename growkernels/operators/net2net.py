"""Net2Net's function-preserving copies, for any size (arXiv 1511.05641; FPI in bert2BERT, arXiv 2110.07143).

Where the target has r features more than m copies of all, r of the source's stand in m + 1 copies and the others in m. What
reads a feature is divided by the number of its own copies. The papers draw the copied features at random; here the first ones
are copied, so that no two of them differ by more than one in their copies.
"""

from __future__ import annotations

from dataclasses import replace

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, Ratio, Symbol, TensorLayout
from growkernels.operators import hypercloning, stream
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.operators.features import axis_features
from growkernels.operators.sizes import find_ratios
from growkernels.options import GrowthOptions
from growkernels.plans import Tile

#: Copies of everything, uneven where they must be.
_WAY = stream.Way(copies=None, fresh=False)


def ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, Ratio]:
    """The target's sizes over the source's. Raises GrowthError for streams whose copies must be even."""
    found = find_ratios(layout, options)
    stream.check_stream(layout, found, _WAY)
    return found


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor. Raises GrowthError for norms over features whose numbers of copies differ."""
    features = [axis_features(axis, layout, ratios) for axis in tensor.axes]
    in_stream = all(part.symbol == "hidden" for axis in tensor.axes for part in axis.parts)
    if tensor.kind == "norm" and not in_stream and len({share for found in features for share in found.shares}) > 1:
        raise GrowthError(
            f"{tensor.name} is a norm over {tensor.axes[0]}, which depends on how often each feature is copied; give a whole "
            f"multiple of the source's size."
        )
    even = tensor.input_axis is None or features[tensor.input_axis].share is not None
    if even and isinstance(ratios["hidden"], int):
        return hypercloning.grow(tensor, layout, ratios, options)
    return stream.grow(tensor, layout, ratios, replace(_WAY, noise_db=options.noise))


NET2NET = WidthOperator(
    name="net2net",
    ratios=ratios,
    grow=grow,
    why="features are copied, and what reads one is divided by the number of its copies",
    reads=("noise_snr_db",),
    noise_snr_db=10.0,
)
