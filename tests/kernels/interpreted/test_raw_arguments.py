"""The Triton implementations refuse what does not fit."""

from __future__ import annotations

import pytest
import torch

from tests.ops.bad_calls import BAD, check_refused


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_refused(name: str) -> None:
    check_refused(name, torch.ops.growkernels_triton)
