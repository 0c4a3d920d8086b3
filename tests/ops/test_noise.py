"""Noise version 1: known answers, the same bits from every implementation, and the statistics of a normal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import arithmetic
from growkernels.ops.backends.extension import EXTENSION
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.tile.numbers import RuleNumbers
from tests.ops.tools import DTYPES, assert_same_bits, data, dtypes, keys, laid_out, layouts, poisoned

#: Bits do not depend on the instruction set.
pytestmark = pytest.mark.usefixtures("isa")

#: Random123's known answers for Philox4x32-7: counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    result = noise_reference.philox(tuple(np.array([c], np.uint32) for c in counter), key)
    assert tuple(int(word[0]) for word in result) == words
    assert EXTENSION.philox(counter, key) == words


def test_normals_known_answers() -> None:
    # Frozen when version 1 was made: a change of one bit is version 2.
    bits = noise_reference.z(0x0123456789ABCDEF, 0, np.arange(8)).view(np.uint32)
    assert [f"{b:08x}" for b in bits] == [
        "be96c400",
        "3d9af00e",
        "3faeb618",
        "40056a4e",
        "3fa0210e",
        "3c9d3efc",
        "3faec2a2",
        "3fb69034",
    ]


def test_normals_are_box_and_muller_of_their_words() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, (2, 100_000), np.uint32)
    x, y = words.astype(np.int64)
    radius = np.sqrt(-2 * np.log(((x >> 1) | 1) / 2**31))
    # y's low 23 bits turn a quarter circle, its top two bits choose the quadrant.
    angle = np.pi / 2 * (y % 2**23) / 2**23
    z0 = radius * np.cos(angle) * np.where(y >> 31, -1, 1)
    z1 = radius * np.sin(angle) * np.where(y >> 30 & 1, -1, 1)
    # Relative error of the three polynomials, and of about ten float32 roundings; near radius 0 the logarithm of u rounded
    # to 24 bits is good to 2^-24 absolutely, hence the radius to its square root.
    for actual, exact in zip(noise_reference.normal_pair(*words), (z0, z1), strict=True):
        assert (np.abs(actual - exact) <= 2e-5 * radius + 2**-12 * (radius < 2**-4)).all()


def test_key_known_answers() -> None:
    assert ops.noise_key(0, "model.embed_tokens.weight") == 0x8FAA5250B28BFBD4
    assert ops.noise_key(2**64 - 1, "é") == 0xEABA3D7E7928855C
    with pytest.raises(GrowthError, match="seed is -1"):
        ops.noise_key(-1, "a")


#: Places in a field: where counters and halves of them begin and end.
starts = st.sampled_from([0, 1, 2, 3, 5, 2**32 - 3, 2**34 - 6, 2**40 + 7, 2**62 - 200])


def check_normal(key, field, start, count, dtype, layout, backend: str | None) -> None:
    out = poisoned((count,), dtype, layout)
    ops.normal_(out, key, field - 2**64 if field >= 2**63 else field, start, backend=backend)
    e = np.uint64(start) + np.arange(count, dtype=np.uint64)
    assert_same_bits(out, arithmetic.store(noise_reference.z(key, field, e), dtype))


@given(keys, st.integers(0, 2**64 - 1), starts, st.integers(0, 300), dtypes, layouts)
@example(2**64 - 1, 4, 2**34 - 6, 300, torch.float32, "offset")
def test_normals_have_the_bits_of_numpy(key, field, start, count, dtype, layout) -> None:
    check_normal(key, field, start, count, dtype, layout, None)


def test_normals_of_matrices_are_row_major() -> None:
    flat = torch.empty(6 * 35)
    ops.normal_(flat, 5, 1, 3)
    for layout in ("transposed", "sliced", "offset"):
        out = laid_out(torch.full((6, 35), 1.0), layout)
        ops.normal_(out, 5, 1, 3)
        assert_same_bits(out, flat.view(6, 35))


def test_edge_words_give_finite_normals() -> None:
    words = np.array([0, 1, 2, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0x3F3504F3, 0x7E6A09E6], np.uint32)
    x, y = (a.reshape(-1) for a in np.meshgrid(words, words))
    for values in noise_reference.normal_pair(x, y):
        assert np.isfinite(values).all() and np.abs(values).max() < 6.7


def test_statistics_of_ten_million_draws() -> None:
    # Thresholds are five standard errors of each statistic of n independent normals: a right generator fails one of them
    # in a million seeds, and the seed is fixed.
    n = 10_000_000
    draws = torch.empty(n)
    ops.normal_(draws, ops.noise_key(1, "statistics"), 0)
    z = draws.double()
    mean, variance = z.mean().item(), z.var().item()
    centered = z - mean
    skewness = (centered**3).mean().item() / variance**1.5
    kurtosis = (centered**4).mean().item() / variance**2
    assert abs(mean) < 5 / math.sqrt(n)
    assert abs(variance - 1) < 5 * math.sqrt(2 / n)
    assert abs(skewness) < 5 * math.sqrt(6 / n)
    assert abs(kurtosis - 3) < 5 * math.sqrt(24 / n)
    # Kolmogorov-Smirnov: P(sqrt(n) D > 2.7) is 2 exp(-2 * 2.7^2) = 9e-7.
    cumulative = torch.special.ndtr(z.sort().values)
    grid = torch.arange(1, n + 1, dtype=torch.float64) / n
    distance = torch.maximum((grid - cumulative).max(), (cumulative - grid + 1 / n).max()).item()
    assert distance * math.sqrt(n) < 2.7
    # Neighbors (lanes of one counter, and of the next) are uncorrelated.
    for lag in (1, 2, 3, 4):
        assert abs((z[lag:] * z[:-lag]).mean().item()) < 5 / math.sqrt(n)


def test_fields_and_keys_are_independent() -> None:
    n = 1_000_000
    base, other = torch.empty(n), torch.empty(n)
    ops.normal_(base, 1, 0)
    for key, field in ((1, 1), (2, 0), (1 << 32, 0), (1, 1 << 32)):
        ops.normal_(other, key, field)
        assert abs((base.double() * other.double()).mean().item()) < 5 / math.sqrt(n)


#: Rows, columns, dtype and strides of some tensors.
tensors = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 300), dtypes, layouts), max_size=4)


def check_mean_square(shapes: list[tuple], divisor: float, backend: str | None) -> None:
    tensors = [laid_out(data((r, c), d, seed), layout) for seed, (r, c, d, layout) in enumerate(shapes)]
    divisors = [divisor] * len(tensors)
    actual = ops.mean_square(tensors, divisors, backend=backend)
    assert_same_bits(actual, noise_reference.mean_square(tensors, divisors))
    for value, tensor in zip(actual.tolist(), tensors, strict=True):
        if tensor.numel():
            # Float64 sums of n squares of quotients rounded to float32: relative error below 2 * 2^-24 + n * 2^-53.
            wide = tensor.double()
            exact = (wide / divisor).square().mean().item()
            assert math.isclose(value, exact, rel_tol=2.0**-22)


@given(tensors, st.sampled_from([1.0, 2.0, 3.0]))
@example([(3, 4096, torch.float32, "contiguous"), (5, 819, torch.float64, "sliced")], 3.0)
@example([(1, 1, torch.bfloat16, "offset"), (0, 5, torch.float32, "contiguous")], 1.0)
def test_mean_square_has_the_bits_of_the_reference(shapes: list[tuple], divisor: float) -> None:
    check_mean_square(shapes, divisor, None)


def test_mean_square_of_more_than_one_level_of_blocks() -> None:
    # 4097 blocks of 4096: the block sums themselves fill more than one block.
    tensor = torch.randn(4097 * 4096 - 11, generator=torch.Generator().manual_seed(2))
    assert_same_bits(ops.mean_square([tensor], [2.0]), noise_reference.mean_square([tensor], [2.0]))


def _everything(dtype: torch.dtype, shape: tuple[int, int], backend: str | None = None) -> list[torch.Tensor]:
    weight = data(shape, dtype)
    normals = torch.empty(shape[0] * shape[1] // 2 + 1)
    ops.normal_(normals, 8, 1, backend=backend)
    extended = torch.empty((2 * shape[0] + 3, 3 * shape[1] + 5), dtype=dtype)
    rows, cols = (0, shape[0], 2, 1, -1, 3, 1, 1), (-1, 5, 1, 1, 0, shape[1], 3, 1)
    fill = ((0.0, 0.1), (0.5, 0.2), (0.0, 0.3))
    ops.tile_rules_(
        [extended],
        [weight],
        [RuleNumbers(rows, cols, 3.0, 0.5, noise_std=0.1, key=5, fill=fill).tile()],
        backend=backend,
    )
    return [
        ops.tile(weight, 2, 2, snr_db=10.0, key=1, backend=backend),
        ops.tile(weight, 2, 3, "diagonal", noise_std=0.1, key=2, backend=backend),
        ops.tile(weight, 3, 3, backend=backend),
        *ops.replicate([weight], [0, 0], [1.0, 0.5], 0.2, 0.1, 6, backend=backend),
        *ops.replicate([weight], [0, 0], 1 / 3, backend=backend),
        extended,
        normals,
        ops.mean_square([weight, normals], [3.0, 1.0], backend=backend),
    ]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    expected = _everything(dtype, (1023, 517))
    for count in (2, 3, 4):
        torch.set_num_threads(count)
        for actual, one in zip(_everything(dtype, (1023, 517)), expected, strict=True):
            assert_same_bits(actual, one)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_instruction_set_gives_the_same_bits(dtype: torch.dtype, isa: str) -> None:
    assert EXTENSION.isa() == isa
    for actual, eager in zip(_everything(dtype, (37, 113)), _everything(dtype, (37, 113), "eager"), strict=True):
        assert_same_bits(actual, eager)


@given(st.tuples(*[st.integers(0, 2**32 - 1)] * 4), st.tuples(*[st.integers(0, 2**32 - 1)] * 2))
def test_compiled_philox_is_that_of_numpy(counter: tuple[int, ...], key: tuple[int, int]) -> None:
    words = noise_reference.philox(tuple(np.array([c], np.uint32) for c in counter), key)
    assert EXTENSION.philox(counter, key) == tuple(int(word[0]) for word in words)
