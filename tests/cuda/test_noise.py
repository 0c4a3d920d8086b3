"""The CUDA kernels `normal_` and `mean_square`, every thread of a GPU played by the CPU: the bits of the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from growkernels import ops
from growkernels.ops.noise import reference as noise_reference
from tests import emulated
from tests.ops.test_noise import check_mean_square, check_normal, starts, tensors
from tests.ops.tools import DTYPES, assert_same_bits, data, dtypes, keys, layouts, poisoned

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.skipif(bool(emulated.MISSING), reason=emulated.MISSING),
]


@given(keys, st.integers(0, 2**64 - 1), starts, st.one_of(st.integers(0, 40), st.integers(1000, 4100)), dtypes, layouts)
@example(2**64 - 1, 4, 2**34 - 6, 300, torch.float32, "offset")
def test_normals_have_the_bits_of_numpy(key, field, start, count, dtype, layout) -> None:
    check_normal(key, field, start, count, dtype, layout, "emulated")


def test_each_normal_is_written_once() -> None:
    out = poisoned((7, 1021), torch.bfloat16, "sliced")
    emulated.traffic()
    ops.normal_(out, 5, 1, 3, backend="emulated")
    assert emulated.traffic() == {"launches": ["normal_"], "read": 0, "written": out.nbytes}
    expected = poisoned((7, 1021), torch.bfloat16)
    noise_reference.normal_(expected, 5, 1, 3)
    assert_same_bits(out, expected)


@given(tensors, st.sampled_from([1.0, 2.0, 3.0, 0.125, 0.7]))
@example([(3, 4096, torch.float32, "contiguous"), (5, 819, torch.float64, "sliced")], 3.0)
@example([(1, 1, torch.bfloat16, "offset"), (0, 5, torch.float32, "contiguous")], 1.0)
def test_mean_square_has_the_bits_of_the_reference(shapes: list[tuple], divisor: float) -> None:
    check_mean_square(shapes, divisor, "emulated")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("divisor", [2.0, 3.0])
def test_mean_square_of_whole_blocks_and_a_rest(dtype: torch.dtype, divisor: float) -> None:
    """More blocks than a warp takes at once, tensors that share a launch, and each element read once."""
    tensors = [data((size,), dtype, size) for size in (11 * 4096, 4096, 9 * 4096 + 5, 4095, 1)]
    tensors.append(data((8 * 4096 + 1,), dtype)[1:])
    emulated.traffic()
    actual = ops.mean_square(tensors, [divisor] * len(tensors), backend="emulated")
    traffic = emulated.traffic()
    assert traffic["launches"] == ["mean_square"]
    assert traffic["read"] == sum(tensor.nbytes for tensor in tensors) and not traffic["written"]
    assert_same_bits(actual, noise_reference.mean_square(tensors, [divisor] * len(tensors)))


def test_mean_square_of_more_than_one_level_of_blocks() -> None:
    # 4097 blocks of 4096: the block sums themselves fill more than one block. Another tensor's warps come in between.
    values = torch.randn(4097 * 4096 - 11, generator=torch.Generator().manual_seed(2))
    tensors = [values.bfloat16(), values[: 3 * 4096]]
    actual = ops.mean_square(tensors, [2.0, 1.0], backend="emulated")
    assert_same_bits(actual, noise_reference.mean_square(tensors, [2.0, 1.0]))


@pytest.mark.parametrize("divisor", [2.0**-149, 2.0**-127, -(2.0**126), 2.0**127, 1e300, float("inf"), 2.0**-1060])
def test_mean_square_by_the_smallest_and_largest_divisors(divisor: float) -> None:
    for dtype in DTYPES:
        tensors = [data((4096 + 9,), dtype), data((5, 9), dtype)]
        actual = ops.mean_square(tensors, [divisor] * 2, backend="emulated")
        assert_same_bits(actual, noise_reference.mean_square(tensors, [divisor] * 2))


def test_mean_square_of_nothing_is_zero() -> None:
    tensors = [torch.empty(0), torch.ones(3), torch.empty(4, 0, dtype=torch.float64)]
    assert ops.mean_square(tensors, backend="emulated").tolist() == [0.0, 1.0, 0.0]


def test_not_a_number_anywhere_is_not_a_number() -> None:
    for at in (0, 4097, 3 * 4096):
        values = data((3 * 4096 + 1,), torch.bfloat16)
        values[at] = torch.nan
        assert ops.mean_square([values], backend="emulated").isnan().all()
