"""MIDAS and LIDAS: a block of middle layers several times in a row (arXiv 2409.19044, 2512.08819)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from growkernels.errors import GrowthError
from growkernels.operators.base import DepthOperator, Layer, plain
from growkernels.operators.solar import refuse_order
from growkernels.options import GrowthOptions
from growkernels.plans import Claim


def layers(num_layers: int, options: GrowthOptions, aligned: bool) -> tuple[Layer, ...]:
    """The source's layers, with a block of `block` in the middle as often as the target's number asks for.

    Aligned (MIDAS), the layers are cut into blocks, and the middle one of them is repeated, the lower one of two; else (LIDAS)
    the layers around the middle of the stack. Without `block`, the most layers that fit, half of the source's at most.
    """
    new = options.target_layers(num_layers) - num_layers
    sizes = range(1, num_layers + 1)
    fits = [size for size in sizes if new % size == 0 and (num_layers % size == 0 or not aligned)]
    size = options.block or max(size for size in fits if size * 2 <= max(num_layers, 2))
    if new and size not in fits:
        whole = f", and divide the source's {num_layers}" if aligned else ""
        raise GrowthError(
            f"block {size} does not fit: it is repeated whole, so it has to divide the {new} new layers{whole}. Possible: "
            f"{', '.join(map(str, fits))}."
        )
    start = ((num_layers // size + 1) // 2 - 1) * size if aligned else (num_layers - size) // 2
    block = list(range(start, start + size))
    return plain([*range(start), *block * (1 + new // size), *range(start + size, num_layers)])


def given(order: Sequence[int], name: str) -> tuple[Layer, ...]:
    """No order but its own. Raises GrowthError."""
    refuse_order(name, order)


MIDAS, LIDAS = (
    DepthOperator(
        name=name,
        layers=partial(layers, aligned=aligned),
        claim=Claim(
            "depth", "no", "middle layers run several times, on what they already computed; training recovers it"
        ),
        reads=("block",),
        given=partial(given, name=name),
    )
    for name, aligned in (("midas", True), ("lidas", False))
)
