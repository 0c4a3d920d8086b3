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


def checked(layers: Sequence[Layer], layout: ModelLayout) -> tuple[Layer, ...]:
    """The layers, averages with their neighbors. Raises GrowthError where the model has no layers of the kind asked for."""
    unknown = layout.identity_refusal
    if unknown and any(layer.identity for layer in layers):
        raise GrowthError(f"new layers of {layout.model_type} cannot start as ones that change nothing: {unknown}.")
    if unknown and any(layer.divisor > 1 for layer in layers):
        raise GrowthError(f"layers of {layout.model_type} cannot be faded: {unknown}.")
    if not any(layer.averaged for layer in layers):
        return tuple(layers)
    held: list[set[tuple[str, tuple[int, ...]]]] = [set() for _ in range(layout.num_layers)]
    for tensor in layout.tensors.values():
        if tensor.layer is not None:
            held[tensor.layer].add((tensor.group, tensor.spec.shape))
    return tuple(replace(x, partner=_neighbor(x.source, held)) if x.averaged else x for x in layers)


def _neighbor(source: int, held: Sequence[set[tuple[str, tuple[int, ...]]]]) -> int:
    """The next layer with the same tensors, or the last one before. Raises GrowthError if there is none."""
    order = [*range(source + 1, len(held)), *reversed(range(source))]
    found = next((other for other in order if held[other] == held[source]), None)
    if found is None:
        raise GrowthError(
            f"average needs two layers with the same tensors, and layer {source} of the source is the only one of its kind. "
            f"Name the layers that are there twice with layers."
        )
    return found


def in_layer(how: Tile | Learned, layer: Layer, tensor: TensorLayout, layout: ModelLayout) -> Tile | Learned:
    """The rule of a tensor in a layer of the target, from the rule that all copies of its layer have in common."""
    if layer == Layer(layer.source):
        return how
    if isinstance(how, Learned):
        raise GrowthError(
            "width_operator ligo learns every layer of the target, so that none can start as zero, drawn, averaged or faded. "
            "Grow the depth in a step of its own."
        )
    if layer.averaged and tensor.spec.dtype in DTYPE_BYTES:
        return _mean(how)
    if layer.fresh:
        return drawn(tensor, layout, how)
    if not tensor.writes_stream:
        return how
    offset = layout.norm_offset if tensor.kind == "norm" and tensor.parameter.endswith("weight") else 0.0
    if layer.identity:
        return Tile.filled(how.shape, Fill(-offset, 0.0), how.sum_axis)
    shift = (how.shift + offset) / layer.divisor - offset
    return replace(how, divisor=how.divisor * layer.divisor, shift=shift)


def _mean(how: Tile) -> Learned:
    if not how.is_identity:
        raise GrowthError("average makes a model deeper alone; grow what else is to grow in a second step.")
    axes = tuple((LearnedPart(None, size, size),) for size in how.shape)
    return Learned("", 0, axes, how.sum_axis, weights=(0.5, 0.5))
