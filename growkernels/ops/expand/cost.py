"""In which order `expand` mixes and multiplies: the result is the same up to rounding, the work is not."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from growkernels.ops.expand.packing import Expansion


class Rates(NamedTuple):
    """How fast a kind of device multiplies matrices: floating-point operations in the time of a byte moved.

    float32: of float32 factors. bfloat16: of bfloat16 factors with float32 sums; None where they are not faster, and so are
    converted and multiplied in float32.
    """

    float32: int
    bfloat16: int | None = None

    @property
    def is_gpu(self) -> bool:
        """Whether the device works as a GPU does: bfloat16 is fast, and many products at once are faster than one by one."""
        return self.bfloat16 is not None


#: 190 GFLOP/s beside 33 GB/s: float32 on two cores with AVX-512.
CPU_RATES = Rates(6)
#: An H200 as others know it: 60 TFLOP/s of float32 and 790 of bfloat16 beside 4.3 TB/s.
GPU_RATES = Rates(14, 180)


class Order(NamedTuple):
    """Whether layers are mixed before the products or after them, and which product comes first."""

    mix_first: bool
    b_first: bool


class Work(NamedTuple):
    """Floating-point operations of products and of mixes, and bytes that mixes read and write; a product moves little for
    what it computes.
    """

    products: int
    mixes: int
    bytes: int

    @property
    def flops(self) -> int:
        """All operations."""
        return self.products + self.mixes

    def cost(self, rate: int) -> int:
        """In operations, of which a product does `rate` in the time of a byte moved."""
        return self.flops + rate * self.bytes


class Sides(NamedTuple):
    """Sizes of the side that an order multiplies first and of the other: of the source, of the rows learned, of the target."""

    size: tuple[int, int]
    new: tuple[int, int]
    target: tuple[int, int]

    @classmethod
    def of(cls, expansion: Expansion, order: Order) -> Sides:
        """Of an expansion."""
        new = tuple(0 if matrix is None else matrix.shape[0] for matrix in (expansion.b, expansion.a))
        sizes = tuple(expansion.weights[0].shape), new, expansion.target_shape
        return cls(*(sizes if order.b_first else (size[::-1] for size in sizes)))

    @property
    def first(self) -> int:
        """Operations of `B X`."""
        return 2 * self.new[0] * self.size[0] * self.size[1]

    def second(self, rows: int) -> int:
        """Operations of `T A^T`, of some rows."""
        return 2 * rows * self.size[1] * self.new[1]


def goes_by_inner(expansion: Expansion, order: Order, rows: int, has_second: bool) -> bool:
    """Whether the gradient of `depth` is `<G A, T>` of every target layer, mixing last; else `<G, E>`.

    The former has `V = H A` as mixes of what it multiplies, for every target layer; the latter multiplies for every source
    layer, to have V in `rows` of the target's, and E unless it is there (`has_second`).
    """
    target = Sides.of(expansion, order).target[0]
    return expansion.target_layers * target <= len(expansion.weights) * (rows + (0 if has_second else target))


def work(
    expansion: Expansion,
    order: Order,
    backward: bool = False,
    weights_needed: bool = False,
    saved: tuple[bool, bool] = (False, False),
) -> Work:
    """What an order takes, forward or backward with the gradients of the matrices, and where asked of the weights.

    Mixing first, every target layer has its products; mixing last, every source layer, and the mixes are as large as the
    target. Only learned rows are multiplied. Gradients of `depth` are inner products, which read and multiply what a mix does.
    saved: whether the backward pass finds T and E of the forward pass (`expand_saved`). Gradients of all matrices are counted:
    where some are not asked for, another order may be a little cheaper.
    """
    layers, target_layers = len(expansion.weights), expansion.target_layers
    mixes = expansion.depth is not None
    last = mixes and not order.mix_first
    sides = Sides.of(expansion, order)
    (rows, columns), (target_rows, target_columns) = sides.size, sides.target
    multiplied = layers if last else target_layers
    # Numbers of a layer in mixes and inner products, and how many layers of them are read or written.
    of_last = 2 * layers + target_layers
    mixed = [(target_rows * target_columns, of_last)]
    if not last:
        mixed = [(rows * columns, target_layers * (layers + 1))] if mixes else []
    if not backward:
        products = multiplied * (sides.first + sides.second(target_rows))
    else:
        wants_operands = weights_needed or (mixes and order.mix_first)
        # T again, dB, dX where it is asked for; dA.
        products = multiplied * ((2 - saved[0] + wants_operands) * sides.first + sides.second(target_rows))
        inner_rows = target_rows if wants_operands else sides.new[0]
        if last and goes_by_inner(expansion, order, inner_rows, saved[1]):
            products += target_layers * sides.second(target_rows)
            # H, of A's learned columns; V; inner products of V and T.
            sizes = target_rows * sides.new[1], inner_rows * columns, target_rows * columns
            mixed = [(size, of_last) for size in sizes]
        elif last:
            products += layers * (sides.second(inner_rows) + (0 if saved[1] else sides.second(target_rows)))
            # H, of A's learned columns alone where V is not asked for; inner products of G and E.
            of_h = inner_rows * target_columns + (target_rows - inner_rows) * sides.new[1]
            mixed = [(of_h, of_last), *mixed]
        else:
            products += target_layers * sides.second(inner_rows)
            mixed = 2 * mixed
    # Arithmetic is 4 bytes wide; in float64 it is 8, but products are slower as well.
    return Work(
        products,
        sum(2 * layers * target_layers * size for size, _ in mixed),
        sum(4 * count * size for size, count in mixed),
    )


def choose(
    expansion: Expansion, rate: int = CPU_RATES.float32, backward: bool = False, weights_needed: bool = False
) -> Order:
    """The cheapest order; backward, the one that has the gradients of the weights on its way where they are asked for."""
    mixes = (False,) if backward and weights_needed else (True, False)
    orders = (Order(*order) for order in product(mixes, (True, False)))
    return min(orders, key=lambda order: work(expansion, order, backward, weights_needed).cost(rate))
