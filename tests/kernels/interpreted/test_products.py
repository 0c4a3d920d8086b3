"""Sums of dense products: exact where numbers are whole, within a derived bound elsewhere, alike however a list is cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.kernels import products
from growkernels.kernels.product_blocks import (
    LARGE,
    LARGE_FLOAT,
    PAIRED,
    SMALL,
    SMALL_FLOAT,
    WIDE,
    Blocks,
    blocks_of,
)
from growkernels.kernels.products import products_
from growkernels.ops.expand import reference as expand_reference
from tests.ops.rules import Choose, Seeded
from tests.ops.tensors import LAYOUTS, POISON, assert_same_bits, data, laid_out, poisoned
from tests.ops.tools import Drawn

FORMATS = (torch.float32, torch.bfloat16, torch.float16)
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
OPS = torch.ops.growkernels_triton


def whole(shape: tuple[int, int], dtype: torch.dtype, seed: int) -> Tensor:
    """One of -3 to 3 but zero: sums of products are exact in float32, in any order."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    return (torch.randint(1, 4, shape, generator=generator) * signs).to(dtype)


def block(values: Tensor, choose: Choose) -> Tensor:
    """The same values as a block of a bigger matrix, whose other entries no result may know of."""
    if not choose.integer(0, 2):
        return laid_out(values, choose.pick(LAYOUTS))
    above, beside = choose.pick(((0, 0), (8, 16), (1, 3)))
    around = values.new_full((values.shape[0] + 2 * above, values.shape[1] + 2 * beside), torch.nan)
    around = around.t().contiguous().t() if choose.pick((False, True)) else around
    inside = around[above : above + values.shape[0], beside : beside + values.shape[1]]
    return inside.copy_(values)


def size(choose: Choose, largest: int) -> int:
    """Any, or whole vectors, or whole blocks."""
    unit = choose.pick((1, 1, 8, 64))
    return unit * choose.integer(0 if unit == 1 else 1, max(1, largest // unit))


def check(choose: Choose, exact: bool) -> None:
    """Every out is right, and nothing else is written."""
    dtype, pairs, add = choose.pick(FORMATS), choose.integer(1, 3), choose.pick((False, True))
    outs, left, right = [], [], []
    for g in range(choose.integer(1, 3)):
        rows, columns, inner = size(choose, 150), size(choose, 150), size(choose, 66)
        out = poisoned((rows, columns), choose.pick(FORMATS), choose.pick(LAYOUTS))
        outs.append(out.copy_(whole((rows, columns), torch.float32, g)) if add else out)
        for k in range(pairs):
            for side, shape in ((left, (rows, inner)), (right, (inner, columns))):
                seed = 100 * g + 10 * k + len(left) - len(right)
                side.append(block(whole(shape, dtype, seed) if exact else data(shape, dtype, seed) / 8, choose))
    expected = [out.double() for out in outs]
    expand_reference.products_(expected, left, right, add)
    magnitude = [out.double().abs() for out in outs]
    expand_reference.products_(magnitude, [t.abs() for t in left], [t.abs() for t in right], add)
    products_(outs, left, right, add)
    for g, (out, value, most) in enumerate(zip(outs, expected, magnitude, strict=True)):
        if exact:
            assert_same_bits(out, value.to(out.dtype))
        else:
            # Each term is rounded in as many sums as there are terms at most, in any order, then stored: half a unit in the
            # last place, or half the smallest subnormal number. The reference's float64 is off by far less.
            unit, stored = torch.finfo(torch.float32).eps / 2, torch.finfo(out.dtype)
            terms = (pairs * left[g * pairs].shape[1] + 2) * unit
            error = (terms / (1 - terms) + 2**-40) * most
            assert (
                (out - value).abs() <= error + stored.eps / 2 * (value.abs() + error + stored.smallest_normal)
            ).all()
        if out._base is not None:
            out.fill_(POISON)
            assert (out._base == out.new_full((), POISON)).all()


@settings(max_examples=8, phases=UNSHRUNK)
@given(st.data(), st.booleans())
def test_products_are_exact_or_within_rounding(choices: st.DataObject, exact: bool) -> None:
    check(Drawn(choices.draw), exact)


def test_seeded_products_are_exact_or_within_rounding() -> None:
    for seed in range(12):
        check(Seeded(seed), exact=seed % 2 == 0)


@pytest.mark.slow
def test_many_seeded_products_are_exact_or_within_rounding() -> None:
    for seed in range(1000, 1400):
        check(Seeded(seed), exact=seed % 2 == 0)


@pytest.mark.parametrize(
    "blocks",
    [SMALL, PAIRED, WIDE, LARGE_FLOAT],
    ids=lambda b: f"{b.rows}x{b.columns}x{b.inner}",
)
def test_every_cut_of_many_tiles(blocks: Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows of tiles than are worked on together; whole tiles beside parts of tiles; sums of several steps."""
    monkeypatch.setattr(products, "blocks_of", lambda *_: blocks)
    dtype = torch.float32 if blocks == LARGE_FLOAT else torch.bfloat16
    shapes = (
        (9 * blocks.rows + 5, blocks.columns + 8, 2 * blocks.inner),
        (blocks.rows, 2 * blocks.columns, blocks.inner),
    )
    left = [whole((rows, inner), dtype, 1) for rows, _, inner in shapes]
    right = [whole((columns, inner), dtype, 2).t() for _, columns, inner in shapes]
    outs = [poisoned((rows, columns), torch.bfloat16) for rows, columns, _ in shapes]
    products_(outs, left, right, False)
    for out, first, second in zip(outs, left, right, strict=True):
        assert_same_bits(out, (first.double() @ second.double()).bfloat16())


@example(rows=1, columns=1, inner=0, add=True)
@example(rows=0, columns=3, inner=2, add=False)
@settings(max_examples=3, phases=UNSHRUNK)
@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1), st.booleans())
def test_nothing_to_sum(rows: int, columns: int, inner: int, add: bool) -> None:
    out = data((rows, columns))
    first, second = data((rows, inner), seed=1), data((inner, columns), seed=2)
    expected = first @ second + out * add
    products_([out], [first], [second], add)
    assert_same_bits(out, expected)


def test_results_depend_on_nothing_else_in_a_call() -> None:
    """Outs of other shapes, strides and kinds of memory beside it, or none."""
    shapes = ((130, 70, 90), (70, 130, 40), (64, 64, 64), (130, 70, 90))
    for dtype in FORMATS:
        left, right = [], []
        for k in range(8):
            rows, columns, inner = shapes[k // 2]
            left.append(data((rows, inner), dtype, k))
            right.append(laid_out(data((inner, columns), dtype, 10 + k), LAYOUTS[k // 2 % 2]))
        outs = [poisoned((rows, columns), torch.float32) for rows, columns, _ in shapes]
        products_(outs, left, right, False)
        for g in (0, 2, 3):
            alone = torch.empty_like(outs[g])
            products_([alone], left[2 * g : 2 * g + 2], right[2 * g : 2 * g + 2], False)
            assert_same_bits(alone, outs[g])


@pytest.mark.parametrize(
    ("sizes", "dtypes", "aligned", "add", "generation", "blocks"),
    [
        ((512, 768, 1), (torch.bfloat16, torch.bfloat16), True, False, 9, PAIRED),
        ((512, 768, 12), (torch.bfloat16, torch.float32), True, True, 9, SMALL),
        ((4096, 64, 1), (torch.float16, torch.float16), True, False, 9, SMALL),
        ((4096, 4096, 1), (torch.float16, torch.float16), False, False, 9, SMALL),
        ((4096, 4096, 1), (torch.bfloat16, torch.bfloat16), True, False, 9, WIDE),
        ((4096, 4096, 4), (torch.bfloat16, torch.float32), True, False, 9, WIDE),
        ((4096, 4096, 4), (torch.bfloat16, torch.float32), True, True, 9, LARGE),
        ((4096, 4096, 4), (torch.bfloat16, torch.float32), True, False, 10, LARGE),
        ((4096, 4096, 4), (torch.bfloat16, torch.bfloat16), True, False, 10, WIDE),
        ((4096, 4096, 1), (torch.bfloat16, torch.bfloat16), True, False, 8, LARGE),
        ((4096, 4096, 1), (torch.float32, torch.bfloat16), True, False, 9, LARGE_FLOAT),
        ((512, 768, 2), (torch.float32, torch.float32), True, False, 9, SMALL_FLOAT),
    ],
)
def test_blocks_follow_from_an_out_alone(
    sizes: tuple, dtypes: tuple, aligned: bool, add: bool, generation: int, blocks: Blocks
) -> None:
    assert blocks_of(*sizes, *dtypes, aligned, add, generation) == blocks


def test_float64_is_multiplied_in_float64() -> None:
    first, second = data((5, 7), torch.float64), data((7, 3), torch.float64, 1)
    out = poisoned((5, 3), torch.float64)
    OPS.products_([out], [first], [second], False)
    assert_same_bits(out, first @ second)


M, OUT = data((4, 4)), poisoned((4, 4), torch.float32)


@pytest.mark.parametrize(
    ("outs", "left", "right", "message"),
    [
        ([], [M], [M], "1 left and 1 right matrices for 0 outs"),
        ([OUT], [], [], "expected as many pairs for each out"),
        ([OUT], [M, M], [M], "2 left and 1 right"),
        ([OUT, poisoned((4, 4), torch.float32)], [M] * 3, [M] * 3, "expected as many pairs"),
        ([OUT], [M[:3]], [M], r"out 0 has shape \(4, 4\), its factors \(3, 4\) and \(4, 4\)"),
        ([OUT], [M[:, :3]], [M], "expected m x n"),
        ([OUT], [M[0]], [M], "expected m x n"),
        ([OUT], [M], [M.half()], "factors have dtypes torch.float16, torch.float32"),
        ([OUT], [M.int()], [M.int()], "dtype torch.int32"),
        ([OUT], [M], [OUT], "overlaps an input"),
        ([OUT, OUT.t()], [M, M], [M, M], "two outputs overlap"),
        ([OUT[:1].expand(4, 4)], [M], [M], "share memory"),
    ],
)
def test_what_does_not_fit_is_refused(outs: list, left: list, right: list, message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        OPS.products_(outs, left, right, False)
    assert (OUT == POISON).all()
