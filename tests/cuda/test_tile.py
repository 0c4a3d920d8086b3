"""The CUDA kernels of `tile`, every thread of a GPU played by the CPU: the bits of the reference on every path."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops.tile import reference as tile_reference
from growkernels.ops.tile.numbers import RuleNumbers
from tests import emulated
from tests.ops.test_tile import SLICED, check_rule, check_tile, check_vector, rule_cases, tile_cases
from tests.ops.tools import (
    DTYPES,
    assert_same_bits,
    data,
    dtypes,
    laid_out,
    layouts,
    poisoned,
    specs,
    with_special,
)

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.skipif(bool(emulated.MISSING), reason=emulated.MISSING),
]
VECTORS, ELEMENTS = "tile of vectors", "tile of elements"
NOISY_VECTORS, NOISY_ELEMENTS = "tile of vectors with normals", "tile of elements with normals"
SMALL = DTYPES[:3]
#: Visits of a piece on the emulated machine, so that small tensors are cut into several.
PIECE = 4096


def run(
    outs: Sequence[Tensor], weights: Sequence[Tensor], rules: Sequence[RuleNumbers], reads: bool = True
) -> list[str]:
    """Launches of a call whose outputs have the bits of the reference; each byte read once and written once."""
    emulated.traffic()
    ops.tile_rules_(outs, weights, [rule.tile() for rule in rules], backend="emulated")
    traffic = emulated.traffic()
    for out, weight, spec in zip(outs, weights, rules, strict=True):
        expected = poisoned(tuple(out.shape), out.dtype)
        tile_reference.tile_rules_([expected], [weight], [spec.tile()])
        assert_same_bits(out, expected)
    assert traffic["written"] == sum(out.nbytes for out in outs)
    if reads:
        assert traffic["read"] == sum(map(bytes_read, weights, rules))
    return traffic["launches"]


def bytes_read(weight: Tensor, spec: RuleNumbers) -> int:
    rows, cols = (
        sum(length for start, length in zip(flat[::4], flat[1::4], strict=True) if start >= 0)
        for flat in (spec.rows, spec.cols)
    )
    return rows * cols * weight.element_size()


def grow(weight: Tensor, spec: RuleNumbers, dtype: torch.dtype | None = None, layout: str = "contiguous") -> list[str]:
    """`run` with one tensor into a new one."""
    return run([poisoned(spec.shape, dtype or weight.dtype, layout)], [weight], [spec])


@settings(max_examples=100)
@given(rule_cases())
def test_rule_has_the_bits_of_the_reference(case: tuple) -> None:
    check_rule(case, "emulated")


@settings(max_examples=30)
@given(st.data())
def test_vectors_are_one_row(case: st.DataObject) -> None:
    check_vector(case, "emulated")


@settings(max_examples=25)
@given(tile_cases)
@example(SLICED)
def test_tile_equals_eager(case: tuple) -> None:
    check_tile(case, "emulated")


@settings(max_examples=30)
@given(st.data())
def test_each_element_is_read_and_written_once(case: st.DataObject) -> None:
    outs, weights, rules = [], [], []
    for seed in range(case.draw(st.integers(1, 5))):
        shape = case.draw(st.sampled_from([(7, 9), (40, 70), (3, 1100), (130, 5), (1, 300)]))
        shape = case.draw(st.integers(0, shape[0])), case.draw(st.integers(0, shape[1]))
        rules.append(case.draw(specs(*shape)))
        weights.append(laid_out(data(shape, case.draw(dtypes), seed), case.draw(layouts)))
        outs.append(poisoned(rules[-1].shape, case.draw(dtypes), case.draw(layouts)))
    run(outs, weights, rules)


@st.composite
def whole(draw: st.DrawFn, units: int, copies: int | None = None) -> tuple[int, ...]:
    """Segments over an axis of `units` times 8, all of whose parts are multiples of 8."""
    flat: list[int] = []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 3)) == 0:
            flat += [-1, 8 * draw(st.integers(1, 4)), 1, 1]
            continue
        start = draw(st.integers(0, units - 1))
        length = draw(st.integers(1, units - start))
        groups = draw(st.sampled_from([g for g in range(1, length + 1) if length % g == 0]))
        flat += [8 * start, 8 * length, copies or draw(st.integers(1, 4)), groups]
    return tuple(flat)


@settings(max_examples=60)
@given(st.data())
def test_whole_vectors_take_the_path_of_vectors(case: st.DataObject) -> None:
    rows, units = case.draw(st.integers(1, 20)), case.draw(st.sampled_from([1, 5, 30, 70]))
    spec = case.draw(specs(rows, 8 * units))
    copies = case.draw(st.integers(1, 6)) if spec.noise_std or spec.diagonal else None
    spec = replace(spec, cols=case.draw(whole(units, copies)))
    weight = with_special(data((rows, 8 * units), case.draw(st.sampled_from(SMALL))))
    launches = grow(weight, spec, case.draw(st.sampled_from(SMALL)))
    assert set(launches) <= {VECTORS, NOISY_VECTORS} and len(launches) <= 2


@pytest.mark.parametrize("dtype", SMALL[:2])
def test_tensors_that_are_not_aligned_go_by_elements(dtype: torch.dtype) -> None:
    width = 16 // dtype.itemsize
    weight, rule = data((6, 8 * width), dtype), RuleNumbers((0, 6, 2, 1), (0, 8 * width, 2, 1), 2.0)
    wide = data((6, 9 * width), dtype)
    assert grow(weight, rule) == grow(wide[:, : 8 * width], rule) == [VECTORS]
    for view in (laid_out(weight, "offset"), wide[:, 1 : 8 * width + 1], wide.reshape(-1)[: 6 * 8 * width + 6]):
        if view.ndim == 1:
            view = view.as_strided((6, 8 * width), (8 * width + 1, 1))
        assert grow(view, rule) == [ELEMENTS]
    assert grow(weight, rule, layout="offset") == [ELEMENTS]
    # One row has no pitch to be aligned.
    assert grow(wide.reshape(1, -1)[:, : 8 * width], replace(rule, rows=(0, 1, 1, 1))) == [VECTORS]
    # Segments that begin, end or lie apart by parts of vectors.
    for cols in ((1, width, 2, 1), (0, width + 1, 2, 1), (0, 2 * width, 2, 4), (-1, 1, 1, 1, 0, width, 1, 1)):
        assert ELEMENTS in grow(weight, replace(rule, cols=cols))


def test_quads_that_do_not_begin_with_a_vector_go_by_elements() -> None:
    """Each row begins at another place of its quad, or each segment does."""
    wide = data((6, 72))
    rule = RuleNumbers((0, 6, 2, 1), (0, 64, 2, 1), 2.0, noise_std=0.1, key=3)
    assert grow(wide[:, :64], replace(rule, cols=(0, 64, 2, 1))) == [NOISY_VECTORS]
    narrow = torch.cat([wide[:, :67], wide[:, :1]], 1)[:, :67]
    assert narrow.stride() == (68, 1)
    assert grow(narrow, rule) == [NOISY_ELEMENTS]
    assert grow(narrow, replace(rule, noise_std=0.0)) == [VECTORS]
    padded = torch.full((6, 80), torch.nan)[:, :78]
    fills = RuleNumbers((0, 6, 1, 1), (0, 64, 1, 1, -1, 14, 1, 1), fill=((1.0, 0.1), (0.0, 0.0), (0.0, 0.0)), key=3)
    assert run([padded], [wide], [fills]) == [VECTORS, NOISY_ELEMENTS]


@pytest.mark.parametrize("columns", [1, 5, 23, 24, 31, 125, 129, 250])
def test_rows_narrow_and_wide(columns: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for rows, width in ((1, 1), (17, 1), (1, 16 // dtype.itemsize), (35, 16 // dtype.itemsize)):
            weight = data((rows, columns * width), dtype)
            rule = RuleNumbers((0, rows, 2, 1), (0, columns * width, 2, 1), 2.0)
            grow(weight, rule)
            grow(weight, replace(rule, noise_std=0.1, key=9))


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
def test_pieces_of_large_tensors(noise_std: float) -> None:
    """Cuts between groups, inside groups and between rows."""
    dtype = torch.bfloat16 if noise_std else torch.float32
    width = 16 // dtype.itemsize
    for rows, columns, row_groups, column_groups in (
        (1, 3 * PIECE + 64, 1, 1),
        (3, 2 * PIECE, 1, 512 // width),
        (PIECE + 70, 24, 1, 1),
        (2 * PIECE, 8, 64, 1),
        (150, 128, 50, 8),
    ):
        weight = data((rows, columns), dtype)
        rule = RuleNumbers((0, rows, 2, row_groups), (0, columns, 2, column_groups), 2.0, noise_std=noise_std, key=6)
        assert grow(weight, rule) == [NOISY_VECTORS if noise_std else VECTORS]
        if not noise_std:
            assert grow(laid_out(weight, "offset"), rule) == [ELEMENTS]
    spread = RuleNumbers((0, 3, 1, 1), (0, 40, 1, 1, -1, PIECE, 1, 1), fill=((0.0, noise_std), (0.0, 0.0), (0.0, 0.0)))
    grow(data((3, 40)), spread)


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
@pytest.mark.parametrize("from_layout", ["contiguous", "transposed", "sliced"])
@pytest.mark.parametrize("to_layout", ["contiguous", "transposed", "sliced"])
def test_tensors_that_run_down_their_columns(from_layout: str, to_layout: str, noise_std: float) -> None:
    for dtype, rows, columns in ((torch.float32, 70, 37), (torch.bfloat16, 33, 130), (torch.bfloat16, 32, 64)):
        weight = laid_out(data((rows, columns), dtype), from_layout)
        rule = RuleNumbers(
            (0, rows, 2, 1, -1, 3, 1, 1),
            (0, columns, 3, 1, -1, 9, 1, 1),
            3.0,
            -1.0,
            True,
            noise_std,
            fill=((0.5, 0.1), (0.0, 0.0), (0.0, noise_std)),
        )
        grow(weight, rule, layout=to_layout)


def gathers(size: int, parts: int, copies: int = 2, new: bool = True) -> tuple[int, ...]:
    """More short segments than pieces are made of: some in order, some not, some of several groups, some new."""
    flat: list[int] = []
    for i in range(parts):
        start = (i * 5) % (size - 4)
        flat += [-1, 1 + i % 2, 1, 1] if new and i % 6 == 5 else [start, 1 + i % 4, copies, 1]
        if i % 7 == 0:
            flat += [start + 1, 2, copies, 2]
    return tuple(flat)


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_general_gathers(dtype: torch.dtype, noise_std: float) -> None:
    weight = data((90, 80), dtype)
    fill = ((0.5, noise_std), (-3.0, 0.02), (0.0, noise_std))
    rows, cols = (0, 90, 2, 1, -1, 2, 1, 1), (0, 80, 2, 5, -1, 8, 1, 1)
    listed_rows, listed_cols = gathers(90, 20, 3), gathers(80, 30)
    rule = RuleNumbers(rows, cols, 2.0, 0.0, True, noise_std, 7, fill)
    for some_rows, some_cols in ((listed_rows, cols), (rows, listed_cols), (listed_rows, listed_cols)):
        for layout in ("contiguous", "transposed"):
            launches = grow(weight, replace(rule, rows=some_rows, cols=some_cols), layout=layout)
            if layout == "contiguous" and some_cols == cols and dtype != torch.float64:
                # Only columns have to lie side by side.
                assert set(launches) == ({NOISY_VECTORS} if noise_std else {VECTORS, NOISY_VECTORS})
            elif some_cols == listed_cols:
                assert NOISY_ELEMENTS in launches
    # Visits in order share quads over the bounds of segments; those of different numbers of copies are distinguished.
    steps = tuple(n for start in range(0, 80, 4) for n in (start, 4, 2, 1))
    grow(weight, replace(rule, cols=steps))
    mixed = tuple(n for i in range(30) for n in (i, 2, 1 + i % 3, 1))
    grow(weight, RuleNumbers(mixed, mixed, 3.0))
    # A part of a list goes on where the one before it ended.
    long = tuple(n for i in range(PIECE + 9) for n in ((7 * i) % 90, 1, 1, 1))
    grow(weight, RuleNumbers(long, (0, 2, 2, 1), 2.0, noise_std=noise_std, key=4))


def test_fills_join_the_launch_of_copies() -> None:
    spec = RuleNumbers((-1, 1, 1, 1, 0, 1, 1, 1), (-1, 8, 1, 1, 0, 8, 1, 1), fill=((0.0, 0.0), (0.0, 0.0), (0.0, 0.02)))
    for source, target in itertools.product(SMALL, repeat=2):
        assert grow(data((1, 8), source), spec, target) == [VECTORS, NOISY_VECTORS]


def test_many_tensors_are_one_launch_of_each_kernel() -> None:
    outs, weights, rules = [], [], []
    for seed in range(300):
        dtype = (torch.bfloat16, torch.bfloat16, torch.float32, torch.float64)[seed % 4]
        shape = (1 + seed % 7, 8 * (1 + seed % 5) + (seed % 4 == 1))
        weights.append(data(shape, dtype, seed))
        noise_std = 0.1 * (seed % 3)
        rules.append(RuleNumbers((0, shape[0], 2, 1), (0, shape[1], 2, 1), 2.0, noise_std=noise_std, key=seed))
        outs.append(poisoned(rules[-1].shape, dtype))
    launches = run(outs, weights, rules)
    # Vectors of two dtypes, elements of two precisions.
    assert sorted(launches) == sorted(2 * [VECTORS, NOISY_VECTORS, ELEMENTS, NOISY_ELEMENTS])


@pytest.mark.parametrize("count", [1, 7, 8, 9, 33, 1100])
def test_tables_of_pieces_small_and_large(count: int) -> None:
    weights = [data((2, 8 * (1 + i % 3)), torch.bfloat16, i) for i in range(count)]
    rules = [RuleNumbers((0, 2, 1, 1), (0, w.shape[1], 2, 1), 2.0) for w in weights]
    assert run([poisoned(rule.shape, torch.bfloat16) for rule in rules], weights, rules) == [VECTORS]


@pytest.mark.parametrize("target", SMALL)
def test_noise_that_is_measured_as_none(target: torch.dtype) -> None:
    """Then values are rounded one by one as without noise: pairs rounded jointly would differ."""
    for dtype, columns in itertools.product(DTYPES, (64, 37)):
        weight = data((11, columns), dtype)
        for n_in in (2, 3):
            arguments = weight, 2, n_in, "symmetric", None, float("inf"), 3, target
            out = ops.tile(*arguments, backend="emulated")
            assert_same_bits(out, ops.tile(*arguments, backend="eager"))
            assert_same_bits(out, ops.tile(weight, 2, n_in, dtype=target))


def test_more_copies_than_a_thread_should_write() -> None:
    """Copies of a small source become visits of their own; noise, the diagonal and groups keep them together."""
    for dtype, shape in ((torch.float32, (1, 2)), (torch.bfloat16, (2, 8)), (torch.float64, (3, 5))):
        weight = data(shape, dtype)
        rows, cols = (0, shape[0], 66, 1), (0, shape[1], 67, 1)
        out = poisoned((66 * shape[0], 67 * shape[1]), dtype)
        launches = run([out], [weight], [RuleNumbers(rows, cols, 3.0)], reads=False)
        assert launches == [VECTORS if dtype == torch.bfloat16 else ELEMENTS]
        grow(weight, RuleNumbers((0, shape[0], 2, 1), cols, 1.0, noise_std=0.1, key=8))
        grow(weight, RuleNumbers(rows, cols, 1.0, diagonal=True))
        grow(weight, RuleNumbers((0, shape[0], 2, 1), (0, shape[1], 66, shape[1]), 1.0, 0.5))


def test_more_copies_than_32_bits_count_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    out = torch.empty(1, 2**31, dtype=torch.bfloat16)
    weight, rule = data((1, 1), torch.bfloat16), RuleNumbers((0, 1, 1, 1), (0, 1, 2**31, 1), diagonal=True)
    with pytest.raises(GrowthError, match="2147483648 copies of one axis; the CUDA kernels make up to 2\\^31 - 1"):
        ops.tile_rules_([out], [weight], [rule.tile()], backend="emulated")


def far_apart(shape: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """A matrix of bf16 whose entries lie gigabytes apart, in memory that is mostly never touched."""
    size = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1
    try:
        return torch.empty(size, dtype=torch.bfloat16).as_strided(shape, strides)
    except RuntimeError as error:
        pytest.skip(f"{size * 2} bytes of address space are not to be had: {error}")


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
def test_strides_of_more_than_four_gigabytes(monkeypatch: pytest.MonkeyPatch, noise_std: float) -> None:
    # Filling this memory would make it real.
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    values, far = data((2, 40), torch.bfloat16), 2**31 + 8
    rule = RuleNumbers((0, 2, 1, 1), (0, 40, 2, 1), 2.0, noise_std=noise_std, key=5)
    rows = far_apart((2, 40), (far, 1))
    rows.copy_(values)
    assert grow(rows, rule) == [NOISY_VECTORS if noise_std else VECTORS]
    assert run([far_apart((2, 80), (far, 1))], [values], [rule]) == [NOISY_VECTORS if noise_std else VECTORS]
    columns = far_apart((20, 2), (1, far))
    columns.copy_(values[0].view(20, 2))
    grow(columns, replace(rule, rows=(0, 20, 1, 1), cols=(0, 2, 2, 2), shift=0.5))
    # A stride that fits, from one group to the next it does not; and the same in the source.
    out = far_apart((4, 80), (far // 2 + 8, 1))
    run([out], [values], [replace(rule, rows=(0, 2, 2, 2))])
    grow(out[:, :40], replace(rule, rows=(0, 4, 2, 2)))
