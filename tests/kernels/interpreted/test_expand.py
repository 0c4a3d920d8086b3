"""Mixes of layers to the bit, and inner products of all pairs within a derived bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.kernels.expand import inner_products_, mix_
from tests.ops.mixes import check_inner_products, check_mix
from tests.ops.rules import Choose, Seeded
from tests.ops.tensors import DTYPES, LAYOUTS, POISON, assert_same_bits, data, laid_out, poisoned, with_special
from tests.ops.tools import Drawn

#: A simpler example would take minutes to find.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
#: Nothing, one element, less than a block, several blocks of each width, whole vectors, three axes.
SHAPES = ((0, 3), (1, 1), (7, 11), (33, 129), (1100,), (2, 3, 5), (6, 256), (70, 8), (2, 1, 520))
OPS = torch.ops.growkernels_triton


def tensors(choose: Choose, count: int, shape: tuple[int, ...], seed: int, special: bool) -> list[Tensor]:
    """Of one dtype and layout, as layers are, or of any."""
    alike = choose.pick((False, True, True))
    dtype, layout = choose.pick(DTYPES), choose.pick(LAYOUTS)
    found = []
    for k in range(count):
        values = data(shape, dtype if alike else choose.pick(DTYPES), seed + k)
        found.append(laid_out(with_special(values) if special else values, layout if alike else choose.pick(LAYOUTS)))
    return found


def assert_untouched_around(out: Tensor) -> None:
    """What lies between the entries of an output is as it was. Spoils `out`."""
    if out._base is not None:
        out.fill_(POISON)
        assert (out._base == out.new_full((), POISON)).all()


def check_drawn_mix(choose: Choose) -> None:
    shape = choose.pick(SHAPES)
    sources = tensors(choose, choose.integer(1, 7), shape, 0, special=True)
    rows = choose.integer(1, 10 if sources[0].numel() < 600 else 3)
    coefficients = laid_out(data((rows, len(sources)), choose.pick(DTYPES), 9), choose.pick(LAYOUTS))
    alike, dtype, layout = choose.pick((False, True)), choose.pick(DTYPES), choose.pick(LAYOUTS)
    outs = [
        poisoned(shape, dtype if alike else choose.pick(DTYPES), layout if alike else choose.pick(LAYOUTS))
        for _ in range(rows)
    ]
    check_mix(outs, sources, coefficients, OPS)
    for out in outs:
        assert_untouched_around(out)


@settings(max_examples=8, phases=UNSHRUNK)
@given(st.data())
def test_mixes_have_the_bits_of_the_reference(choices: st.DataObject) -> None:
    check_drawn_mix(Drawn(choices.draw))


def test_seeded_mixes_have_the_bits_of_the_reference() -> None:
    for seed in range(8):
        check_drawn_mix(Seeded(seed))


@pytest.mark.slow
def test_many_seeded_mixes_have_the_bits_of_the_reference() -> None:
    for seed in range(1000, 1300):
        check_drawn_mix(Seeded(seed))


def test_a_single_term_keeps_the_sign_of_zero() -> None:
    out = poisoned((2, 3), torch.float32)
    mix_([out], [torch.full((2, 3), -0.0)], torch.ones(1, 1))
    assert_same_bits(out, torch.full((2, 3), -0.0))


def check_drawn_inner_products(choose: Choose) -> None:
    shape = choose.pick((*SHAPES, (9, 2000)))
    left, right = (tensors(choose, choose.integer(1, 5), shape, seed, special=False) for seed in (0, 5))
    out = data((len(left), len(right)), choose.pick((torch.float64, torch.float32)), 9)
    check_inner_products(laid_out(out, choose.pick(LAYOUTS)), left, right, OPS)


@settings(max_examples=8, phases=UNSHRUNK)
@given(st.data())
def test_inner_products_are_within_rounding(choices: st.DataObject) -> None:
    check_drawn_inner_products(Drawn(choices.draw))


def test_seeded_inner_products_are_within_rounding() -> None:
    for seed in range(6):
        check_drawn_inner_products(Seeded(seed))


@pytest.mark.slow
def test_many_seeded_inner_products_are_within_rounding() -> None:
    for seed in range(1000, 1200):
        check_drawn_inner_products(Seeded(seed))


def test_results_depend_on_nothing_else_in_a_call() -> None:
    left, right = ([data((9, 530), seed=seed + k) for k in range(6)] for seed in (0, 10))
    coefficients = data((9, 6), seed=20)
    outs, sums = [poisoned((9, 530), torch.float32) for _ in range(9)], torch.zeros(6, 6, dtype=torch.float64)
    mix_(outs, left, coefficients)
    inner_products_(sums, left, right)
    for row in (0, 8):
        alone = poisoned((9, 530), torch.float32)
        mix_([alone], left, coefficients[row : row + 1])
        assert_same_bits(alone, outs[row])
    some = torch.zeros(1, 2, dtype=torch.float64)
    inner_products_(some, left[5:], right[3:5])
    assert_same_bits(some, sums[5:, 3:5])


@example(rows=1, columns=7)
@settings(max_examples=5)
@given(rows=st.integers(1, 5), columns=st.integers(1, 9))
def test_bands_of_columns_lie_apart(rows: int, columns: int) -> None:
    """What panels of a transposed target are; also where a panel is one row."""
    buffer = torch.full((columns, 3 * rows), torch.nan)
    parts = buffer.t().split(rows)
    OPS.mix_(parts, [data((rows, columns))], data((3, 1)))
    for part, factor in zip(parts, data((3, 1)), strict=True):
        assert_same_bits(part, factor * data((rows, columns)))
    with pytest.raises(GrowthError, match="overlap"):
        OPS.mix_([buffer.t()[:2], buffer.t()[1:3]], [data((2, columns))], data((2, 1)))


ONE = data((2, 3))


@pytest.mark.parametrize(
    ("outs", "sources", "shape", "message"),
    [
        ([], [ONE], (0, 1), "no tensors"),
        ([ONE], [], (1, 0), "no tensors"),
        ([ONE], [data((2, 4))], (1, 1), "differ in shape"),
        ([ONE], [ONE, data((3, 2))], (1, 2), "differ in shape"),
        ([ONE], [data((2, 3))], (1, 2), r"coefficients has shape \(1, 2\)"),
        ([ONE], [data((2, 3))], (1,), "coefficients has shape"),
        ([data((2, 3))[:1].expand(2, 3)], [ONE], (1, 1), "share memory"),
        ([ONE], [ONE], (1, 1), "overlaps an input"),
        ([ONE, ONE], [data((2, 3))], (2, 1), "two outputs overlap"),
        ([ONE.int()], [ONE], (1, 1), "dtype torch.int32"),
    ],
)
def test_what_does_not_fit_is_refused(outs: list, sources: list, shape: tuple, message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        OPS.mix_(outs, sources, torch.ones(shape))
    assert_same_bits(ONE, data((2, 3)))


def test_inner_products_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GrowthError, match=r"out has shape \(2, 2\)"):
        OPS.inner_products_(torch.ones(2, 2), [ONE], [ONE])
    with pytest.raises(GrowthError, match="overlaps an input"):
        OPS.inner_products_(ONE[:1, :1], [ONE], [ONE])
