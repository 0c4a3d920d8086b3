"""Tests that need a GPU: marked `gpu`, and skipped with one reason where there is none. `make gpu-check` runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import tests.emulated  # noqa: F401  # registers its backend
from tests.gpu.device import CUDA, DEVICE, REHEARSAL

HERE = Path(__file__).parent
#: A file that gets one line of JSON for every test as it ends, so that what was found is kept whatever happens later.
RECORD = os.environ.get("GROWKERNELS_RECORD")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not (CUDA or REHEARSAL):
                item.add_marker(pytest.mark.skip(reason="torch.cuda is not available"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # With xdist the controller reports what its workers did.
    if not RECORD or os.environ.get("PYTEST_XDIST_WORKER") or (report.when != "call" and report.passed):
        return
    detail = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr or "")
    entry = {"test": report.nodeid, "outcome": report.outcome, "seconds": report.duration, "detail": detail[-4000:]}
    entry |= dict(report.user_properties)
    with Path(RECORD).open("a") as file:
        file.write(json.dumps(entry) + "\n")


@pytest.fixture
def cuda() -> None:
    """For tests of what only a GPU has."""
    if DEVICE.type != "cuda":
        pytest.skip("a rehearsal has no streams, graphs or device memory")
