"""The normals, and the mean square that sets their size, with the bits of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from growkernels import ops
from growkernels.kernels.mean_square import mean_square
from growkernels.kernels.noise import normal_
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.noise.reference import z
from tests.ops.tensors import DTYPES, POISON, assert_same_bits, data, laid_out, poisoned
from tests.ops.tools import dtypes, keys, layouts

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)


@pytest.mark.parametrize(
    ("key", "field", "start", "count"),
    [
        (0x0123456789ABCDEF, 0, 0, 5008),
        (-3, 4, 2**34 - 6, 3000),
        (2**63 - 1, -1, 2**40 + 7, 9),
        (1, 1, 3, 1),
        (5, 2**32 + 1, 2, 10007),
        (-(2**63), 2, 2**62, 4),
        (2**31, 2**31, 2**31 - 5, 11),
        (7, 0, 0, 0),
    ],
)
def test_normals_have_the_bits_of_numpy(key: int, field: int, start: int, count: int) -> None:
    memory = torch.full((count + 2,), POISON)
    normal_(memory[1:-1], key, field, start)
    expected = z(key, field, start + np.arange(count)) if count else np.empty(0, np.float32)
    assert np.array_equal(memory[1:-1].numpy().view(np.uint32), expected.view(np.uint32))
    assert memory[0] == memory[-1] == POISON


@settings(max_examples=20, phases=UNSHRUNK)
@given(
    keys,
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 16, 3, 2**32 - 3, 2**34 - 6, 2**40 + 7, 2**62 - 4000]),
    st.sampled_from([(31,), (64, 48), (7, 9), (3, 5, 7), (5, 1)]),
    dtypes,
    layouts,
)
def test_any_tensor_takes_normals(
    key: int, field: int, start: int, shape: tuple[int, ...], dtype: torch.dtype, layout: str
) -> None:
    out, expected = poisoned(shape, dtype, layout), poisoned(shape, dtype)
    noise_reference.normal_(expected, key, field, start)
    ops.normal_(out, key, field, start, backend="triton")
    assert_same_bits(out, expected)


def test_mean_squares_have_the_bits_of_the_reference() -> None:
    # An empty tensor, one element, a block and one more, odd shapes; a launch takes all of one dtype and kind of view.
    shapes, divisors = ((0, 5), (1, 1), (4097,), (3, 5, 7), (130, 129)), (1.0, 2.0, 3.0, 2.0, 3.0)
    tensors = [data(shape, DTYPES[i % 4], i) for i, shape in enumerate(shapes)]
    tensors[3] = laid_out(tensors[3], "sliced")
    assert_same_bits(mean_square(tensors, divisors), noise_reference.mean_square(tensors, divisors))


def test_mean_square_of_one_tensor_in_other_memory() -> None:
    for layout in ("transposed", "sliced", "offset"):
        tensor = laid_out(data((65, 67), torch.bfloat16), layout)
        assert_same_bits(mean_square([tensor], [3.0]), noise_reference.mean_square([tensor], [3.0]))
    nothing = torch.tensor([float("nan"), 1.0, float("inf")])
    assert_same_bits(
        mean_square([nothing, nothing[2:]], [1.0, 2.0]), torch.tensor([float("nan"), float("inf")]).double()
    )


@pytest.mark.slow
def test_mean_square_of_more_than_one_level_of_blocks() -> None:
    tensor = data((4097 * 4096 - 11,))
    assert_same_bits(mean_square([tensor], [2.0]), noise_reference.mean_square([tensor], [2.0]))
