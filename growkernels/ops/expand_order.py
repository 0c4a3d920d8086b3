"""In which order `expand` mixes and multiplies: the result is the same up to rounding, the work is not."""

from __future__ import annotations

from enum import IntEnum
from itertools import product
from typing import NamedTuple

from growkernels.ops.expand_layout import Expansion


class Rate(IntEnum):
    """Floating-point operations of a dense product in the time of a byte moved."""

    #: 190 GFLOP/s beside 33 GB/s: float32 on two cores with AVX-512.
    CPU = 6
    #: An H200 as others know it: 60 TFLOP/s of float32 and 790 of bfloat16 beside 4.3 TB/s.
    GPU = 14
    GPU_BFLOAT16 = 180


class Order(NamedTuple):
    """Whether layers are mixed before the products or after them, and which product comes first."""

    mix_first: bool
    b_first: bool


class Work(NamedTuple):
    """Floating-point operations, and bytes that mixes read and write; a product moves little for what it computes."""

    flops: int
    bytes: int

    def cost(self, rate: Rate) -> int:
        """In operations."""
        return self.flops + rate * self.bytes


def work(expansion: Expansion, order: Order, backward: bool = False, weights_needed: bool = False) -> Work:
    """What an order takes, forward or backward with the gradients of the matrices, and where asked of the weights.

    Mixing first, every target layer has its products; mixing last, every source layer, and the mixes are as large as the
    target. Only learned rows are multiplied. Gradients of `depth` are inner products, which read and multiply what a mix does.
    """
    layers, target_layers = len(expansion.weights), expansion.target_layers
    mixes = expansion.depth is not None
    rows, columns = expansion.weights[0].shape
    target_rows, target_columns = expansion.target_shape
    new_rows, new_columns = (0 if matrix is None else matrix.shape[0] for matrix in (expansion.b, expansion.a))
    if order.b_first:
        first, second = new_rows * rows * columns, target_rows * columns * new_columns
    else:
        first, second = new_columns * columns * rows, target_columns * rows * new_rows
    if backward:
        # The first product again and the gradients of its factors, of X where it is asked for; those of the second's, and
        # the second again where its result has inner products with the target's gradient.
        of_mix, of_target = mixes and order.mix_first, mixes and not order.mix_first
        first, second = (3 if weights_needed or of_mix else 2) * first, (3 if of_target else 2) * second
    flops = 2 * (first + second) * (layers if mixes and not order.mix_first else target_layers)
    if not mixes:
        return Work(flops, 0)
    # Arithmetic is 4 bytes wide; in float64 it is 8, but products are slower as well.
    if order.mix_first:
        size, tensors = rows * columns, target_layers * (layers + 1)
    else:
        size, tensors = target_rows * target_columns, 2 * layers + target_layers
    passes = 2 if backward else 1
    return Work(flops + passes * 2 * layers * target_layers * size, passes * 4 * tensors * size)


def choose(expansion: Expansion, rate: Rate = Rate.CPU, backward: bool = False, weights_needed: bool = False) -> Order:
    """The cheapest order; backward, the one that has the gradients of the weights on its way where they are asked for."""
    mixes = (False,) if backward and weights_needed else (True, False)
    orders = (Order(*order) for order in product(mixes, (True, False)))
    return min(orders, key=lambda order: work(expansion, order, backward, weights_needed).cost(rate))
