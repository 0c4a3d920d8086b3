"""Paths of the CPU kernels that only size or memory layout choose: streamed stores, tall blocks, bands of one matrix."""

from __future__ import annotations

import pytest
import torch

from growkernels import ops
from growkernels.ops.tile.numbers import RuleNumbers

_C = pytest.importorskip("growkernels._C", reason="the compiled extension is not built")

#: Tiled 2 x 2 these pass the size from which stores go past the caches, with no side a multiple of a block or a line.
ROWS, COLUMNS = 1031, 1173
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def poisoned(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((rows, columns), torch.nan, dtype=dtype)


def weight(dtype: torch.dtype, rows: int = ROWS, columns: int = COLUMNS) -> torch.Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_clean_tiles(isa: str, dtype: torch.dtype) -> None:
    w = weight(dtype)
    expected = (w.double() / 2).to(dtype).repeat(2, 2)  # halves are exact in float64, so this rounds once
    by_rows, by_columns = poisoned(2 * ROWS, 2 * COLUMNS, dtype), poisoned(2 * COLUMNS, 2 * ROWS, dtype).t()
    for source in (w, w.t().contiguous().t(), w.repeat_interleave(2, dim=1)[:, ::2]):
        for out in (by_rows, by_columns):
            out.fill_(torch.nan)
            ops.tile_(out, source, 2, 2)
            assert torch.equal(out, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_in", [2, 3])
def test_large_noisy_tiles_do_not_depend_on_the_layout(isa: str, dtype: torch.dtype, n_in: int) -> None:
    w = weight(dtype, rows=517)
    expected = poisoned(1034, n_in * COLUMNS, dtype)
    ops.tile_(expected, w, 2, n_in, snr_db=10.0, key=3)
    assert not expected.isnan().any()
    by_columns = poisoned(n_in * COLUMNS, 1034, dtype).t()
    by_none = poisoned(1034, 2 * n_in * COLUMNS, dtype)[:, ::2]
    for out, source in ((by_columns, w.t().contiguous().t()), (by_none, w), (poisoned(*expected.shape, dtype), w)):
        ops.tile_(out, source, 2, n_in, snr_db=10.0, key=3)
        assert torch.equal(out, expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_copies(isa: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        blocks = [weight(torch.bfloat16), weight(torch.float32, 511, 333).t()]
        outs = [torch.full_like(blocks[i], torch.nan) for i in (0, 1, 0, 1, 0)]
        ops.replicate_(outs, blocks, [0, 1, 0, 1, 0])
        assert all(torch.equal(out, blocks[i]) for out, i in zip(outs, (0, 1, 0, 1, 0), strict=True))
    finally:
        torch.set_num_threads(before)


def test_a_vector_of_rows_into_columns_of_a_wider_matrix(isa: str) -> None:
    """A strided target whose source needs no arithmetic is moved straight from the source's rows."""
    w = torch.arange(1, 193, dtype=torch.bfloat16).reshape(3, 64)
    wide = w.repeat_interleave(2, dim=0)[::2]
    out = poisoned(64, 3, torch.bfloat16).t()
    spec = RuleNumbers((0, 3, 1, 1), (0, 64, 1, 16), fill=((0.0, 0.0), (0.5, 0.7), (0.0, 0.7)))
    ops.tile_rules_([out], [wide], [spec.tile()])
    assert torch.equal(out, w)


def call(outs: list[torch.Tensor], weights: list[torch.Tensor], layout: list[int]) -> None:
    scalars = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0] * len(outs)
    torch.ops.growkernels.tile_rules_(outs, weights, layout, scalars)


IDENTITY = [1, 0, 4, 1, 1, 1, 0, 4, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (IDENTITY[:-1], "ends in the middle"),
        ([*IDENTITY, 1], "left over"),
        ([-1, *IDENTITY[1:]], "-1 segments"),
        ([1, 1, 4, 1, 1, 1, 0, 4, 1, 1, 0, 0], "does not fit a source axis of 4"),
        ([1, 0, 4, 1, 1, 1, -2, 4, 1, 1, 0, 0], "does not fit"),
        ([1, 0, 4, 1, 0, 1, 0, 4, 1, 1, 0, 0], "does not fit"),
        ([1, 0, 4, 2, 1, 1, 0, 4, 1, 1, 0, 0], "the rule writes"),
        ([1, 0, 4, 2**62 + 1, 1, 1, 0, 4, 1, 1, 0, 0], "the rule writes more"),
        ([4, *[-1, 2**62, 1, 1] * 4, 1, 0, 4, 1, 1, 0, 0], "the rule writes more"),
        ([1, 0, 2**62, 4, 1, 1, 0, 4, 1, 1, 0, 0], "does not fit"),
    ],
)
def test_packed_rules_that_reach_outside_are_refused(layout: list[int], message: str) -> None:
    out, w = poisoned(4, 4, torch.float32), torch.ones(4, 4)
    with pytest.raises(RuntimeError, match=message):
        call([out], [w], layout)
    assert out.isnan().all()


def test_bands_of_one_matrix_may_be_source_and_targets() -> None:
    buffer = poisoned(4, 12, torch.float32)
    buffer[:, 4:8] = w = torch.randn(4, 4)
    call([buffer[:, :4], buffer[:, 8:]], [buffer[:, 4:8]] * 2, IDENTITY * 2)
    assert torch.equal(buffer, w.repeat(1, 3))


@pytest.mark.parametrize(("first", "second"), [(slice(0, 4), slice(3, 7)), (slice(3, 7), slice(0, 4))])
def test_targets_that_overlap_are_refused(first: slice, second: slice) -> None:
    buffer, w = poisoned(4, 8, torch.float32), torch.ones(4, 4)
    with pytest.raises(RuntimeError, match="two outputs overlap"):
        call([buffer[:, first], buffer[:, second]], [w, w], IDENTITY * 2)
    with pytest.raises(RuntimeError, match="overlaps an input"):
        call([buffer[:, first]], [buffer[:, second]], IDENTITY)
    with pytest.raises(RuntimeError, match="share memory"):
        call([buffer[:1, :4].expand(4, 4)], [w], IDENTITY)
