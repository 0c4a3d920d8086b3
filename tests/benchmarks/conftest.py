"""Settings of the benchmarks' tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def short_collections() -> Iterator[None]:
    """Garbage is collected before each measurement of memory: not among the million objects of torch, a quarter second each."""
    gc.freeze()
    yield
    gc.unfreeze()
