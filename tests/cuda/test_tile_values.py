"""The CUDA `tile` kernels on the values of every format: conversions, halves and their rests, extreme divisors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from growkernels import ops
from growkernels.ops import arithmetic
from growkernels.ops.tile.numbers import RuleNumbers
from tests import emulated
from tests.cuda.test_tile import ELEMENTS, NOISY_ELEMENTS, NOISY_VECTORS, SMALL, VECTORS, grow, run
from tests.ops.tools import DTYPES, assert_same_bits, data, laid_out, poisoned, with_special

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.skipif(bool(emulated.MISSING), reason=emulated.MISSING),
]


@pytest.mark.parametrize("n_in", [1, 2, 3])
@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_every_pair_of_dtypes(source: torch.dtype, target: torch.dtype, n_in: int) -> None:
    """Rows of more than one task, more tasks than warps; the same by elements, a row of which is no multiple of 4."""
    for shape, names in (((9, 1032), (VECTORS, NOISY_VECTORS)), ((14, 131), (ELEMENTS, NOISY_ELEMENTS))):
        weight = with_special(data(shape, source))
        if torch.float64 in (source, target):
            names = ELEMENTS, NOISY_ELEMENTS
        rule = RuleNumbers((0, shape[0], 2, 1), (0, shape[1], n_in, 1), key=2**64 - 5)
        for spec in (
            rule,
            replace(rule, divisor=float(n_in), noise_std=0.1),
            replace(rule, diagonal=True, shift=0.25, noise_std=0.1 * (n_in % 2)),
        ):
            assert grow(weight, spec, target) == [names[spec.noise_std > 0 and n_in > 1]]


def test_every_value_of_small_formats_converts_exactly() -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for source in (torch.bfloat16, torch.float16):
        weight = every.view(source).reshape(256, 256)
        for target in SMALL:
            assert_same_bits(ops.tile(weight, 1, 1, dtype=target, backend="emulated"), weight.to(target))


@pytest.mark.parametrize("layout", ["contiguous", "offset", "transposed"])
def test_copies_keep_the_payload_of_nan(layout: str) -> None:
    for dtype, bits in ((torch.float32, torch.int32), (torch.bfloat16, torch.int16), (torch.float64, torch.int64)):
        weight = data((5, 48), dtype)
        weight.view(bits)[0, 0] = torch.full((), torch.nan, dtype=dtype).view(bits) + 3
        weight = laid_out(weight, layout)
        assert ops.tile(weight, 2, 1, backend="emulated").view(bits).equal(weight.contiguous().view(bits).repeat(2, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_differences_of_16_bit_items_need_one_rounding(dtype: torch.dtype) -> None:
    """What lets a GPU subtract them in 16 bits: the reference's way, in fp32 and then rounded, gives the same."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    others = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(1))[:96]]
    neighbors = [every.float().mul(scale).to(dtype) for scale in (0.5, 0.75, 1.0, 1.25, 2.0**-9, 2.0**-12, 2.0**-17)]
    for other in (*others[:, None].expand(-1, len(every)), *neighbors):
        difference = every.double() - other.double()
        assert_same_bits(arithmetic.store(difference.numpy(), dtype), (every.float() - other.float()).to(dtype))
    # And two halves in fp32 are the item again.
    halves = every.float() / 2
    assert_same_bits((halves + halves).to(dtype), every)


@pytest.mark.parametrize("noise_std", [2.0**-30, 0.1, 2.0**120])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pairs_of_halves(dtype: torch.dtype, noise_std: float) -> None:
    """Every value of a small format grown to two noisy halves, whose sum in 16 bits is at hand."""
    weight = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).reshape(64, 1024)
    rule = RuleNumbers((0, 64, 1, 1), (0, 1024, 2, 1), 2.0, noise_std=noise_std, key=12)
    assert grow(weight, rule) == [NOISY_VECTORS]
    # More than a pair: two and a triangle.
    rule = RuleNumbers((0, 4, 2, 1), (0, 1024, 7, 1), 2.0, noise_std=noise_std, key=12)
    assert grow(weight[30:34], rule) == [NOISY_VECTORS]


def test_warps_go_from_wide_rows_to_narrow_ones_and_back() -> None:
    """Where a task lies waits in the warp's shared memory, in another way for each."""
    outs, weights, rules = [], [], []
    for k in range(40):
        rows, columns = ((1 + k % 5, 1032 + 1024 * (k % 3)), (33, 64))[k % 2]
        weights.append(data((rows, columns), torch.bfloat16, k))
        rules.append(RuleNumbers((0, rows, 1, 1), (0, columns, 2, 1), 2.0, noise_std=0.1, key=k))
        outs.append(poisoned(rules[-1].shape, torch.bfloat16))
    assert run(outs, weights, rules) == [NOISY_VECTORS]


@pytest.mark.parametrize("divisor", [2.0**-149, 2.0**-127, -4.0, 2.0**99, 2.0**100, 2.0**127, 1e300, 2.0**-1060, 0.7])
def test_the_smallest_and_largest_divisors(divisor: float) -> None:
    for dtype in DTYPES:
        grow(with_special(data((3, 40), dtype)), RuleNumbers((0, 3, 1, 1), (0, 40, 2, 1), divisor, 2.0**-140))
