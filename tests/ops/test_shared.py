"""Noise that several matrices share, and new entries that are copies of one draw."""

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
from growkernels.ops.tile.reference import tile_rule_slice
from growkernels.plans import NEW
from tests.ops.tools import assert_same_bits, data, poisoned

BACKENDS = [None, "eager", "emulated"]


def share(rows: int, columns: int, number: int | None, count: int, **changes: object) -> Tile:
    axes = (IndexVector.identity(rows), IndexVector.identity(columns))
    return Tile(axes, 1, noise=Noise(std=0.5, share=(number, count)), key=7, **changes)


@pytest.mark.parametrize("backend", BACKENDS)
@given(count=st.integers(2, 5), rows=st.integers(1, 5), columns=st.integers(1, 9))
def test_it_is_the_noise_of_input_copies(backend: str | None, count: int, rows: int, columns: int) -> None:
    weight = data((rows, columns), torch.float32)
    outs = [poisoned((rows, columns), torch.float32) for _ in range(count)]
    ops.tile_rules_(outs, [weight] * count, [share(rows, columns, n, count) for n in range(count)], backend=backend)
    wide = poisoned((rows, count * columns), torch.float32)
    rule = replace(Tile.copies((rows, columns), (1, count), 1, Noise(std=0.5), 7), divisor=1.0)
    ops.tile_rules_([wide], [weight], [rule], backend=backend)
    assert_same_bits(torch.cat(outs, 1), wide)
    # Half an ulp of every stored value, and the arithmetic of float32 before it: |values| stay below 16.
    total = torch.stack(outs).double().sum(0) / count
    assert (total - weight.double()).abs().max() <= count * 8 * 2**-24 * 16
    assert (outs[0] - weight).abs().max() > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stored", [(0, 1, 2), (0, 2, 1)])
@pytest.mark.parametrize("count", [2, 3])
def test_blocks_of_a_stack_share_it(backend: str | None, stored: tuple[int, ...], count: int) -> None:
    """Each block of the first axis takes that of one copy, whichever way the matrices are stored."""
    experts, outputs, inputs = 3, 4, 5
    weight = data((experts, outputs, inputs), torch.float32)
    axes = (IndexVector.tile(experts, count), IndexVector.identity(outputs), IndexVector.identity(inputs))
    summed = stored.index(2)
    rule = Tile(
        tuple(axes[a] for a in stored), summed, noise=Noise(std=0.5, share=(None, count)), key=9, output_axis=3 - summed
    )
    source = weight.permute(stored).contiguous()
    out = poisoned(rule.shape, torch.float32)
    ops.tile_rules_([out], [source], [rule], backend=backend)
    blocks = out.permute(stored).unflatten(0, (count, experts))
    for number in range(count):
        alone = poisoned((experts * outputs, inputs), torch.float32)
        one = replace(share(experts * outputs, inputs, number, count), key=9)
        ops.tile_rules_([alone], [weight.reshape(-1, inputs)], [one], backend=backend)
        assert_same_bits(blocks[number], alone.view(experts, outputs, inputs))


@given(data_=st.data())
def test_slices_are_those_of_the_whole(data_: st.DataObject) -> None:
    count, rows, columns = data_.draw(st.integers(2, 4)), data_.draw(st.integers(1, 6)), data_.draw(st.integers(1, 6))
    number = data_.draw(st.sampled_from([None, *range(count)]))
    tile = share(rows, columns, 0, count)
    if number is None:
        axes = (IndexVector.tile(rows, count), IndexVector.identity(columns))
        tile = replace(tile, axes=axes, noise=Noise(std=0.5, share=(None, count)))
    else:
        tile = replace(tile, noise=Noise(std=0.5, share=(number, count)))
    weight = data((rows, columns), torch.float32)
    whole = poisoned(tile.shape, torch.float32)
    ops.tile_rules_([whole], [weight], [tile], backend="eager")
    top, left = data_.draw(st.integers(0, tile.shape[0])), data_.draw(st.integers(0, columns))
    bottom, right = data_.draw(st.integers(top, tile.shape[0])), data_.draw(st.integers(left, columns))
    found = tile_rule_slice(weight, tile, tile.shape, range(top, bottom), range(left, right), torch.float32)
    assert_same_bits(found, whole[top:bottom, left:right])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("groups", [1, 3])
def test_copies_of_one_draw(backend: str | None, groups: int) -> None:
    """Rows of new entries that are copies are equal, and each draw is that of a tensor without copies."""
    axes = (IndexVector((Segment(NEW, 3, 2, groups),)), IndexVector.new(5))
    fill = Fill(0.0, 0.1)
    tile = Tile(axes, 1, fill=(fill, fill, fill), key=3)
    out, once = poisoned((6, 5), torch.float32), poisoned((3, 5), torch.float32)
    empty = torch.empty(0, 0)
    ops.tile_rules_([out], [empty], [tile], backend=backend)
    ops.tile_rules_([once], [empty], [Tile.filled((3, 5), fill, 1, key=3)], backend=backend)
    order = [0, 1, 2, 0, 1, 2] if groups == 1 else [0, 0, 1, 1, 2, 2]
    assert_same_bits(out, once[order])
    assert len(np.unique(once.numpy())) == 15
    part = tile_rule_slice(empty, tile, (6, 5), range(1, 5), range(2, 4), torch.float32)
    assert_same_bits(part, out[1:5, 2:4])


def test_rules_with_shared_noise_are_read_back() -> None:
    for tile in (share(3, 4, 1, 3), Tile((IndexVector((Segment(NEW, 3, 2),)),), fill=(Fill(0.0, 1.0),) * 3)):
        assert Tile.from_json(tile.to_json()) == tile


@pytest.mark.parametrize("number", [-1, 2])
def test_what_cannot_be_shared(number: int) -> None:
    with pytest.raises(GrowthError, match="expected \\(number, count\\)"):
        Noise(share=(number, 2))
    with pytest.raises(GrowthError, match="one segment of single inputs"):
        Tile((IndexVector.identity(2), IndexVector.tile(2, 2)), 1, noise=Noise(share=(0, 2)))
    with pytest.raises(GrowthError, match="equal blocks"):
        Tile((IndexVector.identity(3), IndexVector.identity(2)), 1, noise=Noise(share=(None, 2)))
