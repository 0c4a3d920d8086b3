"""The CUDA kernels of `replicate`, every thread of a GPU played by the CPU: the bits of the reference on every path."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from growkernels import ops
from growkernels.ops.replicate import reference as replicate_reference
from tests import emulated
from tests.ops.test_replicate import check_replicate
from tests.ops.tools import DTYPES, assert_same_bits, data, dtypes, laid_out, layouts, poisoned, with_special

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.skipif(bool(emulated.MISSING), reason=emulated.MISSING),
]
VECTORS, ELEMENTS = "replicate of vectors", "replicate of elements"


def run(outs: list[Tensor], blocks: list[Tensor], index: list[int], *arguments: object) -> tuple[list[str], int]:
    """Launches and bytes read of a call whose outputs have the bits of the reference, each byte written once."""
    emulated.traffic()
    ops.replicate_(outs, blocks, index, *arguments, backend="emulated")
    traffic = emulated.traffic()
    assert traffic["written"] == sum(out.nbytes for out in outs)
    scale, *noise = *arguments, *(None, 0.0, 0.0, 0)[len(arguments) :]
    expected = [poisoned(tuple(out.shape), out.dtype) for out in outs]
    scales = scale if isinstance(scale, list) else [1.0 if scale is None else scale] * len(outs)
    replicate_reference.replicate_(expected, blocks, index, scales, *noise)
    for out, right in zip(outs, expected, strict=True):
        assert_same_bits(out, right)
    return traffic["launches"], traffic["read"]


@given(st.data())
def test_replicate_has_the_bits_of_the_reference(case: st.DataObject) -> None:
    check_replicate(case, "emulated")


@given(st.data())
def test_each_element_is_written_once(case: st.DataObject) -> None:
    sizes = st.one_of(st.integers(0, 40), st.integers(1000, 1100), st.integers(4000, 4200))
    blocks = [
        data((size,), case.draw(dtypes), seed) for seed, size in enumerate(case.draw(st.lists(sizes, min_size=1)))
    ]
    blocks = [laid_out(block, case.draw(layouts)) for block in blocks]
    index = case.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=6))
    outs = [poisoned(tuple(blocks[i].shape), blocks[i].dtype, case.draw(layouts)) for i in index]
    run(outs, blocks, index, None, *case.draw(st.sampled_from([(), (0.2, 0.1, 7)])))


@pytest.mark.parametrize("noise", [(), (0.2, 0.1, 5)], ids=["clean", "noisy"])
@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_every_pair_of_dtypes(source: torch.dtype, target: torch.dtype, noise: tuple) -> None:
    """Several tasks of every block; a source is read once for all its copies."""
    block = with_special(data((5, 8192), source))
    outs = [poisoned((5, 8192), target) for _ in range(3)]
    launches, read = run(outs, [block], [0, 0, 0], [1.0, 0.5, 1 / 3], *noise)
    assert read == block.nbytes * (2 if source == target == torch.float64 and not noise else 1)
    if torch.float64 in (source, target):
        # What is only moved goes by vectors in halves.
        assert launches == ([VECTORS, ELEMENTS] if source == target and not noise else [ELEMENTS])
    else:
        assert launches == [VECTORS]


@pytest.mark.parametrize("noise", [(), (0.5, 0.1, 5)], ids=["clean", "noisy"])
def test_unaligned_ends_go_by_elements_and_the_rest_by_vectors(noise: tuple) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for shift in (0, 1, 3):
            for size in (64 - shift, 2083):
                memory = with_special(data((size + shift,), dtype))
                block, out = memory[shift:], torch.full_like(memory, 12345.0)
                other = torch.full_like(memory, 12345.0)
                launches, read = run([out[shift:], other[shift:]], [block], [0, 0], 0.5, *noise)
                whole = not shift and size % (16 // dtype.itemsize) == 0
                assert launches == ([VECTORS] if whole else [VECTORS, ELEMENTS])
                assert read == block.nbytes
                assert (out[:shift] == 12345).all() and (other[:shift] == 12345).all()
    # Where the ends are not equally aligned, elements all the way.
    memory = data((4099,))
    out = poisoned((4096,), torch.float32)
    assert run([out], [memory[3:]], [0], 1.0, *noise) == ([ELEMENTS], out.nbytes)


def test_noise_that_begins_inside_a_counter_still_goes_by_vectors() -> None:
    for dtype in (torch.float32, torch.float16):
        for before in (1, 2, 3):
            blocks = [data((before,), dtype), data((3, 4096), dtype)]
            outs = [torch.full_like(blocks[i], torch.nan) for i in (0, 1, 0, 1)]
            launches, _ = run(outs, blocks, [0, 1, 0, 1], None, 0.3, 0.1, 2**64 - 1)
            assert launches == [VECTORS, ELEMENTS]


def test_many_tensors_are_one_launch() -> None:
    blocks = [data((8 * (seed % 5 + 1),), torch.bfloat16, seed) for seed in range(400)]
    index = [*range(400), *range(0, 400, 3)]
    outs = [torch.full_like(blocks[i], torch.nan) for i in index]
    for noise in ((), (0.2, 0.1, 5)):
        launches, read = run(outs, blocks, index, None, *noise)
        assert launches == [VECTORS] and read == sum(block.nbytes for block in blocks)


def test_strides_of_many_axes() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        block = data((3, 4, 5, 6, 7), dtype).permute(4, 1, 3, 0, 2)
        out = poisoned((3, 5, 6, 4, 7), dtype).permute(4, 3, 2, 0, 1)
        for arguments in ((), (0.5,), (0.5, 0.2, 0.1, 9)):
            launches, _ = run([out.fill_(torch.nan)], [block], [0], *arguments)
            assert launches == [ELEMENTS]


def test_moved_copies_keep_every_bit() -> None:
    for dtype, bits in ((torch.float32, torch.int32), (torch.bfloat16, torch.int16), (torch.float64, torch.int64)):
        for layout in ("contiguous", "offset", "transposed"):
            block = with_special(data((37, 40), dtype))
            block.view(bits)[0, 0] += 5
            block = laid_out(block, layout)
            for out in ops.replicate([block, block], [0, 1], backend="emulated"):
                assert out.view(bits).equal(block.contiguous().view(bits))
