"""In which order `expand` mixes and multiplies: the result is the same up to rounding, the work is not."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from growkernels.ops.expand_layout import Expansion

#: Floating-point operations of a dense product in the time of a byte moved: 190 GFLOP/s beside 33 GB/s, fp32 on two cores
#: with AVX-512. On a GPU it is ten times as much, but mixes decide only where products cost the same.
_FLOPS_PER_BYTE = 6


class Order(NamedTuple):
    """Whether layers are mixed before the products or after them, and which product comes first."""

    mix_first: bool
    b_first: bool


class Work(NamedTuple):
    """Floating-point operations, and bytes that mixes read and write; a product moves little for what it computes."""

    flops: int
    bytes: int

    @property
    def cost(self) -> float:
        """In operations."""
        return self.flops + _FLOPS_PER_BYTE * self.bytes


def work(expansion: Expansion, order: Order, backward: bool = False) -> Work:
    """What an order takes.

    Mixing first, every target layer has its products; mixing last, every source layer, and the mixes are as large as the
    target. Only learned rows are multiplied. Backward, a product comes again for itself and for the gradients of its two
    factors; mixing first, the second needs no more than the latter. Gradients of `depth` are inner products, which read and
    multiply as much as the mixes.
    """
    layers, target_layers = len(expansion.weights), expansion.target_layers
    rows, columns = expansion.weights[0].shape
    target_rows, target_columns = expansion.target_shape
    new_rows, new_columns = (0 if matrix is None else matrix.shape[0] for matrix in (expansion.b, expansion.a))
    if order.b_first:
        first, second = new_rows * rows * columns, target_rows * columns * new_columns
    else:
        first, second = new_columns * columns * rows, target_columns * rows * new_rows
    through = target_layers if order.mix_first or expansion.depth is None else layers
    times = (3, 2 if order.mix_first or expansion.depth is None else 3) if backward else (1, 1)
    flops = 2 * through * (times[0] * first + times[1] * second)
    if expansion.depth is None:
        return Work(flops, 0)
    # The dtype of the arithmetic is 4 bytes wide, but for float64, where products are slower too.
    if order.mix_first:
        size, tensors = rows * columns, target_layers * (layers + 1)
    else:
        size, tensors = target_rows * target_columns, 2 * layers + target_layers
    mixes = 2 if backward else 1
    return Work(flops + mixes * 2 * layers * target_layers * size, mixes * 4 * tensors * size)


def choose(expansion: Expansion, backward: bool = False, weights_needed: bool = False) -> Order:
    """The cheapest order; backward, the one that has the gradients of `weights` on its way where they are asked for."""
    mixes = (False,) if backward and weights_needed else (True, False)
    orders = (Order(*order) for order in product(mixes, (True, False)))
    return min(orders, key=lambda order: work(expansion, order, backward).cost)
