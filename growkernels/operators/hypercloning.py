"""HyperCloning: the target's hidden vector is n stacked copies of the source's (arXiv 2409.12903).

Every product sums over the copies of its input, so that weights are divided by their number (symmetric) or kept in one copy
(diagonal). Noise may be added to projections, with coefficients that sum to zero over the copies of the input.
"""

from __future__ import annotations

from growkernels.errors import GrowthError
from growkernels.layouts.base import Axis, ModelLayout, Symbol, TensorLayout
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.options import GrowthOptions
from growkernels.plans import IndexVector, Noise, Tile


def ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, int]:
    """How many copies of each kind of feature the target has. Raises GrowthError for widths that cannot grow."""
    width = options.width or 1
    ffn = width if options.ffn is None else options.ffn
    if max(width, ffn) > 1 and layout.width_refusal:
        raise GrowthError(
            f"the width of {layout.model_type} cannot grow: {layout.width_refusal}. Grow its depth alone."
        )
    if ffn != width and "ffn" not in layout.sizes:
        raise GrowthError(
            f"ffn is {ffn} and width {width}, and {layout.model_type} has no size of its own for feed-forward networks: leave "
            f"ffn out."
        )
    # A single key and value head stays: every query head reads it.
    kv_heads = 1 if layout.sizes.get("kv_heads") == 1 < layout.sizes["heads"] else width
    return {
        "hidden": width,
        "heads": width,
        "kv_heads": kv_heads,
        "inner": width,
        "groups": width,
        "ffn": ffn,
        "experts": 1,
        "layers": 1,
        "vocab": 1,
        "fixed": 1,
    }


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor. Raises GrowthError if the copies of its input cannot be summed by one divisor."""
    axes = tuple(_index(axis, ratios) for axis in tensor.axes)
    # What the class itself multiplies the tensor's output by is larger in the target.
    scale = layout.power_of_width(ratios["hidden"], tensor.power)
    if tensor.input_axis is not None:
        copies = _input_copies(tensor, tensor.axes[tensor.input_axis], ratios)
        noisy = copies > 1 and tensor.layer is not None and options.noise is not None
        noise, output = Noise(options.noise) if noisy else None, tensor.output_axis
        only_input = output is None or axes[output].copies == 1
        diagonal = options.variant == "diagonal" and copies > 1 and not (only_input and tensor.layer is None)
        divisor = scale if diagonal else copies * scale
        return Tile(axes, tensor.input_axis, divisor, diagonal=diagonal, noise=noise, output_axis=_named(tensor))
    if layout.tied_head and tensor.kind == "embedding" and not layout.head_norm and _is_tied(tensor, layout, ratios):
        raise GrowthError(
            f"the LM head is tied to the embedding, and no norm with weights feeds it that could take the division by "
            f"{ratios['hidden']}; use --untie (untie=True) to give the target a head of its own."
        )
    if layout.tied_head and tensor.name in layout.head_norm:
        # The tied head sums n copies and cannot be divided itself. What its tensor was divided by as an embedding, and what
        # the class multiplies the head's product by, the norm need not take.
        embedding = layout.power_of_width(ratios["hidden"], 0.5) if layout.embedding_scaled else 1.0
        divisor = ratios["hidden"] * layout.power_of_width(ratios["hidden"], layout.head_power) / embedding
        offset = layout.norm_offset if tensor.parameter.endswith("weight") else 0.0
        return Tile(axes, divisor=divisor, shift=offset / divisor - offset)
    return Tile(axes, divisor=scale)


def _named(tensor: TensorLayout) -> int | None:
    """The output axis of a stack; of a matrix it is the other one."""
    return tensor.output_axis if len(tensor.axes) > 2 else None


def _is_tied(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios) -> bool:
    """Whether an embedding that grows is the LM head's tensor, which then sums over copies."""
    tied = layout.ties.get(layout.head_name or "", layout.head_name)
    return tensor.name == tied and any(ratios[part.symbol] > 1 for part in tensor.axes[-1].parts)


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
    noise_snr_db=10.0,
)
