"""Version counters of what the Triton implementations write."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.ops.writes import PUBLIC, RAW, check_inference, check_leaves, check_raised_once


@pytest.mark.parametrize("check", [check_raised_once, check_leaves, check_inference], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", RAW)
def test_raw_ops(name: str, check: object) -> None:
    count, write = RAW[name]
    check(count, partial(write, torch.ops.growkernels_triton))


@pytest.mark.parametrize("name", PUBLIC)
def test_public_ops(name: str) -> None:
    count, write = PUBLIC[name]
    check_raised_once(count, partial(write, "triton"))
