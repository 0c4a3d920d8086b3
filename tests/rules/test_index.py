"""Index vectors against what they say in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from growkernels.plans import NEW, IndexVector, Segment
from growkernels.rules.index import MEAN

SIZES, COPIES = st.integers(0, 12), st.integers(1, 5)
SEGMENTS = st.one_of(
    st.builds(
        lambda start, inner, copies, groups: Segment(start, inner * groups, copies, groups),
        st.integers(0, 20),
        st.integers(0, 4),
        COPIES,
        st.integers(1, 4),
    ),
    st.builds(lambda length: Segment(NEW, length), SIZES),
)
VECTORS = st.builds(lambda segments: IndexVector(tuple(segments)), st.lists(SEGMENTS, max_size=4))


@given(SIZES, COPIES)
def test_tile_is_modulo(size, copies):
    vector = IndexVector.tile(size, copies)
    assert vector.indices().tolist() == [i % size for i in range(size * copies)]
    assert vector.copy_ids().tolist() == [i // size for i in range(size * copies)]


@given(SIZES, COPIES)
def test_interleave_is_division(size, copies):
    vector = IndexVector.interleave(size, copies)
    assert vector.indices().tolist() == [i // copies for i in range(size * copies)]
    assert vector.copy_ids().tolist() == [i % copies for i in range(size * copies)]


@given(st.integers(1, 4), st.integers(0, 4), COPIES)
def test_grouped_tile_stays_inside_its_group(groups, inner, copies):
    vector = IndexVector.tile(groups * inner, copies, groups)
    expected = [group * inner + i for group in range(groups) for _ in range(copies) for i in range(inner)]
    assert vector.indices().tolist() == expected


@given(st.lists(st.tuples(SIZES, COPIES), max_size=4))
def test_parts_are_tiled_one_by_one(parts):
    expected, start = [], 0
    for size, copies in parts:
        expected += [start + i for _ in range(copies) for i in range(size)]
        start += size
    vector = IndexVector.parts(parts)
    assert vector.indices().tolist() == expected
    assert vector.size == len(expected)


@given(st.lists(st.integers(NEW, 12), max_size=20))
def test_gather_gives_what_was_asked(indices):
    vector = IndexVector.gather(indices)
    assert vector.indices().tolist() == indices
    assert vector.source_size == max([i + 1 for i in indices if i != NEW], default=0)


@given(SIZES, SIZES)
def test_extend_keeps_the_old_and_adds_new(size, new):
    assert IndexVector.extend(size, new).indices().tolist() == [*range(size), *[NEW] * new]


@given(VECTORS)
def test_every_index_has_a_copy_and_counts_agree(vector):
    indices, copies = vector.indices(), vector.copy_ids()
    assert len(indices) == len(copies) == vector.size
    assert indices.dtype == copies.dtype == np.int64
    for segment in vector.segments:
        pairs = list(zip(segment.indices().tolist(), segment.copy_ids().tolist(), strict=True))
        if segment.start != NEW:
            span = range(segment.start, segment.start + segment.length)
            assert sorted(pairs) == sorted((i, c) for i in span for c in range(segment.copies))


@given(VECTORS)
def test_json_and_flat_hold_everything(vector):
    assert IndexVector.from_json(vector.to_json()) == vector
    flat = np.asarray(vector.flat(), np.int64).reshape(-1, 4).tolist()
    assert IndexVector(tuple(Segment(*row) for row in flat)) == vector


@pytest.mark.parametrize(
    "arguments",
    [(-3, 3), (0, -1), (0, 3, 0), (0, 3, 1, 0), (0, 3, 1, 2), (NEW, 4, 1, 2), (MEAN, 3, 2), (MEAN, 4, 1, 2)],
)
def test_segments_that_mean_nothing_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        Segment(*arguments)


def test_uniform_means_that_every_source_index_is_repeated_equally_often():
    assert IndexVector.tile(3, 2).uniform
    assert not IndexVector.extend(3, 1).uniform
    assert not IndexVector.parts([(2, 1), (2, 2)]).uniform


@given(VECTORS, VECTORS, st.integers(0, 3), st.booleans())
def test_an_axis_within_another_is_both_in_one(inner: IndexVector, outer: IndexVector, more: int, own: bool) -> None:
    size = inner.source_size + more
    joined = inner.within(outer, size, own)
    rows, columns = outer.indices()[:, None], inner.indices()[None, :]
    expected = np.where((rows == NEW) | (columns == NEW), NEW, rows * size + columns)
    assert joined.indices().tolist() == expected.reshape(-1).tolist()
    if own:
        ids = np.broadcast_to(inner.copy_ids(), expected.shape)
        assert joined.copy_ids()[expected.reshape(-1) != NEW].tolist() == ids[expected != NEW].tolist()


def test_axes_of_a_stack_stay_in_closed_form() -> None:
    experts, tiled = IndexVector.identity(128), IndexVector.tile(64, 2)
    assert tiled.within(experts) == IndexVector((Segment(0, 128 * 64, 2, 128),))
    assert IndexVector.identity(64).within(IndexVector.tile(128, 3)) == IndexVector.tile(128 * 64, 3)
    assert len(tiled.within(IndexVector.tile(128, 3), own_copies=True).segments) == 3
    assert tiled.within(IndexVector.extend(128, 2)).segments[1] == Segment(NEW, 2 * 128)
    assert IndexVector.new(5).within(experts, 64).segments == (Segment(NEW, 5 * 128),)


def test_what_is_new_and_what_is_whole() -> None:
    assert IndexVector.new(3).is_new and IndexVector.new(3).has_new
    assert IndexVector.extend(3, 1).has_new and not IndexVector.extend(3, 1).is_new
    assert not IndexVector.extend(3, 0).has_new
    assert IndexVector.identity(3).is_identity() and IndexVector.identity(3).is_identity(3)
    assert not IndexVector.identity(3).is_identity(4) and not IndexVector((Segment(1, 3),)).is_identity()
