"""`tile` and the general rule: the compiled op has the bits of the reference, for every dtype, shape, stride and rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from growkernels import ops
from growkernels.ops import Noise, Tile
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.tile import reference as tile_reference
from tests.ops.tools import (
    DTYPES,
    assert_same_bits,
    data,
    dtypes,
    keys,
    laid_out,
    layouts,
    poisoned,
    specs,
    with_special,
)

#: Bits do not depend on the instruction set.
pytestmark = pytest.mark.usefixtures("isa")


@st.composite
def rule_cases(draw: st.DrawFn) -> tuple:
    shape = draw(st.integers(0, 40)), draw(st.integers(0, 70))
    return shape, draw(specs(*shape)), draw(dtypes), draw(dtypes), draw(layouts), draw(layouts), draw(st.booleans())


def check_rule(case: tuple, backend: str | None) -> None:
    """Any rule, dtypes, strides; NaN, infinities and subnormals among the values."""
    shape, spec, source_dtype, target_dtype, source_layout, target_layout, special = case
    weight = data(shape, source_dtype)
    weight = laid_out(with_special(weight) if special else weight, source_layout)
    out = poisoned(spec.shape, target_dtype, target_layout)
    expected = poisoned(spec.shape, target_dtype)
    ops.tile_rules_([out], [weight], [spec.tile()], backend=backend)
    tile_reference.tile_rules_([expected], [weight], [spec.tile()])
    assert_same_bits(out, expected)


@settings(max_examples=400)
@given(rule_cases())
def test_rule_has_the_bits_of_the_reference(case: tuple) -> None:
    check_rule(case, None)


@given(st.data())
def test_any_slice_equals_the_whole(case: st.DataObject) -> None:
    shape = case.draw(st.integers(1, 20)), case.draw(st.integers(1, 30))
    spec, dtype = case.draw(specs(*shape)), case.draw(dtypes)
    weight = data(shape, case.draw(dtypes))
    whole = poisoned(spec.shape, dtype)
    ops.tile_rules_([whole], [weight], [spec.tile()])
    rows, cols = (range(*sorted((case.draw(st.integers(0, n)), case.draw(st.integers(0, n))))) for n in spec.shape)
    part = tile_reference.tile_rule_slice(weight, spec.tile(), spec.shape, rows, cols, dtype)
    assert_same_bits(part, whole[rows.start : rows.stop, cols.start : cols.stop])


def check_vector(case: st.DataObject, backend: str | None) -> None:
    """Any rule for a tensor of one axis."""
    size = case.draw(st.integers(0, 70))
    spec = case.draw(specs(1, size, noise=False))
    rule = replace(spec, diagonal=False).tile()
    rule = replace(rule, axes=rule.axes[1:], sum_axis=None)
    source, target = case.draw(dtypes), case.draw(dtypes)
    weight = laid_out(data((size,), source), case.draw(layouts))
    out = poisoned(rule.shape, target, case.draw(layouts))
    ops.tile_rules_([out], [weight], [rule], backend=backend)
    assert_same_bits(out, tile_reference.tile_rule_slice(weight, rule, out.shape, range(1), range(len(out)), target)[0])


@given(st.data())
def test_vectors_are_one_row(case: st.DataObject) -> None:
    check_vector(case, None)


tile_cases = st.tuples(
    st.tuples(st.integers(0, 33), st.integers(0, 130)),
    st.integers(1, 4),
    st.integers(1, 7),
    st.sampled_from(["symmetric", "diagonal"]),
    st.sampled_from([(None, None), (0.1, None), (None, 10.0), (None, 40.0)]),
    keys,
    dtypes,
    dtypes,
    layouts,
    layouts,
)
#: A case for both backends: a target neither of whose axes runs along memory.
SLICED = (5, 7), 3, 2, "diagonal", (0.1, None), 2**64 - 1, *DTYPES[:2], "transposed", "sliced"


def check_tile(case: tuple, backend: str | None) -> None:
    """Whole copies into memory that exists and into new memory."""
    shape, n_out, n_in, variant, noise, key, source, target, from_layout, to_layout = case
    weight = laid_out(data(shape, source), from_layout)
    out = poisoned((n_out * shape[0], n_in * shape[1]), target, to_layout)
    arguments = weight, n_out, n_in, variant, *noise, key
    ops.tile_(out, *arguments, backend=backend)
    expected = ops.tile(*arguments, target, backend="eager")
    assert_same_bits(out, expected)
    assert_same_bits(ops.tile(*arguments, target, backend=backend), expected)


@given(tile_cases)
@example(SLICED)
def test_tile_equals_eager(case: tuple) -> None:
    check_tile(case, None)


@pytest.mark.parametrize("shape", [(1, 1), (257, 1031), (1, 100_003), (3001, 5)])
@pytest.mark.parametrize("variant", ["symmetric", "diagonal"])
@pytest.mark.parametrize("n_in", [2, 3])
def test_large_and_odd_sizes(shape: tuple[int, int], variant: str, n_in: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        weight = data(shape, dtype)
        arguments = weight, 2, n_in, variant, 0.02, None, 77
        assert_same_bits(ops.tile(*arguments), ops.tile(*arguments, backend="eager"))


def test_every_value_of_small_formats_converts_exactly() -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for source in (torch.bfloat16, torch.float16):
        weight = every.view(source).reshape(256, 256)
        for target in DTYPES:
            assert_same_bits(ops.tile(weight, 1, 1, dtype=target), weight.to(target))
    # Float32 neighbors of every bfloat16 midpoint, NaN payloads included.
    midpoints = every.to(torch.int32) * 65536 + 0x8000
    for nudge in (-1, 0, 1):
        weight = (midpoints + nudge).view(torch.float32).reshape(256, 256)
        for target in (torch.bfloat16, torch.float16):
            out = ops.tile(weight, 1, 1, dtype=target)
            assert_same_bits(out, weight.to(target))
            assert out.isnan().equal(weight.isnan())
    # The same for float16, whose midpoints lie elsewhere: between consecutive values, normal and subnormal, odd and even.
    values = every.view(torch.float16).float()
    values = values[values.isfinite()].sort().values.unique()
    midpoints = ((values[1:] + values[:-1]) / 2).view(torch.int32)
    for nudge in (-1, 0, 1):
        weight = (midpoints + nudge).view(torch.float32).reshape(1, -1)
        assert_same_bits(ops.tile(weight, 1, 1, dtype=torch.float16), weight.to(torch.float16))


@pytest.mark.parametrize("target", [torch.bfloat16, torch.float16])
def test_float64_is_rounded_once(target: torch.dtype) -> None:
    # Just above a midpoint of the target, by less than float32 can tell: by way of float32 it would round down.
    ulp = 2.0**-7 if target is torch.bfloat16 else 2.0**-10
    weight = torch.tensor([[1 + ulp / 2 + 2.0**-40, 1 + ulp / 2, -(1 + ulp / 2 + 2.0**-40)]], dtype=torch.float64)
    expected = torch.tensor([[1 + ulp, 1.0, -1 - ulp]], dtype=torch.float64).to(target)
    for backend in (None, "eager"):
        assert_same_bits(ops.tile(weight, 1, 1, dtype=target, backend=backend), expected)


@given(st.integers(1, 3), st.integers(2, 7), st.sampled_from(["symmetric", "diagonal"]), dtypes)
def test_noise_sums_to_zero_up_to_the_stored_rounding(n_out: int, n_in: int, variant: str, dtype: torch.dtype) -> None:
    weight = data((17, 29), dtype)
    std = 0.1
    grown = ops.tile(weight, n_out, n_in, variant, noise_std=std, key=3).reshape(n_out, 17, n_in, 29).double()
    # Each value is stored within half an ulp, and was computed in float32 (float64) with at most four roundings of terms no
    # larger than the largest stored value plus W. Subnormal float16 results are off by at most half the smallest one.
    working = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32)
    unit = torch.finfo(dtype).eps / 2 + 4 * working.eps
    largest = grown.abs().amax(dim=2) + weight.double().abs()
    bound = n_in * (unit * largest + torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps / 2)
    assert ((grown.sum(2) - weight.double()).abs() <= bound).all()


def test_nan_stays_nan_and_only_there() -> None:
    weight = data((8, 16))
    weight[3, 5] = float("nan")
    for noise in (None, 0.1):
        nan = ops.tile(weight, 2, 4, noise_std=noise).isnan()
        assert nan.equal(weight.isnan().repeat(2, 4))


def test_copies_keep_the_payload_of_nan() -> None:
    for dtype, bits in ((torch.float32, torch.int32), (torch.bfloat16, torch.int16)):
        weight = torch.tensor([[float("nan"), 1.0, -0.0]], dtype=dtype)
        weight.view(bits)[0, 0] += 3
        assert ops.tile(weight, 2, 1).view(bits).equal(weight.view(bits).repeat(2, 1))


@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
@pytest.mark.parametrize("variant", ["symmetric", "diagonal"])
def test_noise_by_hand(variant: str, backend: str | None) -> None:
    # Straight from the definition, entry by entry, for two pairs and a triangle.
    n_out, n_in, std, key = 2, 7, np.float32(0.1), 11
    weight = data((2, 3))
    grown = ops.tile(weight, n_out, n_in, variant, noise_std=float(std), key=key, backend=backend).numpy()
    m, h = 4, np.float32(np.sqrt(3) / 2)
    z = noise_reference.z(key, 0, np.arange(n_out * 2 * m * 3)).reshape(n_out * 2, m, 3)
    for row in range(n_out * 2):
        for column in range(3):
            w = weight[row % 2, column].numpy()
            keeps = [variant == "symmetric" or copy == row // 2 % n_in for copy in range(n_in)]
            s = [(w / np.float32(7) if variant == "symmetric" else w) if keep else np.float32(0) for keep in keeps]
            entries = []
            for pair in (0, 1):
                first = s[2 * pair] + std * z[row, pair, column]
                entries += [first, (s[2 * pair] + s[2 * pair + 1]) - first]
            z1, z2 = z[row, 2, column], z[row, 3, column]
            entries += [s[4] + std * z1, s[5] + std * (-z1 / 2 + h * z2), s[6] + std * (-z1 / 2 - h * z2)]
            assert grown[row, column::3].tolist() == [float(e) for e in entries]


@pytest.mark.slow
def test_more_than_two_to_the_31_elements() -> None:
    weight = data((1, 33_001), torch.bfloat16).expand(32_801, 33_001)
    out = torch.empty(65_602, 33_001, dtype=torch.bfloat16)
    spec = replace(Tile.copies(weight.shape, (2, 1)), divisor=3.0)
    ops.tile_rules_([out], [weight], [spec])
    noisy = torch.empty(32_801, 66_002, dtype=torch.bfloat16)
    ops.tile_(noisy, weight, 1, 2, noise_std=0.1, key=4)
    noise = Tile.copies(weight.shape, (1, 2), 1, Noise(std=0.1), key=4)
    for rows in (range(2), range(32_700, 32_704), range(32_799, 32_801)):
        for big, rule, cols in ((out, spec, range(33_001)), (noisy, noise, range(66_002))):
            expected = tile_reference.tile_rule_slice(weight, rule, tuple(big.shape), rows, cols, torch.bfloat16)
            assert_same_bits(big[rows.start : rows.stop], expected)
    assert_same_bits(out[-1], out[0])


def test_signal_to_noise_ratio() -> None:
    weight = torch.randn(400, 500, generator=torch.Generator().manual_seed(1))
    for variant, scale in (("symmetric", 3.0), ("diagonal", 1.0)):
        for db in (10.0, 20.0):
            for n_in in (2, 3) if variant == "symmetric" else (3,):
                clean = ops.tile(weight, 2, n_in, variant)
                noise = (ops.tile(weight, 2, n_in, variant, snr_db=db, key=9) - clean).double()
                signal = (weight / (n_in if variant == "symmetric" else scale)).double()
                measured = 10 * torch.log10(signal.square().mean() / noise.square().mean())
                assert abs(measured - db) < 0.1


def test_snr_is_the_std_of_the_mean_square() -> None:
    weight = data((65, 129), torch.bfloat16)
    std = noise_reference.noise_std(float(ops.mean_square([weight], [2.0])), 10.0)
    assert np.float32(std) == std
    assert_same_bits(ops.tile(weight, 2, 2, snr_db=10.0, key=4), ops.tile(weight, 2, 2, noise_std=std, key=4))


def test_many_rules_at_once() -> None:
    weights = [data((n, 2 * n + 1), dtype) for n in range(9) for dtype in DTYPES]
    rules = [Tile.copies(w.shape, (2, 2), 1, Noise(std=0.1), key=i) for i, w in enumerate(weights)]
    outs = [poisoned(rule.shape, w.dtype) for rule, w in zip(rules, weights, strict=True)]
    ops.tile_rules_(outs, weights, rules)
    for out, weight, rule in zip(outs, weights, rules, strict=True):
        assert_same_bits(out, ops.tile(weight, 2, 2, noise_std=0.1, key=rule.key))


def test_memory_between_strides_is_not_touched() -> None:
    wide = torch.full((6, 20), 7.0)
    ops.tile_(wide[1:5, 2:18:2], data((2, 4)), 2, 2, noise_std=0.1)
    touched = torch.zeros(6, 20, dtype=torch.bool)
    touched[1:5, 2:18:2] = True
    assert (wide[~touched] == 7.0).all() and (wide[touched] != 7.0).all()
