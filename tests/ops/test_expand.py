"""`expand` and its gradients: within a derived bound of the definition in every order of the work, exact where it can be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from growkernels import ops
from growkernels.ops import Expansion
from growkernels.ops.expand import cost as expand_order
from growkernels.ops.expand import forward as expand_products
from growkernels.ops.expand import reference as expand_reference
from growkernels.ops.expand import saved as expand_saved
from growkernels.ops.expand.cost import Order
from growkernels.ops.expand.packing import pack, unpack
from tests.ops.tools import DTYPES, LAYOUTS, Drawn, assert_same_bits, data, laid_out, poisoned

ORDERS = tuple(Order(*order) for order in itertools.product((True, False), repeat=2))


@dataclass(frozen=True)
class Case:
    """An expansion, the order that the work is done in, and the dtype and layout of what it is written to."""

    expansion: Expansion
    order: Order
    small_panels: bool
    #: Of the result, as much memory as a call may save for the backward pass.
    share: float
    dtype: torch.dtype
    layout: str
    backend: str | None

    def forced(self, patch: pytest.MonkeyPatch) -> None:
        """Have the work done in this order."""
        patch.setattr(expand_order, "choose", lambda *_, **__: self.order)
        patch.setattr(expand_saved, "SHARE", self.share)
        if self.small_panels:
            for gpu, tuning in expand_products.TUNING.items():
                patch.setitem(expand_products.TUNING, gpu, tuning._replace(panel=1, rows=3, together=1))

    @property
    def factors_of_16_bits(self) -> bool:
        """Whether mixes and first products are rounded to bfloat16, as on a GPU."""
        dtypes = {t.dtype for t in inputs_of(self.expansion._replace(depth=None))}
        return self.backend == "emulated" and dtypes == {torch.bfloat16}


def values(drawn: Drawn, shape: tuple[int, ...], seed: int, dtypes: Sequence[torch.dtype] = DTYPES) -> Tensor:
    """Of any dtype and layout, small enough that no sum leaves the range of float16."""
    return laid_out(data(shape, drawn.pick(dtypes), seed) / 16, drawn.pick(LAYOUTS))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    drawn = Drawn(draw)
    layers, rows, columns = drawn.integer(1, 4), drawn.integer(1, 12), drawn.integer(1, 12)
    structured = drawn.pick((True, False))
    dtypes = drawn.pick((DTYPES, (torch.bfloat16,)))
    weights: Tensor | list[Tensor] = [values(drawn, (rows, columns), seed, dtypes) for seed in range(layers)]
    if drawn.pick((True, False)):
        weights = torch.stack([weight.to(drawn.pick(dtypes)) for weight in weights])
    sides = []
    for seed, size in ((10, rows), (11, columns)):
        learned = drawn.integer(0, 9) + (0 if structured else size)
        sides.append(values(drawn, (learned, size), seed, dtypes) if drawn.integer(0, 3) else None)
    depth = values(drawn, (drawn.integer(1, 5), layers), 12) if drawn.integer(0, 3) else None
    return Case(
        Expansion(weights, *sides, depth, structured),
        drawn.pick(ORDERS),
        drawn.pick((True, False)),
        drawn.pick((0.0, 0.5, 100.0)),
        drawn.pick(DTYPES),
        drawn.pick(LAYOUTS),
        drawn.pick((None, "emulated")),
    )


def as_listed(expansion: Expansion) -> Expansion:
    return expansion._replace(weights=list(expansion.weights))


def inputs_of(expansion: Expansion) -> list[Tensor]:
    return [t for t in (*expansion.weights, expansion.b, expansion.a, expansion.depth) if t is not None]


def mapped(expansion: Expansion, function) -> Expansion:
    """The same with every tensor changed."""
    b, a, depth = (None if t is None else function(t) for t in expansion[1:4])
    return Expansion([function(weight) for weight in expansion.weights], b, a, depth, expansion.structured)


def absolute(tensor: Tensor) -> Tensor:
    return tensor.double().abs()


def exact(expansion: Expansion) -> Tensor:
    """By the definition, in float64."""
    return expand_reference.expand(*pack([expansion]), torch.float64, [])[0][0]


def gamma(roundings: int, dtype: torch.dtype) -> float:
    unit = torch.finfo(dtype).eps / 2
    return roundings * unit / (1 - roundings * unit)


def bound(
    value: Tensor, magnitude: Tensor, roundings: int, wide: bool, dtype: torch.dtype, of_factors: int = 0
) -> Tensor:
    """How far a sum of products, stored as `dtype`, may lie from one computed in float64.

    Each term is rounded at most `roundings` times, whatever the order of products and sums and whether they are fused: off by
    gamma = n u / (1 - n u) of the sum of the terms' absolute values at most (Higham, Accuracy and Stability of Numerical
    Algorithms, 3.1), in the arithmetic and in float64; and `of_factors` times to bfloat16, far above its smallest numbers. The
    store adds half a unit in the last place, or half the smallest subnormal number.
    """
    own = (1 + gamma(roundings, torch.float64 if wide else torch.float32)) * (1 + gamma(of_factors, torch.bfloat16)) - 1
    error = (own + gamma(roundings, torch.float64)) * magnitude
    stored = torch.finfo(dtype)
    return error + stored.eps / 2 * (value.abs() + error) + stored.smallest_normal * stored.eps / 2


@given(cases())
def test_expand_is_within_rounding_of_the_definition(case: Case) -> None:
    expansion = as_listed(case.expansion)
    rows, columns = expansion.weights[0].shape
    value, magnitude = exact(expansion), exact(mapped(expansion, absolute))
    wide = torch.float64 in {case.dtype, *(t.dtype for t in inputs_of(expansion))}
    # A mix and the product of it, or a product whose columns are mixed.
    of_factors = 2 if case.factors_of_16_bits and not wide else 0
    limit = bound(value, magnitude, len(expansion.weights) + rows + columns, wide, case.dtype, of_factors)
    outs = [poisoned(expansion.target_shape, case.dtype, case.layout) for _ in range(expansion.target_layers)]
    with pytest.MonkeyPatch.context() as patch:
        case.forced(patch)
        ops.expand_(outs, *case.expansion, backend=case.backend)
        functional = ops.expand(*case.expansion, case.dtype, backend=case.backend)
    assert ((torch.stack(outs).double() - value).abs() <= limit).all()
    assert functional.dtype == case.dtype and functional.is_contiguous()
    assert ((functional.double() - value).abs() <= limit).all()
    assert_same_bits(ops.expand(*case.expansion, torch.float64, backend="eager"), value)


@given(cases(), st.data())
def test_gradients_are_within_rounding_of_the_definition(case: Case, extra: st.DataObject) -> None:
    expansion = mapped(case.expansion, lambda t: t.detach())
    chosen = [t for t in inputs_of(expansion) if extra.draw(st.booleans())] or [inputs_of(expansion)[-1]]
    for tensor in chosen:
        tensor.requires_grad_()
    grad = values(Drawn(extra.draw), (expansion.target_layers, *expansion.target_shape), 13).to(case.dtype)
    with pytest.MonkeyPatch.context() as patch:
        needed = any(weight.requires_grad for weight in expansion.weights)
        if not (needed and expansion.depth is not None and case.order.mix_first):  # mixing first has no such gradients
            case.forced(patch)
        ops.expand(*expansion, case.dtype, backend=case.backend).backward(grad)
    rows, columns = expansion.weights[0].shape
    # Sums over a side, a grown side and the layers of either model; inner products add up to 32 values in float32.
    sizes = len(expansion.weights), expansion.target_layers, rows, columns, *expansion.target_shape, 34
    wide = torch.float64 in {case.dtype, *(t.dtype for t in inputs_of(expansion))}
    # Each factor of a last product was at most mixed and multiplied before: three roundings of the two together.
    of_factors = 3 if case.factors_of_16_bits and not wide else 0
    found = []
    for of, upstream in ((mapped(expansion, torch.Tensor.double), grad), (mapped(expansion, absolute), grad.abs())):
        packed = pack([mapped(of, torch.Tensor.detach)])
        every = [True] * (len(packed[0]) + len(packed[1]))
        gradients = expand_reference.expand_backward([upstream.double()], *packed, [], every)
        found.append(inputs_of(unpack(gradients[: len(packed[0])], gradients[len(packed[0]) :], packed[2])[0]))
    for tensor, value, magnitude in zip(inputs_of(expansion), *found, strict=True):
        if any(tensor is other for other in chosen):
            assert tensor.grad.dtype == tensor.dtype
            limit = bound(value, magnitude, sum(sizes), wide, tensor.dtype, of_factors)
            assert ((tensor.grad.double() - value).abs() <= limit).all()
        else:
            assert tensor.grad is None


def one_hot(rows: list[int], size: int) -> Tensor:
    return torch.eye(size)[rows]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot_matrices_are_the_other_operators_exactly(dtype, order: Order, monkeypatch) -> None:
    monkeypatch.setattr(expand_order, "choose", lambda *_, **__: order)
    weights = [data((5, 6), dtype, seed) for seed in range(3)]
    stack, interpolation = [i % 3 for i in range(6)], [i // 2 for i in range(6)]
    for index in (stack, interpolation):
        grown = ops.expand(weights, None, None, one_hot(index, 3))
        assert grown.equal(torch.stack(ops.replicate(weights, index)))
    twice = one_hot([*range(5)] * 2, 5), one_hot([*range(6)] * 2, 6)
    tiled = torch.stack([ops.tile(weight, 2, 2) for weight in weights])
    assert ops.expand(weights, twice[0], twice[1] / 2).equal(tiled)
    below = torch.eye(5), torch.eye(6)
    assert ops.expand(weights, *below, torch.eye(3) / 2, structured=True).equal(tiled)
    both = ops.expand(weights, twice[0], twice[1] / 2, one_hot(stack, 3))
    assert both.equal(torch.stack([tiled[i] for i in stack]))
    vectors = [weight[:, 0] for weight in weights]
    grown = ops.expand(vectors, twice[0], None, one_hot(stack, 3))
    assert grown.equal(torch.stack([ops.tile(vectors[i], 2, 1) for i in stack]))


@pytest.mark.parametrize("structured", [False, True])
def test_vectors_are_grown_like_columns_and_like_rows(structured: bool) -> None:
    layers = [data((9,), seed=seed) for seed in range(3)]
    matrix, depth = data((12, 9), seed=5), data((4, 3), seed=6)
    grown = ops.expand(layers, matrix, None, depth, structured)
    assert grown.shape == (4, 21 if structured else 12)
    full = torch.cat([torch.eye(9), matrix]) if structured else matrix
    factors = [t.double() for t in (depth, torch.stack(layers), full.t())]
    value, magnitude = torch.linalg.multi_dot(factors), torch.linalg.multi_dot([t.abs() for t in factors])
    assert ((grown.double() - value).abs() <= bound(value, magnitude, 3 + 9, False, torch.float32)).all()
    assert_same_bits(ops.expand(torch.stack(layers), None, matrix, depth, structured), grown)
    separate = [poisoned((grown.shape[1],), torch.float32) for _ in range(4)]
    ops.expand_(separate, layers, matrix, None, depth, structured)
    assert_same_bits(torch.stack(separate), grown)


def test_many_at_once_share_matrices() -> None:
    b, a = data((9, 5)).requires_grad_(), data((7, 4), seed=1).requires_grad_()
    depth = data((3, 2), seed=2).requires_grad_()
    attention = Expansion([data((5, 5), seed=s) for s in (3, 4)], b, b, depth)
    ffn = Expansion(data((2, 4, 5), seed=5), a, b, depth)
    norm = Expansion([data((5,), seed=s) for s in (6, 7)], b, None, depth)
    embedding = Expansion([data((11, 5), seed=8)], None, b)
    modules = [attention, ffn, norm, embedding]
    grown = ops.expand_many(modules)
    assert [tuple(g.shape) for g in grown] == [(3, 9, 9), (3, 7, 9), (3, 9), (1, 11, 9)]
    torch.autograd.backward([g.square().sum() for g in grown])
    together = [t.grad.clone() for t in (b, a, depth)]
    for t in (b, a, depth):
        t.grad = None
    for module, result in zip(modules, grown, strict=True):
        alone = ops.expand(*module)
        assert_same_bits(alone, result)
        alone.square().sum().backward()
    for t, total in zip((b, a, depth), together, strict=True):
        torch.testing.assert_close(total, t.grad, rtol=1e-5, atol=1e-5 * float(t.grad.abs().max()))
    outs = [poisoned(tuple(g.shape), torch.bfloat16) for g in grown]
    with torch.no_grad():
        ops.expand_many_(outs, modules)
        for out, result in zip(outs, ops.expand_many(modules, torch.bfloat16), strict=True):
            assert_same_bits(out, result)
    ops.expand_many_([], [])
    assert ops.expand_many([]) == []


@pytest.mark.parametrize("backend", [None, "emulated"])
@pytest.mark.parametrize("order", ORDERS)
def test_outs_of_several_dtypes(order: Order, backend: str | None, monkeypatch) -> None:
    """Products go straight into outs of their factors' dtype, but not where other layers' outs have another one."""
    monkeypatch.setattr(expand_order, "choose", lambda *_, **__: order)
    for gpu, tuning in expand_products.TUNING.items():
        monkeypatch.setitem(expand_products.TUNING, gpu, tuning._replace(together=1))
    for dtype, structured in itertools.product((torch.bfloat16, torch.float32, torch.float64), (True, False)):
        weights = [data((4, 5), dtype, seed) for seed in range(3)]
        b, a = data((6, 4), dtype, 5), data((7, 5), dtype, 6)
        for depth in (None, data((3, 3), seed=7)):
            expansion = Expansion(weights, b, a, depth, structured)
            dtypes = (dtype, torch.float16, torch.float32)
            outs = [poisoned(expansion.target_shape, each, "transposed") for each in dtypes]
            ops.expand_(outs, *expansion, backend=backend)
            value, magnitude = exact(expansion), exact(mapped(expansion, absolute))
            of_factors = 2 if backend == "emulated" and dtype == torch.bfloat16 else 0
            for k, out in enumerate(outs):
                limit = bound(value[k], magnitude[k], 12, dtype == torch.float64, out.dtype, of_factors)
                assert ((out.double() - value[k]).abs() <= limit).all()


@pytest.mark.parametrize("mix_first", [True, False])
def test_the_same_bits_every_time(mix_first: bool, monkeypatch) -> None:
    monkeypatch.setattr(expand_order, "choose", lambda *_, **__: Order(mix_first, True))
    results = []
    for _ in range(3):
        tensors = [
            data(shape, seed=seed).requires_grad_() for seed, shape in enumerate([(190, 150), (220, 170), (6, 3)])
        ]
        weights = [data((150, 170), torch.bfloat16, seed) for seed in range(3)]
        grown = ops.expand(weights, *tensors, dtype=torch.bfloat16)
        grown.backward(data(tuple(grown.shape), torch.bfloat16))
        results.append([grown, *(t.grad for t in tensors)])
    for again in results[1:]:
        for first, second in zip(results[0], again, strict=True):
            assert_same_bits(second, first)


@pytest.mark.parametrize("backend", [None, "emulated"])
@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("mix_first", [True, False])
def test_float64_is_rounded_once(mix_first: bool, structured: bool, backend: str | None, monkeypatch) -> None:
    """By float32 on the way, 1 + 2^-8 + 2^-40 would become the even neighbor of the middle that it lies above."""
    monkeypatch.setattr(expand_order, "choose", lambda *_, **__: Order(mix_first, True))
    weight = torch.full((2, 3), 1 + 2**-8 + 2**-40, dtype=torch.float64)
    sides = [torch.eye(size, dtype=torch.float64) for size in (2, 3)]
    for depth in (None, torch.ones(1, 1)):
        grown = ops.expand([weight], *sides, depth, structured, torch.bfloat16, backend=backend)
        assert grown.eq(1 + 2**-7).all()


@pytest.mark.parametrize("structured", [False, True])
def test_a_few_target_layers_at_a_time(structured: bool) -> None:
    """Fewer layers than the source has: rows of the coefficients, or mixes of all layers into one."""
    weights, depth = data((3, 4, 6)), data((5, 3))
    whole = ops.expand(weights, None, None, depth, structured)
    b, a = data((8, 4)), data((12, 6))
    for rows in (slice(1), slice(1, 3), slice(4, 5)):
        assert_same_bits(ops.expand(weights, None, None, depth[rows], structured), whole[rows])
        grown = ops.expand(weights, b, a, depth[rows], structured)
        expansion = Expansion(list(weights), b, a, depth[rows], structured)
        value, magnitude = exact(expansion), exact(mapped(expansion, absolute))
        assert grown.shape == value.shape
        assert ((grown.double() - value).abs() <= bound(value, magnitude, 3 + 4 + 6, False, torch.float32)).all()
