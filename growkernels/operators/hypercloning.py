"""HyperCloning: the target's hidden vector is n stacked copies of the source's (arXiv 2409.12903).

Every product sums over the copies of its input, so that weights are divided by their number (symmetric) or kept in one copy
(diagonal). Noise may be added to projections, with coefficients that sum to zero over the copies of the input.
"""

from __future__ import annotations

from math import sqrt

from growkernels.errors import GrowthError
from growkernels.layouts.base import Axis, ModelLayout, Symbol, TensorLayout
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.operators.options import GrowthOptions
from growkernels.plans import IndexVector, Noise, Tile


def ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, int]:
    """How many copies of each kind of feature the target has."""
    width = options.width or 1
    multi_query = layout.sizes["kv_heads"] == 1 < layout.sizes["heads"]
    return {
        "hidden": width,
        "heads": width,
        "kv_heads": 1 if multi_query else width,
        "ffn": width if options.ffn is None else options.ffn,
        "vocab": 1,
        "fixed": 1,
    }


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor. Raises GrowthError if the copies of its input cannot be summed by one divisor."""
    axes = tuple(_index(axis, ratios) for axis in tensor.axes)
    if tensor.input_axis is not None:
        copies = _input_copies(tensor, tensor.axes[tensor.input_axis], ratios)
        noisy = copies > 1 and tensor.layer is not None and options.noise_snr_db is not None
        noise = Noise(options.noise_snr_db) if noisy else None
        only_input = axes[1 - tensor.input_axis].copies == 1
        if options.variant == "symmetric" or copies == 1 or (only_input and tensor.layer is None):
            return Tile(axes, tensor.input_axis, float(copies), noise=noise)
        return Tile(axes, tensor.input_axis, diagonal=True, noise=noise)
    if tensor.kind == "embedding" and layout.embedding_scaled:
        return Tile(axes, divisor=sqrt(ratios["hidden"]))
    if layout.tied_head and tensor.kind == "embedding" and not layout.head_norm and ratios["hidden"] > 1:
        raise GrowthError(
            f"the LM head is tied to the embedding, and no norm with weights feeds it that could take the division by "
            f"{ratios['hidden']}; use --untie (untie=True) to give the target a head of its own."
        )
    if layout.tied_head and tensor.name in layout.head_norm:
        # The tied head sums n copies and cannot be divided itself. An embedding that already took 1/sqrt(n) leaves
        # sqrt(n) of it to the norm.
        divisor = sqrt(ratios["hidden"]) if layout.embedding_scaled else float(ratios["hidden"])
        offset = layout.norm_offset if tensor.parameter.endswith("weight") else 0.0
        return Tile(axes, divisor=divisor, shift=offset / divisor - offset)
    return Tile(axes)


def _index(axis: Axis, ratios: Ratios) -> IndexVector:
    if all(ratios[part.symbol] == 1 for part in axis.parts):
        return IndexVector.identity(axis.size)
    return IndexVector.parts((part.size, ratios[part.symbol]) for part in axis.parts)


def _input_copies(tensor: TensorLayout, axis: Axis, ratios: Ratios) -> int:
    copies = {ratios[part.symbol] for part in axis.parts}
    if len(copies) > 1:
        raise GrowthError(
            f"{tensor.name}: its input ({axis}) would hold some features {min(copies)} times and others {max(copies)} times, "
            f"which one divisor cannot make up for. Give width and ffn the same ratio."
        )
    return copies.pop()


HYPERCLONING = WidthOperator(
    name="hypercloning",
    ratios=ratios,
    grow=grow,
    why="every feature is copied, and every product over the copies gives what it gave over one",
    reads=("variant", "noise_snr_db"),
)
