"""What `expand` costs: the order it chooses, the products it does, the memory it holds."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from growkernels.ops import Expansion
from growkernels.ops.expand import forward as expand_products
from growkernels.ops.expand.backward import add_gradients
from growkernels.ops.expand.cost import CPU_RATES, GPU_RATES, Order, Sides, choose, work
from growkernels.ops.expand.formats import Formats
from growkernels.ops.expand.forward import Products
from growkernels.ops.expand.saved import Saved
from tests.ops.tools import data, poisoned

ORDERS = tuple(Order(*order) for order in itertools.product((True, False), repeat=2))
FLOAT32 = Formats(torch.float32, torch.float32)
#: Source [O, I], target [O', I'], source and target layers.
SHAPES = {
    "square x2": ((96, 96), (192, 192), 2, 6),
    "square x1.5": ((96, 96), (144, 144), 6, 6),
    "fc1": ((256, 64), (512, 128), 3, 6),
    "fc2": ((64, 256), (128, 512), 3, 6),
}


def make(name: str, structured: bool = False, depth: bool = True, scale: int = 1) -> Expansion:
    shape, target, layers, target_layers = SHAPES[name]
    shape, target = ([scale * size for size in sizes] for sizes in (shape, target))
    learned = [big - small if structured else big for small, big in zip(shape, target, strict=True)]
    b, a = (data((rows, size), seed=seed) for rows, size, seed in zip(learned, shape, (1, 2), strict=True))
    weights = [data(tuple(shape), seed=seed) for seed in range(layers)]
    return Expansion(weights, b, a, data((target_layers, layers)) if depth else None, structured)


class Recorder(TorchDispatchMode):
    """Operations of products and of mixes and inner products, and the most bytes alive at once in storage not of `given`."""

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()
        self.flops = self.mixes = self.peak = 0
        self.given = {StorageWeakRef(tensor.untyped_storage()) for tensor in given}
        self.made: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.growkernels.products_:
            _, left, right, _ = args
            self.flops += sum(2 * x.numel() * y.shape[1] for x, y in zip(left, right, strict=True))
        if func.overloadpacket is torch.ops.growkernels.mix_:
            self.mixes += 2 * args[0][0].numel() * args[2].numel()
        if func.overloadpacket is torch.ops.growkernels.inner_products_:
            self.mixes += 2 * args[1][0].numel() * args[0].numel()
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = StorageWeakRef(tensor.untyped_storage())
                if storage not in self.given:
                    self.made[storage] = tensor.untyped_storage().nbytes()
        self.made = {storage: size for storage, size in self.made.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self.made.values()))
        return result


def inputs_of(expansion: Expansion) -> list[Tensor]:
    return [t for t in (*expansion.weights, expansion.b, expansion.a, expansion.depth) if t is not None]


def totals_of(expansion: Expansion, weights_needed: bool = False) -> Expansion:
    """Where gradients of the matrices, and where asked of the weights, are added up."""
    matrices = (torch.zeros_like(matrix) for matrix in (expansion.b, expansion.a, expansion.depth))
    return Expansion([torch.zeros_like(w) if weights_needed else None for w in expansion.weights], *matrices)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("weights_needed", [False, True])
def test_the_model_counts_the_products_that_are_done(
    name: str, order: Order, structured: bool, weights_needed: bool
) -> None:
    expansion = make(name, structured)
    outs = [poisoned(expansion.target_shape, torch.float32) for _ in range(expansion.target_layers)]
    products = Products(torch.ops.growkernels, expansion, order, FLOAT32)
    with Recorder([*inputs_of(expansion), *outs]) as forward:
        products.write(outs)
    assert (forward.flops, forward.mixes) == work(expansion, order)[:2]
    weights_needed = weights_needed and not order.mix_first  # which has no such gradients
    totals = totals_of(expansion, weights_needed)
    grads = [data(expansion.target_shape, seed=seed) for seed in range(len(outs))]
    with Recorder([]) as backward:
        add_gradients(products, grads, totals)
    counted = work(expansion, order, backward=True, weights_needed=weights_needed)
    assert (backward.flops, backward.mixes) == counted[:2]


@pytest.mark.parametrize("parts", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("b_first", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_the_model_counts_what_saved_products_spare(
    name: str, b_first: bool, structured: bool, parts: tuple[bool, bool]
) -> None:
    expansion, order = make(name, structured), Order(mix_first=False, b_first=b_first)
    sides, layers = Sides.of(expansion, order), len(expansion.weights)
    sizes = layers * sides.new[0] * sides.size[1], layers * sides.target[0] * sides.new[1]
    saved = Saved(
        *(poisoned((size,), torch.float32) if part else None for size, part in zip(sizes, parts, strict=True))
    )
    products = Products(torch.ops.growkernels, expansion, order, FLOAT32, saved=saved)
    outs = [poisoned(expansion.target_shape, torch.float32) for _ in range(expansion.target_layers)]
    products.write(outs)
    with Recorder([]) as backward:
        add_gradients(products, outs, totals_of(expansion))
    assert (backward.flops, backward.mixes) == work(expansion, order, backward=True, saved=parts)[:2]


@pytest.mark.parametrize(("name", "share"), [("square x2", 1 / 2), ("square x1.5", 1 / 3)])
def test_structured_matrices_save_the_identity(name: str, share: float) -> None:
    order = Order(mix_first=False, b_first=True)
    flops = [work(make(name, structured, depth=False), order).flops for structured in (True, False)]
    assert flops[0] == pytest.approx(share * flops[1])


def test_the_order_follows_the_shapes() -> None:
    assert not choose(make("square x2")).mix_first  # 2 layers have fewer products than 6
    assert choose(make("square x1.5")).mix_first  # as many layers: the smaller mix
    assert choose(make("fc1")).b_first
    assert not choose(make("fc2")).b_first
    for name, backward in itertools.product(SHAPES, (False, True)):
        expansion = make(name)
        for rate in (CPU_RATES.float32, GPU_RATES.float32, GPU_RATES.bfloat16):
            costs = {order: work(expansion, order, backward).cost(rate) for order in ORDERS}
            assert costs[choose(expansion, rate, backward)] == min(costs.values())
        assert not choose(expansion, backward=True, weights_needed=True).mix_first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", ORDERS)
def test_no_stack_is_held_beyond_the_result(order: Order, dtype: torch.dtype, monkeypatch) -> None:
    small = expand_products.TUNING[False]._replace(panel=1, rows=16)
    monkeypatch.setitem(expand_products.TUNING, False, small)
    expansion = make("square x2", scale=2)
    expansion = expansion._replace(weights=[weight.to(dtype) for weight in expansion.weights])
    outs = [poisoned(expansion.target_shape, dtype) for _ in range(expansion.target_layers)]
    products = Products(torch.ops.growkernels, expansion, order, FLOAT32)
    with Recorder([*inputs_of(expansion), *outs]) as forward:
        products.write(outs)
    side, layers = expansion.weights[0].shape[0], len(expansion.weights)
    panel = layers * 16 * (side + 2 * side)
    # One layer as it is multiplied, and before or after that the one it was mixed or converted from.
    assert 0 < forward.peak <= 4 * (2 * side * side + 2 * panel) < sum(out.nbytes for out in outs) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gpu", [False, True])
def test_layers_are_converted_one_by_one(gpu: bool, dtype: torch.dtype, monkeypatch) -> None:
    """Mixing last, all of them are multiplied; converted at once they would be a stack."""
    monkeypatch.setitem(expand_products.TUNING, gpu, expand_products.TUNING[gpu]._replace(together=1))
    expansion = make("square x1.5")
    expansion = expansion._replace(weights=[weight.to(dtype) for weight in expansion.weights])
    real = torch.ops.growkernels_emulated if gpu else torch.ops.growkernels
    factors: list[int] = []

    def products_(outs: list[Tensor], left: list[Tensor], right: list[Tensor], add: bool) -> None:
        factors.append(sum(factor.shape == expansion.weights[0].shape for factor in right))
        real.products_(outs, left, right, add)

    parts = {name: getattr(real, name) for name in ("mix_", "inner_products_", "replicate_")}
    ops = SimpleNamespace(products_=products_, **parts)
    products = Products(ops, expansion, Order(mix_first=False, b_first=True), FLOAT32, GPU_RATES if gpu else CPU_RATES)
    outs = [data(expansion.target_shape, seed=seed) for seed in range(expansion.target_layers)]
    for work_of in (lambda: products.write(outs), lambda: add_gradients(products, outs, totals_of(expansion))):
        factors.clear()
        work_of()
        assert max(factors) == (len(expansion.weights) if dtype == torch.float32 else 1)


@pytest.mark.slow
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_the_order_chosen_is_the_fastest(name: str, backward: bool) -> None:
    """Within a quarter of the best, by the processor time of one thread, which other processes add little to."""
    expansion = make(name, scale=4)
    outs = [data(expansion.target_shape, seed=seed) for seed in range(expansion.target_layers)]
    totals = totals_of(expansion)

    def seconds(order: Order) -> float:
        products = Products(torch.ops.growkernels, expansion, order, FLOAT32)
        start = time.process_time()
        add_gradients(products, outs, totals) if backward else products.write(outs)
        return time.process_time() - start

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # In turns, so that a slow spell of the machine falls on all alike.
        rounds = [[seconds(order) for order in ORDERS] for _ in range(7)]
    finally:
        torch.set_num_threads(threads)
    best = dict(zip(ORDERS, map(min, *rounds), strict=True))
    assert best[choose(expansion, backward=backward)] <= 1.25 * min(best.values())
