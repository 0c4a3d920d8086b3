"""LLaMA Pro: new layers between the old ones, copies that add nothing to the residual stream yet (arXiv 2401.02415)."""

from __future__ import annotations

from collections.abc import Sequence

from growkernels.errors import GrowthError
from growkernels.operators.base import DepthOperator, Layer, repeats
from growkernels.options import GrowthOptions
from growkernels.plans import Claim

CLAIM = Claim(
    "depth", "exactly", "what new layers write to the residual stream is zero, and the old ones keep their order"
)


def inserted(num_layers: int, options: GrowthOptions) -> tuple[int, ...]:
    """Every layer of the source and, spread evenly, copies behind the layers that they are of.

    With `block`, behind every so many layers as many copies of the last of them; of all of them where that is a whole block.
    """
    new = options.target_layers(num_layers) - num_layers
    size = options.block or 1
    if options.block is None:
        ends = [(layer + 1) * new // num_layers for layer in range(num_layers)]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return tuple(layer for layer, count in enumerate(counts) for _ in range(1 + count))
    blocks, left = divmod(num_layers, size)
    each, over = divmod(new, max(blocks, 1))
    if left or over or (each > size and each % size):
        raise GrowthError(
            f"block {size} does not fit: the source's {num_layers} layers have to be whole blocks, and each of them gets the "
            f"same share of the {new} new layers: fewer than {size}, or a multiple of it."
        )
    order: list[int] = []
    for start in range(0, num_layers, size):
        block = list(range(start, start + size))
        order += block + (block * (each // size) if each >= size else block[size - each :])
    return tuple(order)


def identities(order: Sequence[int]) -> tuple[Layer, ...]:
    """The layers of an order, in which second and later copies of a layer change nothing."""
    return tuple(Layer(source, identity=new) for source, new in zip(order, repeats(order), strict=True))


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """`inserted`, with copies that change nothing."""
    return identities(inserted(num_layers, options))


LLAMA_PRO = DepthOperator("llama_pro", layers, CLAIM, reads=("block",), given=identities)
