"""Conversions between stored formats: every value of the small ones, and the neighbors of their midpoints."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from growkernels.kernels.dtype import FORMATS, compute_format, narrow, pointer, widen
from growkernels.ops import arithmetic
from tests.ops.tensors import DTYPES, SPECIAL, assert_same_bits, poisoned

EVERY = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
SMALL = torch.bfloat16, torch.float16


@triton.jit
def _convert(
    source,
    target,
    count,
    SOURCE: tl.constexpr,
    TARGET: tl.constexpr,
    COMPUTE: tl.constexpr,
    SIZE: tl.constexpr,
):
    i = tl.arange(0, SIZE)
    value = widen(tl.load(pointer(source, SOURCE, True) + i, i < count), SOURCE, COMPUTE)
    tl.store(pointer(target, TARGET, True) + i, narrow(value, TARGET), i < count)


def assert_converts(values: torch.Tensor, target: torch.dtype) -> None:
    out = poisoned(tuple(values.shape), target)
    size = triton.next_power_of_2(len(values))
    formats = FORMATS[values.dtype], FORMATS[target], compute_format(values.dtype, target)
    _convert[(1,)](values.data_ptr(), out.data_ptr(), len(values), *formats, size)
    expected = arithmetic.store(arithmetic.load(values, arithmetic.compute_dtype(values.dtype, target)), target)
    assert_same_bits(out, expected)


@pytest.mark.parametrize("source", SMALL, ids=str)
@pytest.mark.parametrize("target", DTYPES, ids=str)
def test_every_value_of_small_formats(source: torch.dtype, target: torch.dtype) -> None:
    assert_converts(EVERY.view(source), target)


@pytest.mark.parametrize("target", SMALL, ids=str)
@pytest.mark.parametrize("source", [torch.float32, torch.float64], ids=str)
def test_neighbors_of_midpoints_round_to_even_once(source: torch.dtype, target: torch.dtype) -> None:
    values = EVERY.view(target).double()
    values = values[values.isfinite()].sort().values.unique()
    midpoints = (values[1:] + values[:-1]) / 2
    # By way of float32 the first two would round as the midpoint itself does.
    for nudge in (1 - 2.0**-40, 1 + 2.0**-40, 1 - 2.0**-20, 1 + 2.0**-20, 1.0):
        assert_converts((midpoints * nudge).to(source), target)


@pytest.mark.parametrize("source", [torch.float32, torch.float64], ids=str)
def test_extreme_values_and_payloads_of_nan(source: torch.dtype) -> None:
    payloads = torch.arange(0x7F800001, 0x7FFFFFFF, 65_521, dtype=torch.int32).view(torch.float32).to(source)
    for target in DTYPES:
        assert_converts(torch.cat([torch.tensor(SPECIAL, dtype=torch.float64).to(source), payloads, -payloads]), target)


def test_float64_at_the_ends_of_float32() -> None:
    # What float32 rounds to infinity or to zero: the way down must not lose the side.
    largest, smallest = torch.finfo(torch.float32).max, 2.0**-149
    ends = torch.tensor([largest, smallest, 2.0**-133, 65504.0, 65520.0, 2.0**-24, 2.0**-25], dtype=torch.float64)
    values = torch.cat([ends * (1 + 2.0**-k) for k in (20, 25, 40, 52)] + [ends * 0.5, ends * 1.5, ends, -ends])
    for target in (*SMALL, torch.float32):
        assert_converts(values, target)
