"""Tensors of any number of axes: the rule of a matrix, whichever way it is stored, and tensors without a source."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Fill, IndexVector, Noise, Segment, Tile
from growkernels.ops.tile.reference import tile_rule_slice
from tests.ops.tools import DTYPES, assert_same_bits, data, dtypes, poisoned

BACKENDS = [None, "eager", "emulated"]


def by_indices(weight: torch.Tensor, tile: Tile) -> torch.Tensor:
    """A rule without noise, by NumPy's indexing of each axis."""
    value = weight.double().numpy()[np.ix_(*[np.maximum(axis.indices(), 0) for axis in tile.axes])] / tile.divisor
    if tile.diagonal:
        copies = [np.moveaxis(np.expand_dims(axis.copy_ids(), tuple(range(len(tile.axes) - 1))), -1, number)
                  for number, axis in enumerate(tile.axes)]  # fmt: skip
        value = np.where(copies[tile.output] % tile.n_in == copies[tile.sum_axis], value, 0)
    new = np.zeros(tile.shape, bool)
    for number, axis in enumerate(tile.axes):
        shape = [-1 if other == number else 1 for other in range(len(tile.axes))]
        new |= (axis.indices() < 0).reshape(shape)
    return torch.from_numpy(np.where(new, tile.fill[0].mean, value))


@st.composite
def stacks(draw: st.DrawFn) -> tuple[tuple[int, ...], Tile]:
    """A source shape of three or four axes, and a rule for it without noise."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=3, max_size=4)))
    last = len(shape) - 1
    summed, output = draw(st.permutations(range(len(shape))))[:2]
    diagonal = draw(st.booleans())

    def axis(number: int) -> IndexVector:
        size = shape[number]
        if draw(st.booleans()) and not (diagonal and number == summed):
            return IndexVector.gather(draw(st.lists(st.integers(-1, size - 1), min_size=1, max_size=6)))
        return draw(
            st.sampled_from([IndexVector.identity(size), IndexVector.tile(size, 2), IndexVector.interleave(size, 3)])
        )

    axes = tuple(axis(number) for number in range(last + 1))
    fill = Fill(draw(st.sampled_from([0.0, -2.5])))
    named = draw(st.sampled_from([output, None]))
    return shape, Tile(axes, summed, 2.0, diagonal=diagonal, fill=(fill, fill, fill), output_axis=named)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=stacks(), order=st.randoms())
def test_stacks_are_indexed_axis_by_axis(
    case: tuple[tuple[int, ...], Tile], order: object, backend: str | None
) -> None:
    shape, tile = case
    axes = list(range(len(shape)))
    order.shuffle(axes)  # in memory
    back = [axes.index(axis) for axis in range(len(axes))]
    weight = data(tuple(shape[axis] for axis in axes)).permute(back)
    out = torch.full([tile.shape[axis] for axis in axes], torch.nan).permute(back)
    ops.tile_rules_([out], [weight], [tile], backend=backend)
    assert_same_bits(out.contiguous(), by_indices(weight, tile).float())


@given(source=dtypes, target=dtypes, diagonal=st.booleans(), experts=st.sampled_from([1, 2]), n_in=st.integers(2, 3))
def test_noise_of_a_stack_is_that_of_its_matrix_however_it_is_stored(
    source: torch.dtype, target: torch.dtype, diagonal: bool, experts: int, n_in: int
) -> None:
    weight = data((3, 4, 5), source)
    axes = IndexVector.tile(3, experts), IndexVector.tile(4, 2), IndexVector.tile(5, n_in)
    tile = Tile(axes, 2, 3.0, diagonal=diagonal, noise=Noise(std=0.25), key=77)
    rows = IndexVector.gather(
        [12 * 0 + 4 * e + o for _ in range(experts) for e in range(3) for _ in range(2) for o in range(4)]
    )
    copies = [c for _ in range(experts * 3) for c in range(2) for _ in range(4)]
    matrix = Tile((rows, axes[2]), 1, 3.0, noise=Noise(std=0.25), key=77)
    expected = tile_rule_slice(
        weight.reshape(12, 5), matrix, matrix.shape, range(matrix.shape[0]), range(matrix.shape[1]), target
    )
    if diagonal:  # each row by the rule of its output copy: copies of an output are apart by the experts' rows
        single = IndexVector((Segment(0, 4, 2),)).within(IndexVector.tile(3, experts), 4, own_copies=True)
        assert single.copy_ids().tolist() == copies
        matrix = Tile((single, axes[2]), 1, 3.0, diagonal=True, noise=Noise(std=0.25), key=77)
        expected = tile_rule_slice(
            weight.reshape(12, 5), matrix, matrix.shape, range(matrix.shape[0]), range(matrix.shape[1]), target
        )
    expected = expected.reshape(tile.shape)
    for order in permutations(range(3)):
        back = [order.index(axis) for axis in range(3)]
        stored = replace(tile, axes=tuple(tile.axes[axis] for axis in order), sum_axis=back[2], output_axis=back[1])
        out = torch.full(stored.shape, torch.nan, dtype=target)
        ops.tile_rules_([out], [weight.permute(order).contiguous()], [stored])
        assert_same_bits(out.permute(back).contiguous(), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_without_a_source(backend: str | None, dtype: torch.dtype) -> None:
    for shape in ((), (7,), (3, 5), (2, 3, 4), (0, 4), (2, 0, 4)):
        for sum_axis in {None, len(shape) - 1 if shape else None}:
            rules = [Tile.filled(shape, Fill(0.5), sum_axis)] if shape else []
            for tile in (*rules, *([Tile.zeros(shape, sum_axis)] if shape else [])):
                out = poisoned(tile.shape, dtype)
                ops.tile_rules_([out], [out.new_empty((0,) * out.ndim)], [tile], backend=backend)
                assert_same_bits(out, torch.full(shape, float(tile.fill[0].mean), dtype=dtype))


def test_normal_fills_of_a_stack_are_those_of_its_matrix() -> None:
    tile = Tile.filled((3, 4, 5), Fill(0.5, 0.1), 2, key=9)
    out, matrix = torch.full((3, 4, 5), torch.nan), torch.full((12, 5), torch.nan)
    ops.tile_rules_([out], [out.new_empty(0, 0, 0)], [tile])
    ops.tile_rules_([matrix], [out.new_empty(0, 0)], [Tile.filled((12, 5), Fill(0.5, 0.1), 1, key=9)])
    assert_same_bits(out.view(12, 5), matrix)
    assert out.std() > 0.05


def test_a_scalar_is_copied() -> None:
    out = torch.full((), torch.nan)
    ops.tile_rules_([out], [torch.tensor(1.5)], [Tile.identity(())])
    assert out.item() == 1.5


def test_a_rule_keeps_its_packed_form_only_for_the_shape_it_was_made_for() -> None:
    tile = Tile((IndexVector.identity(2), IndexVector.tile(2, 2), IndexVector.identity(3)), 2)
    for rows in (2, 4, 2):
        weight, out = data((2, rows, 3)), torch.full((2, 4, 3), torch.nan)
        ops.tile_rules_([out], [weight], [tile])
        assert torch.equal(out, weight[:, :2].repeat(1, 2, 1))


def test_other_numbers_of_axes_are_refused() -> None:
    with pytest.raises(GrowthError, match="expected 3 axes each, as the rule has"):
        ops.tile_rules_([torch.empty(6, 4)], [torch.empty(6, 4)], [Tile.identity((2, 3, 4))])
