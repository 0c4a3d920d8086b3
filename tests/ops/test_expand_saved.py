"""What `expand` saves for its backward pass: no more than it may, and what it gives is the same."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from growkernels import ops
from growkernels.ops import Expansion
from growkernels.ops.expand import cost as expand_order
from growkernels.ops.expand import dense as expand_dense
from growkernels.ops.expand import saved as expand_saved
from growkernels.ops.expand.cost import Order
from growkernels.ops.expand.packing import pack
from tests.ops.tools import DTYPES, Drawn, assert_same_bits, data, poisoned

LAYERS, DEEPER = 2, 8


def leaves(structured: bool = False, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """b, a and depth that make 8 layers of 120 x 100 from 2 of 60 x 50."""
    rows, columns = (60, 50) if structured else (120, 100)
    shapes = (rows, 60), (columns, 50), (DEEPER, LAYERS)
    return [data(shape, dtype, seed).requires_grad_() for seed, shape in enumerate(shapes)]


def weights(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [data((60, 50), dtype, seed) for seed in range(LAYERS)]


@given(st.data())
def test_at_most_half_of_the_result_is_saved(case: st.DataObject) -> None:
    drawn = Drawn(case.draw)
    stacks = []
    for _ in range(drawn.integer(1, 3)):
        layers, rows, columns = drawn.integer(1, 4), drawn.integer(1, 40), drawn.integer(1, 40)
        structured, dtype = drawn.pick((True, False)), drawn.pick(DTYPES)
        sides = [
            data((drawn.integer(0, 40) + (0 if structured else size), size), dtype) if drawn.integer(0, 3) else None
            for size in (rows, columns)
        ]
        depth = data((drawn.integer(1, 16), layers)) if drawn.integer(0, 3) else None
        stacks.append(Expansion([data((rows, columns), dtype)] * layers, *sides, depth, structured))
    dtype = drawn.pick(DTYPES)
    for namespace in ("growkernels", "growkernels_emulated"):
        packed = pack(stacks)
        needed = [case.draw(st.booleans()) for tensors in packed[:2] for _ in tensors]
        saved = expand_saved.empty_saved(namespace, *packed, dtype, needed)
        assert len(saved) in (0, 2 * len(stacks))
        for k, expansion in enumerate(stacks[: len(saved) // 2]):
            rows, columns = expansion.target_shape
            result = expansion.target_layers * rows * columns * dtype.itemsize
            assert sum(tensor.nbytes for tensor in saved[2 * k : 2 * k + 2]) <= result / 2
        assert any(needed) or not saved
        assert not expand_saved.empty_saved("growkernels_eager", *packed, dtype, needed)


def test_what_nobody_asks_for_is_not_saved() -> None:
    """T is for the gradients of a and depth, E for that of depth alone."""
    packed = pack([Expansion(weights(), *(leaf.detach() for leaf in leaves()))])
    sizes = {}
    for asked in ((True, False, False), (False, True, False), (False, False, True), (False, False, False)):
        saved = expand_saved.empty_saved("growkernels", *packed, torch.float32, [False] * LAYERS + [*asked])
        sizes[asked] = [tensor.numel() for tensor in saved]
    first, second = LAYERS * 120 * 50, LAYERS * 120 * 100
    assert list(sizes.values()) == [[0, 0], [first, 0], [first, second], []]


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("backend", [None, "emulated"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_have_the_same_bits_whatever_is_saved(
    dtype: torch.dtype, backend: str | None, structured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(mix_first=False, b_first=True)
    monkeypatch.setattr(expand_order, "choose", lambda *_, **__: order)
    found, kept = [], []
    real = expand_saved.empty_saved
    monkeypatch.setattr(expand_dense, "empty_saved", lambda *args: kept.append(real(*args)) or kept[-1])
    for share in (0.5, 0.3, 0.0):
        monkeypatch.setattr(expand_saved, "SHARE", share)
        inputs = leaves(structured, dtype)
        grown = ops.expand(weights(dtype), *inputs, structured, backend=backend)
        found.append([grown.detach(), *torch.autograd.grad(grown, inputs, data(tuple(grown.shape), dtype, 9))])
    assert [sum(part.numel() for part in parts) > 0 for parts in kept] == [True, True, False]
    for some in found[1:]:
        for tensor, expected in zip(some, found[0], strict=True):
            assert_same_bits(tensor, expected)


def test_the_result_may_be_changed_before_its_backward_pass() -> None:
    inputs = leaves()
    expected = torch.autograd.grad(ops.expand(weights(), *inputs).sum(), inputs)
    grown = ops.expand(weights(), *inputs)
    total = grown.sum()
    with torch.no_grad():
        grown.copy_(poisoned(tuple(grown.shape), torch.float32))
    for gradient, other in zip(torch.autograd.grad(total, inputs), expected, strict=True):
        assert_same_bits(gradient, other)


def test_results_without_a_gradient_add_nothing() -> None:
    """One of two stacks that share a matrix has no part in the loss; then neither has."""
    b, a, depth = leaves()
    others = data((120, 60), seed=7).requires_grad_()
    stacks = [Expansion(weights(), b, a, depth), Expansion(weights(), others, a, depth)]
    first, second = ops.expand_many(stacks)
    alone = torch.autograd.grad(ops.expand(weights(), b, a, depth).sum(), (b, a, depth))
    found = torch.autograd.grad(first.sum(), (b, a, depth, others), retain_graph=True)
    for gradient, expected in zip(found, (*alone, torch.zeros_like(others)), strict=True):
        assert gradient.equal(expected)
    unused = torch.autograd.grad(second.sum() * 0 + b.sum(), (b, others), allow_unused=True)
    assert unused[0].equal(torch.ones_like(b)) and unused[1].equal(torch.zeros_like(others))


@pytest.mark.parametrize("namespace", ["growkernels", "growkernels_eager", "growkernels_emulated"])
@pytest.mark.parametrize("announced", [[], [False] * 4 + [True] * 3, [True] * 7, [False] * 7])
def test_gradients_that_were_not_announced_are_right_all_the_same(namespace: str, announced: list[bool]) -> None:
    """What was saved for other gradients lies in another order of the work: here of a first, where the weights have one."""
    layers = [data((32, 64), seed=seed).requires_grad_() for seed in range(4)]
    shapes = (64, 32), (256, 64), (8, 4)
    matrices = [data(shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes, 4)]
    inputs = [*layers, *matrices]
    op = getattr(torch.ops, namespace).expand
    (grown,), _ = op(*pack([Expansion(layers, *matrices)]), torch.float32, announced)
    upstream = data(tuple(grown.shape), seed=9)
    found = torch.autograd.grad(grown, inputs, upstream)
    for gradient, expected in zip(found, exact_gradients(layers, *matrices, upstream), strict=True):
        error = (gradient.double() - expected).abs().max() / expected.abs().max()
        # Some thousand products of float32 in a sum, each off by half a unit of 2^-23: far below a gradient in a wrong order.
        assert error < 5000 * 2**-24


def exact_gradients(layers: list[Tensor], b: Tensor, a: Tensor, depth: Tensor, upstream: Tensor) -> tuple[Tensor, ...]:
    """By torch, in float64."""
    wide = [tensor.detach().double().requires_grad_() for tensor in (*layers, b, a, depth)]
    *wide_layers, wide_b, wide_a, wide_depth = wide
    grown = wide_b @ torch.einsum("lk,koi->loi", wide_depth, torch.stack(wide_layers)) @ wide_a.t()
    return torch.autograd.grad(grown, wide, upstream.double())


def test_one_graph_serves_many_shapes() -> None:
    """What is saved depends on comparisons of costs, which would be guards of a graph with dynamic shapes."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda *inputs: ops.expand(*inputs) * 1, fullgraph=True, dynamic=True, backend=counter)
    sides = ((32, 32, 64, 64), (128, 32, 256, 64), (32, 128, 64, 256), (16, 32, 32, 64), (32, 32, 48, 48))
    for target_layers, (rows, columns, new_rows, new_columns) in itertools.product((3, 5, 12), sides):
        layers = [data((rows, columns), seed=seed) for seed in range(2)]
        shapes = (new_rows, rows), (new_columns, columns), (target_layers, 2)
        inputs = [data(shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes, 2)]
        grown = [function(layers, *inputs) for function in (ops.expand, compiled)]
        gradients = [torch.autograd.grad(each, inputs, data(tuple(each.shape), seed=9)) for each in grown]
        for gradient, expected in zip(gradients[1], gradients[0], strict=True):
            assert_same_bits(gradient, expected)
    assert counter.frame_count <= 3  # sizes that are equal are distinguished
