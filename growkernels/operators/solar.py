"""SOLAR's depth up-scaling: two copies of the stack, without the end of the first and the start of the second (2312.15166)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from growkernels.errors import GrowthError
from growkernels.operators.base import DepthOperator, Layer, plain
from growkernels.options import GrowthOptions
from growkernels.plans import Claim


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """Of l layers and a target of L, the first copy loses its last m and the second its first m, m = l - L / 2."""
    count = options.target_layers(num_layers)
    if count == num_layers:
        return plain(range(num_layers))
    kept = count // 2
    if count % 2 or kept > num_layers:
        raise GrowthError(
            f"solar makes an even number of layers from two copies of the source, {2 * num_layers} at most; {count} were asked "
            f"for. Give num_layers such a number, or take gstack."
        )
    return plain([*range(kept), *range(num_layers - kept, num_layers)])


def refuse_order(name: str, order: Sequence[int]) -> NoReturn:
    """Raise GrowthError: an operator that is nothing but an order has no use for one."""
    raise GrowthError(f"depth_operator {name} and layers both say in which order layers stand; leave one of them out.")


def given(order: Sequence[int]) -> tuple[Layer, ...]:
    """No order but its own. Raises GrowthError."""
    refuse_order("solar", order)


SOLAR = DepthOperator(
    name="solar",
    layers=layers,
    claim=Claim(
        "depth", "no", "the middle layers run twice, on what they already computed; further training recovers it"
    ),
    given=given,
)
