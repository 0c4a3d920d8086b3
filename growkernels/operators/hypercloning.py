"""HyperCloning: the target's hidden vector is n stacked copies of the source's (arXiv 2409.12903).

Every product sums over the copies of its input, so that weights are divided by their number (symmetric) or kept in one copy
(diagonal). Noise may be added to projections, with coefficients that sum to zero over the copies of the input.
"""

from __future__ import annotations

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.operators.base import Ratios, WidthOperator
from growkernels.operators.features import Features, axis_features
from growkernels.operators.sizes import find_whole_ratios
from growkernels.options import GrowthOptions
from growkernels.plans import Noise, Tile


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Tile:
    """What becomes of one tensor. Raises GrowthError if the copies of its input cannot be summed by one divisor."""
    features = [axis_features(axis, layout, ratios) for axis in tensor.axes]
    axes = tuple(found.index for found in features)
    hidden = int(ratios["hidden"])
    # What the class itself multiplies the tensor's output by is larger in the target.
    scale = layout.power_of_width(hidden, tensor.power)
    if tensor.input_axis is not None:
        copies = _input_copies(tensor, features[tensor.input_axis])
        noisy = copies > 1 and tensor.layer is not None and options.noise is not None
        noise, output = Noise(options.noise) if noisy else None, tensor.output_axis
        only_input = output is None or axes[output].copies == 1
        diagonal = options.variant == "diagonal" and copies > 1 and not (only_input and tensor.layer is None)
        # Heads whose groups grow whole and inside are several segments, each with a copy that the diagonal keeps.
        divisor = scale * (copies // axes[tensor.input_axis].copies if diagonal else copies)
        return Tile(axes, tensor.input_axis, divisor, diagonal=diagonal, noise=noise, output_axis=_named(tensor))
    if layout.tied_head and tensor.kind == "embedding" and not layout.head_norm and _is_tied(tensor, layout, ratios):
        raise GrowthError(
            f"the LM head is tied to the embedding, and no norm with weights feeds it that could take the division by "
            f"{ratios['hidden']}; use --untie (untie=True) to give the target a head of its own."
        )
    if layout.tied_head and tensor.name in layout.head_norm:
        # The tied head sums n copies and cannot be divided itself. What its tensor was divided by as an embedding, and what
        # the class multiplies the head's product by, the norm need not take.
        embedding = layout.power_of_width(hidden, 0.5) if layout.embedding_scaled else 1.0
        divisor = hidden * layout.power_of_width(hidden, layout.head_power) / embedding
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


def _input_copies(tensor: TensorLayout, inputs: Features) -> int:
    if inputs.share is None:
        raise GrowthError(
            f"{tensor.name}: its input ({tensor.axes[tensor.input_axis or 0]}) would hold some features {min(inputs.shares)} "
            f"times and others {max(inputs.shares)} times, which one divisor cannot make up for. Give width and ffn the same "
            f"ratio, or heads and kv heads whole multiples of the source's."
        )
    return inputs.share


HYPERCLONING = WidthOperator(
    name="hypercloning",
    ratios=find_whole_ratios,
    grow=grow,
    why="every feature is copied, and every product over the copies gives what it gave over one",
    reads=("variant", "noise_snr_db"),
    noise_snr_db=10.0,
)
