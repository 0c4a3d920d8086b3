"""`expand` inside PyTorch: schema checks, gradients in float64, torch.compile, fake tensors."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Expansion
from growkernels.ops.expand import cost as expand_order
from growkernels.ops.expand import forward as expand_products
from growkernels.ops.expand.cost import Order
from growkernels.ops.expand.packing import pack
from tests.ops.tools import assert_same_bits, data, laid_out

NAMESPACES = ("growkernels", "growkernels_eager", "growkernels_emulated")
ORDERS = tuple(Order(*order) for order in itertools.product((True, False), repeat=2))


def samples(name: str) -> list[tuple]:
    weights = [data((3, 5), torch.bfloat16), data((3, 5), seed=1)]
    b, a, depth = data((4, 3)), laid_out(data((2, 5), torch.float64), "transposed"), data((3, 2))
    dense = pack([Expansion(weights, b, None, depth), Expansion(weights, None, data((7, 5)))])
    structured = pack([Expansion(weights, b, a, depth, True)])
    leaves = [[t.clone().requires_grad_() for t in tensors] for tensors in dense[:2]]
    deep = pack([Expansion([data((3, 5), seed=seed) for seed in range(2)], b, data((6, 5)), data((9, 2)))])
    every = [True] * (len(deep[0]) + len(deep[1]))
    _, saved = torch.ops.growkernels.expand(*deep, torch.float32, every)
    assert all(tensor.numel() for tensor in saved)
    return {
        "expand_": [
            ([torch.ones(4, 5) for _ in range(3)] + [torch.ones(7, 3).t() for _ in range(2)], *dense),
            ([torch.ones(7, 7, dtype=torch.bfloat16) for _ in range(3)], *structured),
        ],
        "expand": [
            (*dense, torch.float32, []),
            (*structured, torch.float16, []),
            (*leaves, dense[2], torch.float32, [True] * 7),
            (deep[0], [t.clone().requires_grad_() for t in deep[1]], deep[2], torch.float32, every),
        ],
        "expand_backward": [
            (
                [data((3, 4, 5)), data((2, 3, 7), torch.bfloat16)],
                *dense,
                [],
                [True, False, True, True, True, True, False],
            ),
            ([data((3, 7, 7))], *structured, [], [False, False, True, True, True]),
            ([data((9, 4, 6))], *deep, saved, every),
        ],
        "mix_": [([torch.ones(3, 5), torch.ones(5, 3).t()], weights, data((2, 2)))],
        "products_": [
            ([torch.ones(4, 5), torch.ones(5, 4).t()], [b, b], [data((3, 5)), data((3, 5), seed=1)], False),
            ([torch.ones(4, 5, dtype=torch.bfloat16)], [b, b], [data((3, 5)), data((3, 5), seed=1)], True),
        ],
        "inner_products_": [(torch.ones(2, 1, dtype=torch.float64), weights, [data((3, 5), seed=2)])],
    }[name]


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("name", ["expand_", "expand", "expand_backward", "mix_", "inner_products_", "products_"])
def test_opcheck(namespace: str, name: str) -> None:
    op = getattr(getattr(torch.ops, namespace), name).default
    for sample in samples(name):
        torch.library.opcheck(op, sample)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("order", [*ORDERS, None])
def test_gradcheck(order: Order | None, structured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every order, in panels of a few rows, for one side or both, for the matrices alone and with the weights."""
    small = expand_products.TUNING[False]._replace(panel=1, rows=2)
    monkeypatch.setitem(expand_products.TUNING, False, small)
    if order is not None:
        monkeypatch.setattr(expand_order, "choose", lambda *_, **__: order)
    weights = [data((2, 3), torch.float64, seed) for seed in range(2)]
    b, a, depth = (
        data(shape, torch.float64, seed).requires_grad_() for seed, shape in enumerate([(3, 2), (3, 3), (3, 2)])
    )

    def grow(b: Tensor | None, a: Tensor | None, depth: Tensor | None, *layers: Tensor) -> Tensor:
        return ops.expand(list(layers) or weights, b, a, depth, structured)

    one_sided = ((b, None, depth), (None, a, depth), (b, a, None), (None, None, depth))
    for inputs in ((b, a, depth), *(one_sided if order is None else ())):
        assert torch.autograd.gradcheck(grow, inputs)
    if order is None or not order.mix_first:  # mixing first has no gradients of the weights
        layers = [weight.clone().requires_grad_() for weight in weights]
        assert torch.autograd.gradcheck(grow, (b, a, depth, *layers))
        assert torch.autograd.gradcheck(grow, (b, None, None, *layers))


def test_gradcheck_of_stacks_and_vectors() -> None:
    stack = data((2, 3, 4), torch.float64).requires_grad_()
    b, a = (data(shape, torch.float64).requires_grad_() for shape in ((5, 3), (6, 4)))
    depth = data((3, 2), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(ops.expand, (stack, b, a, depth))
    vectors = [data((4,), torch.float64, seed).requires_grad_() for seed in range(2)]
    assert torch.autograd.gradcheck(lambda a, d, *v: ops.expand(v, a, None, d), (a, depth, *vectors))
    assert torch.autograd.gradcheck(
        lambda b, v: ops.expand(v, b, None, None, True), (data((2, 4), torch.float64), stack[0])
    )


def test_second_derivatives_are_refused() -> None:
    b = data((5, 3)).requires_grad_()
    (gradient,) = torch.autograd.grad(ops.expand(data((2, 3, 4)), b, None).sum(), b, create_graph=True)
    with pytest.raises(GrowthError, match="no second derivatives"):
        gradient.sum().backward()


def test_compile_full_graph_with_gradients() -> None:
    weights = [data((6, 5), seed=seed) for seed in range(2)]

    def loss(b: Tensor, a: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        grown = ops.expand(weights, b, a, depth)
        norms, embedding = ops.expand_many(
            [Expansion([weight[0] for weight in weights], a, None, depth), Expansion([weights[0]], None, a, None, True)]
        )
        out = torch.empty(3, 8, 9)
        with torch.no_grad():
            ops.expand_(out, weights, b * 2, a, depth)
        return (grown**2).sum() + norms.sum() + embedding.sum(), out + 1

    found = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        tensors = [data(shape, seed=7).requires_grad_() for shape in ((8, 6), (9, 5), (3, 2))]
        total, out = function(*tensors)
        total.backward()
        found.append([total.detach(), out, *(t.grad for t in tensors)])
    for compiled, expected in zip(found[1], found[0], strict=True):
        assert_same_bits(compiled, expected)


def test_meta_and_fake_tensors_have_the_shapes() -> None:
    weights, b, a = (torch.empty(shape, device="meta") for shape in ((2, 3, 4), (5, 3), (8, 4)))
    depth = torch.empty(6, 2, device="meta")
    assert ops.expand(weights, b, a, depth, dtype=torch.bfloat16).shape == (6, 5, 8)
    assert ops.expand(weights[:, 0], None, a, depth, True).shape == (6, 12)
    with torch._subclasses.FakeTensorMode():
        layers = [torch.empty(3, 4) for _ in range(2)]
        out = torch.empty(2, 5, 4)
        ops.expand_(out, layers, torch.empty(5, 3), None)
        assert ops.expand(layers, torch.empty(5, 3), None).shape == out.shape
