"""How the host cuts rules into pieces: every target element is written once, from the source element that the rule names."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from growkernels.kernels.tile_pieces import Piece, TileJob, pieces
from growkernels.ops.tile.numbers import RuleNumbers
from tests.ops.rules import rule
from tests.ops.tools import Drawn


def visited(words: list[int], blocks: int, block: int, scattered: np.ndarray | None) -> list[tuple[np.ndarray, ...]]:
    """What a kernel reads of one axis, for each of its blocks: source indices, and target indices of every copy."""
    source, target, length, group_blocks, copies = words
    found = []
    for number in range(blocks):
        if scattered is None:
            group, first = number // group_blocks, number % group_blocks * block
            i = np.arange(first, min(first + block, length))
            sources, targets, step = source + group * length + i, target + group * copies * length + i, length
        else:
            i = np.arange(number * block, min((number + 1) * block, length))
            sources, targets, step = scattered[0, i], scattered[1, i], scattered[2, i]
        sources = sources if source >= 0 else np.full(len(i), -1)
        found.append((sources, np.stack([targets + copy * step for copy in range(copies)])))
    return found


def write(written: np.ndarray, piece: Piece, weights: tuple[int, int]) -> None:
    """Counts and records what a piece's programs write: `written` [2, rows, columns] of counts and source numbers."""
    row_words, column_words, column_blocks = piece.words[7:12], piece.words[12:17], piece.words[6]
    rows = visited(row_words, piece.programs // column_blocks, piece.variant.rows, piece.tables[0])
    columns = visited(column_words, column_blocks, piece.variant.columns, piece.tables[1])
    for row_sources, row_targets in rows:
        for column_sources, column_targets in columns:
            for to_rows in row_targets:
                for to_columns in column_targets:
                    place = np.ix_(to_rows, to_columns)
                    written[0][place] += 1
                    written[1][place] = np.add.outer(row_sources * weights[0], column_sources * weights[1])


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int], RuleNumbers, bool]:
    shape = draw(st.integers(0, 300)), draw(st.integers(0, 300))
    return shape, rule(Drawn(draw), *shape), draw(st.booleans())


@example(((40, 2100), RuleNumbers((0, 40, 1, 40), (5, 2000, 2, 500, -1, 7, 1, 1, 0, 8, 2, 1)), False))
@example(((16, 4), RuleNumbers((0, 16, 2, 4), (0, 4, 3, 2)), True))
@settings(max_examples=200)
@given(cases())
def test_every_target_element_is_written_once(case: tuple[tuple[int, int], RuleNumbers, bool]) -> None:
    shape, spec, transposed = case
    rows, columns = spec.shape
    out = torch.empty(columns, rows).t() if transposed else torch.empty(rows, columns)
    written = np.zeros((2, rows, columns), np.int64)
    for piece in pieces(TileJob(out, torch.empty(shape), spec)):
        if piece.words[5] == out.stride(1):
            write(written, piece, (10_000, 1))
        else:  # the axes have changed places, so that writes run along memory
            write(written.transpose(0, 2, 1), piece, (1, 10_000))
    assert (written[0] == 1).all()
    sources = [axis.indices() for axis in spec.tile().axes]
    assert (written[1] == np.add.outer(sources[0] * 10_000, sources[1])).all()


def test_gathers_of_single_entries_fill_programs_and_few_pieces() -> None:
    order = np.random.default_rng(0).permutation(1000)
    axis = tuple(np.stack([order, np.ones(1000), 1 + order % 2, np.ones(1000)]).T.astype(int).ravel().tolist())
    for columns in (axis, (0, 1000, 2, 1)):
        spec = RuleNumbers(axis, columns)
        found = pieces(TileJob(torch.empty(spec.shape), torch.empty(1000, 1000), spec))
        # Gathered rows are still read and written in whole vectors.
        assert {piece.variant.along for piece in found} == {"neither" if columns is axis else "columns"}
        # A run for each number of copies of an axis; 2048 visits a program.
        assert len(found) == (4 if columns is axis else 2)
        assert sum(piece.programs for piece in found) <= 1.1 * 1000 * 1000 / 2048
