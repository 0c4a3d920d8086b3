"""Nested tensors, and copies that no memory can hold, are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Tile
from tests.ops.tools import data

W = data((4, 6))


NESTED = torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(3, 2)])


@pytest.mark.parametrize(
    "call",
    [
        lambda backend: ops.tile(NESTED, 2, 2, backend=backend),
        lambda backend: ops.tile_(NESTED, W, 2, 2, backend=backend),
        lambda backend: ops.tile_(W.clone(), NESTED, 2, 2, backend=backend),
        lambda backend: ops.tile_rules_([NESTED], [W], [Tile.identity((4, 6))], backend=backend),
        lambda backend: ops.tile_rules_([W.clone()], [NESTED], [Tile.identity((4, 6))], backend=backend),
        lambda backend: ops.replicate([NESTED], [0], backend=backend),
        lambda backend: ops.replicate_([NESTED], [W], [0], backend=backend),
        lambda backend: ops.replicate_([W.clone()], [NESTED], [0], backend=backend),
        lambda backend: ops.normal_(NESTED, 1, 0, backend=backend),
        lambda backend: ops.mean_square([NESTED], backend=backend),
        lambda backend: ops.expand([NESTED], None, None, backend=backend),
        lambda backend: ops.expand([W], NESTED, None, backend=backend),
        lambda backend: ops.expand_([NESTED], [W], None, None, backend=backend),
    ],
)
@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
def test_nested_tensors_are_refused(call: Callable[[str | None], object], backend: str | None) -> None:
    with pytest.raises(GrowthError, match=r"is a nested tensor; expected a dense one: .*unbind\(\)"):
        call(backend)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
@pytest.mark.parametrize("copies", [(2**62, 1), (2**63, 1), (2**40, 2**40), (2**200, 1)])
def test_more_copies_than_memory_can_hold_are_refused(
    copies: tuple[int, int], backend: str | None, device: str
) -> None:
    with pytest.raises(GrowthError, match=r"more than a machine can have memory for"):
        ops.tile(W.to(device), *copies, backend=backend)
    with pytest.raises(GrowthError, match=r"out has shape \(4, 6\)"):
        ops.tile_(W.to(device, copy=True), W.to(device), *copies, backend=backend)
    if copies[1] == 1:
        with pytest.raises(GrowthError, match=r"more than a machine can have memory for"):
            ops.tile(W[0].to(device), *copies, backend=backend)


def test_a_vector_of_more_bytes_than_addresses_is_refused_before_the_allocator() -> None:
    with pytest.raises(GrowthError, match=r"n_out=1125899906842624 .*more than a machine can have memory for"):
        ops.tile(W, 2**50, 1)
