"""`replicate`: copies bit for bit, scales and noise with the bits of the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from growkernels import ops
from growkernels.ops.replicate import reference as replicate_reference
from tests.ops.tools import DTYPES, assert_same_bits, data, dtypes, keys, laid_out, layouts, poisoned, with_special

#: Bits do not depend on the instruction set.
pytestmark = pytest.mark.usefixtures("isa")


def check_replicate(case: st.DataObject, backend: str | None) -> None:
    """Any blocks, copies, scales and noise: into outputs of any dtype and strides, and as new tensors."""
    shapes = st.lists(st.integers(0, 13), min_size=1, max_size=3).map(tuple)
    blocks = [
        laid_out(with_special(data(case.draw(shapes), case.draw(dtypes), seed)), case.draw(layouts))
        for seed in range(case.draw(st.integers(1, 3)))
    ]
    index = case.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=5))
    scale = [case.draw(st.sampled_from([1.0, 0.0, 0.5, 1 / 3])) for _ in index]
    alpha = case.draw(st.sampled_from([0.0, 0.2, 1.0]))
    key = case.draw(keys)
    outs = [poisoned(tuple(blocks[i].shape), case.draw(dtypes), case.draw(layouts)) for i in index]
    ops.replicate_(outs, blocks, index, scale, alpha, 0.05, key, backend=backend)
    expected = [poisoned(tuple(o.shape), o.dtype) for o in outs]
    replicate_reference.replicate_(expected, blocks, index, scale, alpha, 0.05, key)
    for out, other in zip(outs, expected, strict=True):
        assert_same_bits(out, other)
    functional = ops.replicate(blocks, index, scale, alpha, 0.05, key, backend=backend)
    eager = ops.replicate(blocks, index, scale, alpha, 0.05, key, backend="eager")
    for out, other in zip(functional, eager, strict=True):
        assert out.is_contiguous()
        assert_same_bits(out, other)


@given(st.data())
def test_replicate_has_the_bits_of_the_reference(case: st.DataObject) -> None:
    check_replicate(case, None)


def test_plain_copies_keep_every_bit() -> None:
    for dtype, bits in ((torch.float32, torch.int32), (torch.bfloat16, torch.int16), (torch.float64, torch.int64)):
        blocks = [with_special(data((37, 41), dtype, seed)) for seed in range(3)]
        blocks[0].view(bits)[0, 0] += 5
        index = [0, 1, 2, 0, 1, 2, 2]
        for out, i in zip(ops.replicate(blocks, index), index, strict=True):
            assert out.view(bits).equal(blocks[i].view(bits))


@pytest.mark.parametrize("axes", range(1, 9))
def test_any_number_of_axes(axes: int) -> None:
    shape = (2, 3, 2, 1, 3, 2, 2, 3)[:axes]
    block = data(shape, seed=axes).permute(*reversed(range(axes)))
    out = torch.full(block.shape, torch.nan)
    ops.replicate_([out], [block], [0], scale=0.3)
    assert_same_bits(out, torch.mul(block, torch.tensor(0.3)))


def test_noise_is_counted_over_the_outputs_end_to_end() -> None:
    blocks = [data((5, 7)), data((11,))]
    outs = ops.replicate(blocks, [0, 1, 0], 1.0, 1.0, 2.0, 99)
    z = torch.empty(5 * 7 + 11 + 5 * 7)
    ops.normal_(z, 99, 1)
    assert_same_bits(
        torch.cat([out.reshape(-1) for out in outs]),
        0.0 * torch.cat([blocks[i].reshape(-1) for i in (0, 1, 0)]) + 2 * z,
    )


def test_large_blocks() -> None:
    for dtype in DTYPES:
        block = data((301, 1009), dtype)
        arguments = [block], [0, 0], [1.0, -0.3], 0.2, 0.1, 12
        for out, other in zip(ops.replicate(*arguments), ops.replicate(*arguments, backend="eager"), strict=True):
            assert_same_bits(out, other)
