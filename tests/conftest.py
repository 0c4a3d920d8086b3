"""Settings shared by all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

# What starts the tests may ignore signals (nohup, a shell's background), and what they start inherits that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# Examples are the same in every run: a failure is a bug and not a matter of luck. `--hypothesis-profile=search` looks further.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="module", params=["scalar", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that the compiled kernels have; skipped where this machine cannot run it."""
    extension = pytest.importorskip("growkernels._C", reason="the compiled extension is not built")
    try:
        extension.force_isa(request.param)
    except ValueError as error:
        pytest.skip(reason=str(error))
    yield request.param
    extension.force_isa(None)


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Whatever `torch.empty` returns is full of NaN (the largest value for integers)."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
