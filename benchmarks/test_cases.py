"""Every provider of every case under pytest-benchmark, grouped by case; outputs are checked first.

Providers run one after the other here. For ratios between them run `python -m benchmarks`, where they take turns.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.case import Case, Provider, Setting
from benchmarks.cases import all_cases
from benchmarks.measure import QUICK, Effort

CPU = torch.device("cpu")
#: Names of cases and of their providers do not depend on the size, so they are read off tiny ones.
NAMES = {case.name: [provider.name for provider in case.build()] for case in all_cases(Setting.tiny(CPU))}


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest) -> Iterator[tuple[Case, dict[str, Provider]]]:
    """A case and its providers, on buffers that go when the next case comes."""
    setting = Setting.quick(CPU) if request.config.getoption("quick") else Setting(CPU)
    case = next(case for case in all_cases(setting) if case.name == request.param)
    providers = {provider.name: provider for provider in case.build()}
    yield case, providers
    providers.clear()
    torch._dynamo.reset()
    gc.collect()


@pytest.mark.parametrize(
    ("built", "name"),
    [pytest.param(case, name, id=f"{case}, {name}") for case, names in NAMES.items() for name in names],
    indirect=["built"],
)
def test_case(
    built: tuple[Case, dict[str, Provider]], name: str, benchmark: BenchmarkFixture, request: pytest.FixtureRequest
) -> None:
    """Right, then timed."""
    case, providers = built
    provider = providers[name]
    provider.check(provider.run())
    effort = QUICK if request.config.getoption("quick") else Effort()
    benchmark.group = case.name
    benchmark.extra_info.update(bytes=case.work.bytes, operations=case.work.operations)
    benchmark.pedantic(provider.run, rounds=effort.least, iterations=case.calls)
