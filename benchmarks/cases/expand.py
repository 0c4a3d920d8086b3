"""`expand`: one module's layers grown by learned matrices, and a step of their training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks import rivals
from benchmarks.case import COMPILED, EAGER, OURS, PAPER, Case, Provider, Setting, Work, data, in_place, short
from benchmarks.case import untouched_never as touched
from growkernels import ops
from growkernels.ops.expand.cost import Order, work
from growkernels.ops.expand.packing import Expansion

#: The provider that does as many operations as the cheapest order, in square products and nothing else.
PRODUCTS = "matmul floor"
#: The same as `ours`, by the Triton kernels.
OURS_TRITON = "ours, triton"
PREFIX = "expand "


@dataclass(frozen=True)
class Growth:
    """An attention projection [hidden, hidden] of every layer, grown to [ratio hidden, ratio hidden].

    `few` source and target layers stand for all of them on a CPU.
    """

    name: str
    hidden: int
    ratio: float
    layers: tuple[int, int]
    few: tuple[int, int]

    def counts(self, setting: Setting) -> tuple[int, int]:
        """Source and target layers."""
        return self.layers if setting.kind == "cuda" else self.few


DEEPER = Growth("410M to 1.1B", 1024, 2.0, (6, 24), (6, 24))
GROWTHS = (
    Growth("BERT-small to -base", 512, 1.5, (6, 12), (6, 12)),
    DEEPER,
    Growth("Llama-1B to -3B", 2048, 1.5, (16, 28), (2, 3)),
)


def cases(setting: Setting) -> Iterator[Case]:
    """Whole and structured matrices, forward and with the gradients of the matrices.

    In float32, in which they are trained; on a GPU in bfloat16 as well, which its tensor cores multiply.
    """
    dtypes = (torch.float32, torch.bfloat16) if setting.kind == "cuda" else (torch.float32,)
    for growth, dtype, structured, trained in product(GROWTHS, dtypes, (False, True), (False, True)):
        layers = "{} to {} layers".format(*growth.counts(setting))
        words = growth.name, layers, "structured" if structured else "", "step" if trained else "", short(dtype)
        shape = partial(_expansion, setting, growth, structured, dtype)
        meta = shape(torch.device("meta"))
        build = partial(_build_step if trained else _build, setting, shape)
        yield Case(PREFIX + " ".join(word for word in words if word), _work(meta, trained), build)


def _expansion(
    setting: Setting, growth: Growth, structured: bool, dtype: torch.dtype, device: torch.device
) -> Expansion:
    source = growth.hidden // setting.shrink
    target = int(source * growth.ratio)
    layers, target_layers = growth.counts(setting)
    rows = target - source if structured else target
    weights = [data((source, source), dtype, device) for _ in range(layers)]
    b, a = (data((rows, source), dtype, device) for _ in range(2))
    return Expansion(weights, b, a, data((target_layers, layers), dtype, device) * 10, structured)


def _work(expansion: Expansion, trained: bool) -> Work:
    """The least, in one order forward and backward, nothing computed twice whatever memory that takes.

    Trained, the target's gradient is read and those of the matrices are written.
    """
    orders = [Order(*order) for order in product((True, False), repeat=2)]
    passes = (False, True) if trained else (False,)
    operations = min(
        sum(work(expansion, order, backward, saved=(True, True)).flops for backward in passes) for order in orders
    )
    matrices = sum(t.nbytes for t in (expansion.b, expansion.a, expansion.depth))
    rows, columns = expansion.target_shape
    target = expansion.target_layers * rows * columns * expansion.b.itemsize
    return Work(sum(w.nbytes for w in expansion.weights) + len(passes) * (matrices + target), operations)


class _Expected:
    """What the formula gives in float64, and how far a provider may lie from it, the gradients too if there is `upstream`.

    A sum of products off by gamma = n u / (1 - n u) of the sum of their absolute values, whatever its order: n counts the
    roundings of a term, at most one for each index that is summed over, and 34 for inner products in float32. In bfloat16 each
    operation of a rival rounds to it besides: the sum over layers one by one, products and their factors.
    """

    def __init__(self, expansion: Expansion, upstream: Tensor | None) -> None:
        self.expansion, self.upstream = expansion, upstream

    @cached_property
    def found(self) -> list[tuple[Tensor, Tensor]]:
        values, magnitudes = (
            self._computed(function) for function in (torch.Tensor.double, lambda t: t.double().abs())
        )
        layers = len(self.expansion.weights) + self.expansion.target_layers
        gamma = _gamma(layers + sum(self.expansion.weights[0].shape) + sum(self.expansion.target_shape) + 35)
        dtype = self.expansion.weights[0].dtype
        if dtype != torch.float32:
            gamma = (1 + gamma) * (1 + _gamma(layers + 8, dtype)) - 1
        return [(value, gamma * magnitude) for value, magnitude in zip(values, magnitudes, strict=True)]

    def _computed(self, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        weights, *matrices, structured = self.expansion
        leaves = [function(matrix).requires_grad_(self.upstream is not None) for matrix in matrices]
        target = rivals.expand([function(weight) for weight in weights], *leaves, structured)
        if self.upstream is None:
            return [target]
        return [target.detach(), *torch.autograd.grad(target, leaves, function(self.upstream))]

    def check(self, outputs: list[Tensor]) -> None:
        """Every number is within its bound."""
        for output, (value, bound) in zip(outputs, self.found, strict=True):
            assert ((output - value).abs() <= bound).all(), f"{tuple(output.shape)} is further off than sums round"


def _gamma(roundings: int, dtype: torch.dtype = torch.float32) -> float:
    unit = torch.finfo(dtype).eps / 2
    return roundings * unit / (1 - roundings * unit)


def product_shape(operations: int, largest: int) -> tuple[int, int, int]:
    """Side, inner size and number of square products `[side, inner] @ [inner, side]` that take so many operations.

    The side is at most `largest`, and less where a single product has more operations than that: one of 8192^3 in place of two
    GFLOP was a floor of up to 500 times the work. The inner size makes up for what the side leaves over, to a multiple of 16.
    """
    side = min(largest, max(64, round((operations / 2) ** (1 / 3)) // 64 * 64))
    count = max(1, int(operations / (2 * side**3)))
    inner = max(16, round(operations / (2 * side**2 * count) / 16) * 16)
    return side, inner, count


def _products(setting: Setting, operations: int, dtype: torch.dtype) -> Provider:
    """As many operations as the case takes, as products of one good shape."""
    largest = max(64, (8192 if setting.kind == "cuda" else 1024) // setting.shrink)
    side, inner, count = product_shape(operations, largest)
    left, right = data((side, inner), dtype, setting.device), data((inner, side), dtype, setting.device)
    out = data((side, side), dtype, setting.device)

    def run() -> None:
        for _ in range(count):
            torch.mm(left, right, out=out)

    def check(_: Any) -> None:
        bound = _gamma(inner + 1) * (left.double().abs() @ right.double().abs())
        value = left.double() @ right.double()
        assert ((out.double() - value).abs() <= bound + torch.finfo(dtype).eps * (value.abs() + bound)).all()

    return Provider(PRODUCTS, run, check, fresh=False)


def _build(setting: Setting, make: Callable[[torch.device], Expansion]) -> list[Provider]:
    expansion = make(setting.device)
    dtype = expansion.weights[0].dtype
    out = touched((expansion.target_layers, *expansion.target_shape), dtype, setting.device)
    expected = _Expected(expansion, None)
    compiled = rivals.compiled(rivals.expand)

    def ours(backend: str | None) -> list[Tensor]:
        ops.expand_(out, *expansion, backend=backend)
        return [out]

    return [
        *in_place(setting, ours, expected.check),
        Provider(OURS, lambda: [ops.expand(*expansion)], expected.check),
        Provider(EAGER, lambda: [rivals.expand(*expansion)], expected.check),
        Provider(COMPILED, lambda: [compiled(*expansion)], expected.check),
        Provider(PAPER, lambda: [rivals.paper_expand(*expansion)], expected.check),
        _products(setting, _work(expansion, trained=False).operations, dtype),
    ]


def _build_step(setting: Setting, make: Callable[[torch.device], Expansion]) -> list[Provider]:
    weights, *matrices, structured = make(setting.device)
    leaves = [matrix.requires_grad_() for matrix in matrices]
    expansion = Expansion(weights, *leaves, structured)
    dtype = weights[0].dtype
    upstream = data((expansion.target_layers, *expansion.target_shape), dtype, setting.device)
    detached = Expansion(weights, *(leaf.detach() for leaf in leaves), structured)
    expected = _Expected(detached, upstream)
    compiled = rivals.compiled(rivals.expand)

    def step(expand: Callable[..., Tensor]) -> list[Tensor]:
        target = expand(*expansion)
        return [target.detach(), *torch.autograd.grad(target, leaves, upstream)]

    named = {OURS: ops.expand, EAGER: rivals.expand, COMPILED: compiled, PAPER: rivals.paper_expand}
    if setting.kind == "cuda":
        named[OURS_TRITON] = partial(ops.expand, backend="triton")
    providers = [Provider(name, partial(step, function), expected.check) for name, function in named.items()]
    return [*providers, _products(setting, _work(detached, trained=True).operations, dtype)]
