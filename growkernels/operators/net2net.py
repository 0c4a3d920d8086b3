"""Net2Net's function-preserving copies, for any size (arXiv 1511.05641; FPI in bert2BERT, arXiv 2110.07143).

Where the target has r features more than m copies of all, r of the source's stand in m + 1 copies and the others in m. What
reads a feature is divided by the number of its own copies. The papers draw the copied features at random; here the first ones
are copied, so that no two of them differ by more than one in their copies.
"""

from __future__ import annotations

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, Ratio, Symbol, TensorLayout
from growkernels.operators import hypercloning
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.operators.features import axis_features
from growkernels.operators.sizes import find_ratios
from growkernels.options import GrowthOptions
from growkernels.plans import Noise, Tile


def ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, Ratio]:
    """The target's sizes over the source's. Raises GrowthError for a hidden size that is no multiple of the source's."""
    found = find_ratios(layout, options)
    if not isinstance(found["hidden"], int):
        raise GrowthError(
            f"hidden_size {options.hidden_size} is no multiple of {layout.sizes['hidden']}: copies of a part of the stream "
            f"change what its norms divide by. Give a whole multiple, or width_operator lemon."
        )
    return found


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor. Raises GrowthError for norms over features whose numbers of copies differ."""
    features = [axis_features(axis, layout, ratios) for axis in tensor.axes]
    if tensor.kind == "norm" and len({share for found in features for share in found.shares}) > 1:
        raise GrowthError(
            f"{tensor.name} is a norm over {tensor.axes[0]}, which depends on how often each feature is copied; give a whole "
            f"multiple of the source's size."
        )
    summed = tensor.input_axis
    if summed is None or features[summed].share is not None:
        return hypercloning.grow(tensor, layout, ratios, options)
    noise = Noise(options.noise_snr_db) if tensor.layer is not None and options.noise_snr_db is not None else None
    return Tile(
        tuple(found.index for found in features),
        summed,
        layout.power_of_width(int(ratios["hidden"]), tensor.power),
        noise=noise,
        output_axis=tensor.output_axis if len(tensor.axes) > 2 else None,
        divisors=tuple(tuple(map(float, f.shares)) if axis == summed else () for axis, f in enumerate(features)),
    )


NET2NET = WidthOperator(
    name="net2net",
    ratios=ratios,
    grow=grow,
    why="features are copied, and what reads one is divided by the number of its copies",
    reads=("noise_snr_db",),
)
