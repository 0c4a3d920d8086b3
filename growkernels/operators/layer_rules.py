"""What a layer's being new makes of the rules of its tensors: zero, faded, drawn or averaged. Width is done by then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from growkernels.errors import GrowthError
from growkernels.layouts import ModelLayout, TensorLayout
from growkernels.operators.base import DepthOperator, Layer
from growkernels.operators.random import drawn
from growkernels.plans import DTYPE_BYTES, Fill, Learned, LearnedPart, Tile


def faded(layers: Sequence[Layer], depth: DepthOperator) -> tuple[Layer, ...]:
    """Each layer that runs k times with writers divided by k, so that its copies together add about what it added."""
    if depth.mixes or any(layer.identity or layer.fresh or layer.averaged for layer in layers):
        raise GrowthError(
            f"fade divides what copies of a layer add, and depth_operator {depth.name} makes no plain copies."
        )
    counts = Counter(layer.source for layer in layers)
    if max(counts.values()) == 1:
        raise GrowthError("fade divides what copies of a layer add, and no layer is there twice. Leave it out.")
    return tuple(replace(layer, divisor=counts[layer.source]) for layer in layers)


def check_layers(layers: Sequence[Layer], layout: ModelLayout) -> None:
    """Raise GrowthError where the model has no layers of the kind that is asked for."""
    unknown = layout.identity_refusal
    if unknown and any(layer.identity for layer in layers):
        raise GrowthError(f"new layers of {layout.model_type} cannot start as ones that change nothing: {unknown}.")
    if unknown and any(layer.divisor > 1 for layer in layers):
        raise GrowthError(f"layers of {layout.model_type} cannot be faded: {unknown}.")
    if layout.quantized and any(layer != Layer(layer.source) for layer in layers):
        raise GrowthError(
            f"the weights of {layout.model_type} are quantized ({layout.quantized}), so that layers can be copied, and not be "
            f"zeroed, divided, drawn or averaged. Take gstack, interpolate, solar, midas or lidas, or dequantize it first."
        )
    for layer in layers:
        if layer.averaged:
            neighbor(layer.source, layout)


def neighbor(source: int, layout: ModelLayout) -> int:
    """The next layer with the same tensors, or the last one before. Raises GrowthError if there is none."""
    kinds = layout.layer_kinds
    order = [*range(source + 1, layout.num_layers), *reversed(range(source))]
    found = next((other for other in order if not kinds or kinds[other] == kinds[source]), None)
    if found is None:
        raise GrowthError(
            f"average needs two layers with the same tensors; layer {source} of the source is the only one."
        )
    return found


def in_layer(how: Tile | Learned, layer: Layer, tensor: TensorLayout, layout: ModelLayout) -> Tile | Learned:
    """The rule of a tensor in a layer of the target, from the rule that all copies of its layer have in common."""
    if isinstance(how, Learned):
        return how
    if layer.averaged and tensor.spec.dtype in DTYPE_BYTES:
        return _mean(how, tensor)
    if layer.fresh:
        return drawn(tensor, layout, how)
    if not tensor.writes_stream:
        return how
    offset = layout.norm_offset if tensor.kind == "norm" and tensor.parameter.endswith("weight") else 0.0
    if layer.identity:
        return Tile.filled(how.shape, Fill(-offset, 0.0), how.sum_axis)
    if layer.divisor > 1:
        shift = (how.shift + offset) / layer.divisor - offset
        return replace(how, divisor=how.divisor * layer.divisor, shift=shift)
    return how


def _mean(how: Tile, tensor: TensorLayout) -> Learned:
    if not how.is_identity:
        raise GrowthError("average makes a model deeper alone; grow its width in a second step.")
    if len(how.shape) > 2:
        raise GrowthError(
            f"average takes matrices and vectors, and {tensor.name} has {len(how.shape)} axes. Take gstack or llama_pro."
        )
    axes = tuple((LearnedPart(None, size, size),) for size in how.shape)
    return Learned("", 0, axes, how.sum_axis, weights=(0.5, 0.5))
