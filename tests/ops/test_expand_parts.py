"""The kernels of `expand`: mixes of layers to the bit, inner products of all pairs within a derived bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.ops.mixes import check_inner_products, check_mix
from tests.ops.tools import DTYPES, LAYOUTS, Drawn, assert_same_bits, data, laid_out, poisoned, with_special

#: Bits do not depend on the instruction set.
pytestmark = pytest.mark.usefixtures("isa")
mix_, inner_products_ = torch.ops.growkernels.mix_, torch.ops.growkernels.inner_products_


def tensors(drawn: Drawn, count: int, shape: tuple[int, ...], seed: int) -> list[Tensor]:
    return [
        laid_out(with_special(data(shape, drawn.pick(DTYPES), seed + k)), drawn.pick(LAYOUTS)) for k in range(count)
    ]


@given(st.data())
@settings(max_examples=30)
def test_mixes_have_the_bits_of_the_reference(case: st.DataObject) -> None:
    drawn = Drawn(case.draw)
    shape = drawn.pick(((1, 1), (0, 3), (7, 11), (33, 129), (1100,), (2, 3, 5)))
    sources = tensors(drawn, drawn.integer(1, 5), shape, 0)
    coefficients = laid_out(data((drawn.integer(1, 4), len(sources)), drawn.pick(DTYPES), 9), drawn.pick(LAYOUTS))
    outs = [poisoned(shape, drawn.pick(DTYPES), drawn.pick(LAYOUTS)) for _ in coefficients]
    check_mix(outs, sources, coefficients, torch.ops.growkernels)


@given(st.data())
@settings(max_examples=30)
def test_inner_products_are_within_rounding(case: st.DataObject) -> None:
    drawn = Drawn(case.draw)
    shape = drawn.pick(((1, 1), (0, 3), (7, 11), (33, 129), (1100,), (129, 400)))
    left, right = (
        [laid_out(data(shape, drawn.pick(DTYPES), seed + k), drawn.pick(LAYOUTS)) for k in range(drawn.integer(1, 3))]
        for seed in (0, 5)
    )
    out = laid_out(data((len(left), len(right)), torch.float64, 9), drawn.pick(LAYOUTS))
    check_inner_products(out, left, right, torch.ops.growkernels)


def test_results_depend_neither_on_threads_nor_on_the_layout(threads: None) -> None:
    left, right = ([data((300, 513), seed=seed + k) for k in range(3)] for seed in (0, 5))
    coefficients = data((2, 3), seed=9)
    results = []
    for count, layout in ((1, "contiguous"), (2, "contiguous"), (3, "offset")):
        torch.set_num_threads(count)
        sources = [laid_out(t, layout) for t in left]
        outs, sums = [poisoned((300, 513), torch.float32) for _ in range(2)], torch.ones(3, 3, dtype=torch.float64)
        mix_(outs, sources, coefficients)
        inner_products_(sums, sources, right)
        results.append((torch.stack(outs), sums))
    for mixes, sums in results[1:]:
        assert_same_bits(mixes, results[0][0])
        assert_same_bits(sums, results[0][1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_large_mix_goes_past_the_caches(dtype: torch.dtype) -> None:
    """8 MB and more; rows begin and end within a cache line, and one target is transposed."""
    sources = [data((1031, 1017), torch.float32, k) for k in range(2)]
    wide = torch.full((1031, 2 * 1017 + 5), torch.nan, dtype=dtype)
    outs = [wide[:, 3:1020], wide[:, 1020:2037], poisoned((1031, 1017), dtype, "transposed")]
    outs += [poisoned((1031, 1017), dtype) for _ in range(2)]
    assert sum(out.nbytes for out in outs) >= 8 << 20
    check_mix(outs, sources, data((5, 2), seed=9), torch.ops.growkernels)


def test_bands_of_columns_lie_apart() -> None:
    """What panels of a transposed target are; also where a panel is one row."""
    for rows in (1, 4):
        buffer = torch.full((7, 3 * rows), torch.nan)
        parts = buffer.t().split(rows)
        mix_(parts, [data((rows, 7))], data((3, 1)))
        for part, factor in zip(parts, data((3, 1)), strict=True):
            assert_same_bits(part, factor * data((rows, 7)))
        with pytest.raises(RuntimeError, match="overlap"):
            mix_([buffer.t()[:2], buffer.t()[1:3]], [data((2, 7))], data((2, 1)))


@pytest.mark.parametrize(
    ("outs", "sources", "shape", "message"),
    [
        ([], [data((2, 3))], (0, 1), "no tensors"),
        ([data((2, 3))], [], (1, 0), "no tensors"),
        ([data((2, 3))], [data((2, 4))], (1, 1), "differ in shape"),
        ([data((2, 3))], [data((2, 3)), data((3, 2))], (1, 2), "differ in shape"),
        ([data((2, 3))], [data((2, 3))], (1, 2), r"coefficients does not have shape \[1, 1\]"),
        ([data((2, 3))], [data((2, 3))], (1,), "coefficients does not have shape"),
        ([data((2, 3)).expand(2, 3)[:1].expand(2, 3)], [data((2, 3))], (1, 1), "share memory"),
    ],
)
def test_what_does_not_fit_is_refused(outs: list, sources: list, shape: tuple, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        mix_(outs, sources, torch.ones(shape))
