"""Tiles whose segments have divisors of their own, and tiles with means: rectangles that kernels get as plain tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Fill, IndexVector, Noise, Segment, Tile
from growkernels.ops.tile.means import mean_along
from growkernels.rules.blend import Blend
from growkernels.rules.index import MEAN, NEW
from growkernels.rules.pieces import is_plain, pieces
from tests.ops.tools import assert_same_bits, data, poisoned

BACKENDS = [None, "eager", "emulated"]


@st.composite
def tiles(draw: st.DrawFn) -> tuple[tuple[int, ...], Tile]:
    """A source shape of one to three axes, and a rule for it: segments of any kind, with divisors."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    axes, divisors = [], []
    for size in shape:
        segments = []
        for _ in range(draw(st.integers(1, 4))):
            kind = draw(st.sampled_from(["copy", "copy", "new", "mean"]))
            if kind == "copy":
                start = draw(st.integers(0, size - 1))
                length = draw(st.integers(1, size - start))
                groups = draw(st.sampled_from([g for g in range(1, length + 1) if length % g == 0]))
                segments.append(Segment(start, length, draw(st.integers(1, 3)), groups))
            else:
                segments.append(Segment(NEW if kind == "new" else MEAN, draw(st.integers(1, 3))))
        axes.append(IndexVector(tuple(segments)))
        own = [draw(st.sampled_from([1.0, 2.0, 4.0, 3.0])) for _ in segments]
        divisors.append(tuple(own) if draw(st.booleans()) else ())
    fill = Fill(draw(st.sampled_from([0.0, -2.5])))
    summed = draw(st.sampled_from([None, *range(len(shape))]))
    return shape, Tile(tuple(axes), summed, 2.0, 0.25, fill=(fill, fill, fill), divisors=tuple(divisors))


def by_indices(weight: torch.Tensor, tile: Tile) -> np.ndarray:
    """A rule without noise: each axis by NumPy's indexing, in float64; a mean is one more entry of the source."""
    value, new = weight.double().numpy(), np.zeros(tile.shape, bool)
    for number, axis in enumerate(tile.axes):
        value = np.concatenate([value, value.mean(number, keepdims=True)], number)
        index = np.where(axis.indices() == MEAN, weight.shape[number], axis.indices())
        value = np.take(value, np.maximum(index, 0), number)
        along = [-1 if other == number else 1 for other in range(len(tile.axes))]
        if tile.divisors and tile.divisors[number]:
            sizes = [segment.size for segment in axis.segments]
            value = value / np.repeat(tile.divisors[number], sizes).reshape(along)
        new |= (index == NEW).reshape(along)
    return np.where(new, tile.fill[0].mean, value / tile.divisor + tile.shift)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=tiles())
def test_every_rectangle_follows_its_own_segments(backend: str | None, case: tuple[tuple[int, ...], Tile]) -> None:
    shape, tile = case
    weight = data(shape, torch.float64)
    out = poisoned(tile.shape, torch.float64)
    ops.tile_rules_([out], [weight], [tile], backend=backend)
    wanted = by_indices(weight, tile)
    # Two divisions, a product of divisors, a mean of at most 125 values and a sum: below 200 roundings.
    assert np.abs(out.numpy() - wanted).max() <= 200 * 2.0**-53 * max(1.0, float(np.abs(wanted).max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", ["eager", "emulated"])
def test_noise_and_fills_have_the_same_bits_on_every_backend(backend: str, dtype: torch.dtype) -> None:
    rows = IndexVector((Segment(0, 3, 2), Segment(3, 4), Segment(MEAN, 2), Segment(NEW, 3)))
    columns = IndexVector((Segment(0, 2, 3), Segment(2, 6, 2), Segment(NEW, 2)))
    fill = Fill(0.0, 0.3)
    tile = Tile((rows, columns), 1, noise=Noise(std=0.1), fill=(fill, fill, fill), key=2**63 + 5,
                divisors=((), (3.0, 2.0, 1.0)))  # fmt: skip
    weight = data((7, 8), dtype)
    first, second = poisoned(tile.shape, dtype), poisoned(tile.shape, dtype)
    ops.tile_rules_([first], [weight], [tile])
    ops.tile_rules_([second], [weight], [tile], backend=backend)
    assert_same_bits(first, second)


def test_noise_cancels_over_the_copies_of_each_segment() -> None:
    columns = IndexVector((Segment(0, 2, 3), Segment(2, 6, 2)))
    tile = Tile((IndexVector.tile(5, 2), columns), 1, noise=Noise(std=0.5), key=9, divisors=((), (3.0, 2.0)))
    weight = data((5, 8), torch.float64)
    out = poisoned(tile.shape, torch.float64)
    ops.tile_rules_([out], [weight], [tile])
    total = torch.zeros(10, 8, dtype=torch.float64).index_add_(1, torch.from_numpy(columns.indices()), out)
    # Three roundings of entries below 8, and of two sums.
    assert (total - weight.repeat(2, 1)).abs().max() <= 5 * 8 * 2.0**-53
    assert (out[:, :2] - weight.repeat(2, 1)[:, :2] / 3).abs().min() > 1e-6


def test_fills_of_two_rectangles_differ() -> None:
    fill = Fill(0.0, 1.0)
    rows = IndexVector((Segment(0, 2, 2), Segment(NEW, 4), Segment(2, 2), Segment(NEW, 4)))
    tile = Tile((rows, IndexVector.identity(6)), 1, fill=(fill, fill, fill), key=1, divisors=((2.0, 1.0, 1.0, 1.0), ()))
    out = poisoned(tile.shape, torch.float32)
    ops.tile_rules_([out], [data((4, 6), torch.float32)], [tile])
    assert not (out[4:8] == out[10:14]).any()


@pytest.mark.parametrize("shape", [(1,), (7, 3), (2500, 4), (3, 1025, 2), (3, 1 << 21)])
def test_a_mean_does_not_depend_on_the_order_of_storage(shape: tuple[int, ...]) -> None:
    for axis in range(len(shape)):
        weight = data(shape, torch.bfloat16)
        found = mean_along(weight, [axis])
        turned = mean_along(weight.movedim(axis, 0).contiguous().movedim(0, axis), [axis])
        assert_same_bits(found, turned)
        # A float64 sum of bfloat16 values below 2^12 entries is exact to 2^-40; then one rounding to float32.
        wanted = weight.double().mean(axis, keepdim=True)
        assert (found.double() - wanted).abs().max() <= 2.0**-24 * wanted.abs().max() + 2.0**-38


def test_a_plain_tile_is_one_piece() -> None:
    assert is_plain(Tile.copies((4, 6), (2, 2), 1))
    assert len(pieces(Tile((IndexVector((Segment(0, 2, 2), Segment(2, 2, 2))),), divisors=((2.0, 2.0),)))) == 1


@pytest.mark.parametrize("divisors", [((2.0,),), ((), (2.0,)), ((), (2.0, 0.0))])
def test_divisors_that_are_not_those_of_the_segments_are_refused(divisors: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(GrowthError, match="divisors"):
        Tile((IndexVector.identity(3), IndexVector.parts([(2, 2), (2, 1)])), 1, divisors=divisors)


def test_json_holds_divisors_where_there_are_some() -> None:
    tile = Tile((IndexVector.parts([(2, 3), (2, 2)]),), divisors=((3.0, 2.0),))
    assert Tile.from_json(tile.to_json()) == tile
    assert "divisors" not in Tile.identity((3,)).to_json()


def test_a_key_changes_nothing_else() -> None:
    tile = Tile.copies((4, 6), (2, 2), 1, Noise(std=0.5))
    packed = Tile.copies((4, 6), (2, 2), 1, Noise(std=0.5))
    out = poisoned(packed.shape, torch.float32)
    ops.tile_rules_([out], [data((4, 6), torch.float32)], [packed])
    # Not the packed form either, which holds the key.
    for found in (tile.with_key(7), packed.with_key(7)):
        assert found == replace(tile, key=7)
        assert vars(found) == vars(replace(tile, key=7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_blend_is_what_replicate_makes_of_the_finished_tensor(backend: str | None, dtype: torch.dtype) -> None:
    columns = IndexVector((Segment(0, 2, 3), Segment(2, 6, 2), Segment(NEW, 2)))
    tile = Tile((IndexVector.tile(7, 2), columns), 1, key=11, divisors=((), (3.0, 2.0, 1.0)), blend=Blend(0.25, 0.5))
    weight = data((7, 8), dtype)
    out, other = poisoned(tile.shape, dtype), data((2, 3), dtype)
    plain = poisoned((4, 3), dtype)
    rule = Tile.copies((2, 3), (2, 1))
    ops.tile_rules_([out, plain], [weight, other], [tile, rule], backend=backend)
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    finished, wanted = poisoned(tile.shape, arithmetic), poisoned(tile.shape, dtype)
    ops.tile_rules_([finished], [weight], [replace(tile, blend=None)], backend="eager")
    ops.replicate_([wanted], [finished], [0], noise_alpha=0.25, noise_std=0.5, key=11, backend="eager")
    assert_same_bits(out, wanted)
    assert_same_bits(plain, other.repeat(2, 1))


def test_json_holds_a_blend_where_there_is_one() -> None:
    tile = Tile(tuple(map(IndexVector.identity, (2, 3))), blend=Blend(0.5, 0.1))
    assert Tile.from_json(tile.to_json()) == tile
    assert not tile.is_identity
    assert "blend" not in Tile.identity((3,)).to_json()
    with pytest.raises(GrowthError, match="share above 0"):
        Blend(0.0, 0.1)
