"""Random growth in depth: new layers on top, drawn as those of a new model (G_random of arXiv 2405.15319)."""

from __future__ import annotations

from collections.abc import Sequence

from growkernels.layouts import ModelLayout, TensorLayout
from growkernels.operators import gstack
from growkernels.operators.base import DepthOperator, Layer, repeats
from growkernels.options import GrowthOptions
from growkernels.plans import Claim, Fill, Tile


def fresh(order: Sequence[int]) -> tuple[Layer, ...]:
    """The layers of an order, in which second and later copies of a layer are drawn anew."""
    return tuple(Layer(source, fresh=new) for source, new in zip(order, repeats(order), strict=True))


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """The order of `gstack`, in which second and later copies of a layer are drawn anew."""
    return fresh([layer.source for layer in gstack.layers(num_layers, options)])


def drawn(tensor: TensorLayout, layout: ModelLayout, like: Tile) -> Tile:
    """A tensor as a new model has it: weights normal, norms one, biases zero.

    What is none of these (decay rates and time steps of state spaces, convolutions of one channel, correction biases of
    routers) has an initial value of its class's own, and is copied.
    """
    is_bias = tensor.parameter.endswith(".bias")
    if tensor.kind == "norm" and not is_bias:
        fill = Fill(1.0 - layout.norm_offset, 0.0)
    elif tensor.kind in ("norm", "bias") and is_bias:
        fill = Fill()
    elif tensor.kind == "linear":
        fill = Fill(0.0, layout.initializer_range)
    else:
        return like
    return Tile.filled(like.shape, fill, like.sum_axis)


RANDOM = DepthOperator(
    name="random",
    layers=layers,
    claim=Claim("depth", "no", "new layers are random; training has to teach them everything"),
    given=fresh,
)
