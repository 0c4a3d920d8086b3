"""Raw ops refuse what does not fit: their callers may be others than the public functions."""

from __future__ import annotations

import pytest
import torch

from tests.ops.bad_calls import BAD, check_refused


@pytest.mark.parametrize("namespace", ["growkernels", "growkernels_eager", "growkernels_emulated"])
@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_refused(name: str, namespace: str) -> None:
    check_refused(name, getattr(torch.ops, namespace))
