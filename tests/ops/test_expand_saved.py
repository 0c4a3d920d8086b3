"""What `expand` saves for its backward pass: no more than it may, and what it gives is the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from growkernels import ops
from growkernels.ops import Expansion, expand_dense, expand_order, expand_saved
from growkernels.ops.expand_layout import pack
from growkernels.ops.expand_order import Order
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
    assert list(sizes.values()) == [[], [first, 0], [first, second], []]


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
    assert kept[0] and not kept[2]
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
