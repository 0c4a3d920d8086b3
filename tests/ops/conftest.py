"""Op tests run with poisoned memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import tests.emulated  # noqa: F401  # registers its backend


@pytest.fixture(autouse=True)
def in_poisoned_memory(poisoned_memory: None) -> None:
    """Every test here."""


@pytest.fixture
def threads() -> Iterator[None]:
    """Restore the number of threads after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
