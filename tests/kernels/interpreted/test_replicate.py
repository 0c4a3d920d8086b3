"""`replicate`: copies bit for bit, scales and noise with the bits of the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from growkernels import ops
from growkernels.kernels.replicate import replicate
from growkernels.ops.replicate import reference as replicate_reference
from tests.ops.rules import Choose, Seeded
from tests.ops.tensors import DTYPES, LAYOUTS, POISON, assert_same_bits, data, laid_out, poisoned, with_special
from tests.ops.tools import Drawn


def check(choose: Choose) -> None:
    """Any copies of one to three blocks have the bits of the reference, and nothing else is written."""
    blocks = []
    for seed in range(choose.integer(1, 3)):
        shape = tuple(choose.integer(0, 13) for _ in range(choose.integer(1, 3)))
        shape = choose.pick((shape, shape, (8, 16 * choose.integer(1, 30))))
        blocks.append(laid_out(with_special(data(shape, choose.pick(DTYPES), seed)), choose.pick(LAYOUTS)))
    index = [choose.integer(0, len(blocks) - 1) for _ in range(choose.integer(1, 5))]
    scale = [choose.pick((1.0, 1.0, 0.0, 0.5, 1 / 3)) for _ in index]
    alpha, key = choose.pick((0.0, 0.2, 1.0)), choose.integer(0, 2**64 - 1)
    outs = [poisoned(tuple(blocks[i].shape), choose.pick(DTYPES), choose.pick(LAYOUTS)) for i in index]
    replicate(outs, blocks, index, scale, alpha, 0.05, key)
    expected = [poisoned(tuple(out.shape), out.dtype) for out in outs]
    replicate_reference.replicate_(expected, blocks, index, scale, alpha, 0.05, key)
    for out, right in zip(outs, expected, strict=True):
        assert_same_bits(out, right)
        if out._base is not None:
            out.fill_(POISON)
            assert (out._base == out.new_full((), POISON)).all()


@settings(max_examples=10, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.data())
def test_copies_have_the_bits_of_the_reference(choices: st.DataObject) -> None:
    check(Drawn(choices.draw))


def test_seeded_copies_have_the_bits_of_the_reference() -> None:
    for seed in range(15):
        check(Seeded(seed))


@pytest.mark.slow
def test_many_seeded_copies_have_the_bits_of_the_reference() -> None:
    for seed in range(1000, 1600):
        check(Seeded(seed))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_blocks_of_several_programs(dtype: torch.dtype) -> None:
    # Whole vectors; and an odd number of elements, after which the noise of the second copy begins inside a counter.
    for shape in ((3, 1024), (61, 67)):
        arguments = [data(shape, dtype)], [0, 0], [1.0, -0.3], 0.2, 0.1, 2**63 + 12
        for actual, right in zip(
            ops.replicate(*arguments, backend="triton"), ops.replicate(*arguments, backend="eager"), strict=True
        ):
            assert_same_bits(actual, right)


def test_plain_copies_keep_every_bit() -> None:
    for dtype, bits in ((torch.float32, torch.int32), (torch.bfloat16, torch.int16), (torch.float64, torch.int64)):
        block = with_special(data((37, 41), dtype))
        block.view(bits)[0, 0] += 5
        for out in ops.replicate([block], [0, 0], backend="triton"):
            assert out.view(bits).equal(block.view(bits))


def test_more_axes_than_any_kernel_has_parameters_for() -> None:
    block = data((2,) * 10).permute(*range(9, -1, -2), *range(8, -1, -2))
    assert_same_bits(ops.replicate([block], [0], 0.5, backend="triton")[0], block.contiguous() * 0.5)
