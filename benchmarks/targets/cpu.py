"""What the project set out to reach on two threads of a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from statistics import median
from typing import Any

from benchmarks.case import EAGER, FLOOR, OURS, OURS_OUT, PAPER
from benchmarks.cases.calls import PREFIX
from benchmarks.cases.models import ONE_BY_ONE
from benchmarks.cases.tile_noise import STD_FORM
from benchmarks.cases.tile_shapes import ALIGNED, KINDS
from benchmarks.results import CaseResult, Results
from benchmarks.targets.target import Target


def ops(results: Results) -> Iterator[Target]:
    """Of the ops suite, as far as it has figures."""
    paper_limits = {"fp32": 18.0, "bf16": 14.0}
    for dtype, paper_limit in paper_limits.items():
        if case := results.case(f"tile x2 {dtype}"):
            yield Target(f"clean `tile_` x2 {dtype} against the copy floor", _ratio(case, OURS_OUT, FLOOR), 1.15)
        if case := results.case(f"tile x2 noise {dtype}"):
            speedup = _ratio(case, PAPER, OURS_OUT)
            yield Target(f"noisy `tile_` x2 {dtype}, times as fast as the paper's", speedup, paper_limit, at_least=True)
        if case := results.case(f"tile x2 10 dB {dtype}"):
            ratio = _ratio(case, OURS_OUT, STD_FORM)
            yield Target(f"`tile_` x2 {dtype} with SNR against the std form", ratio, 1.3)
    slowest = _slowest(results)
    if slowest:
        claim = f"functional `tile`, times as fast as eager; the slowest row ({slowest.name})"
        yield Target(claim, _ratio(slowest, EAGER, OURS), 1.0, at_least=True)
    for case in results.cases:
        if ONE_BY_ONE in case.measurements:
            yield Target(
                f"{case.name}: one call against the sum of its tensors", _ratio(case, OURS_OUT, ONE_BY_ONE), 1.1
            )
        if ALIGNED in case.measurements:
            kind = next(kind for kind in KINDS if kind in case.name)
            dtype = case.name.rsplit(" ", 1)[1]
            ratio = _ratio(case, OURS_OUT, ALIGNED)
            yield Target(f"`tile_` x2 {dtype}, source {kind}, against an aligned one", ratio, 2.0)
        if case.name.startswith(PREFIX) and OURS in case.measurements:
            yield Target(f"{case.name}, one call on 8 x 8", case.median(OURS) * 1e6, 10.0, unit=" us")


def _ratio(case: CaseResult, provider: str, other: str) -> float:
    """NaN where one of them did not run."""
    ratio = case.ratio(provider, other)
    return nan if ratio is None else ratio


def _slowest(results: Results) -> CaseResult | None:
    """The `tile` case in which eager comes nearest."""
    rows = [case for case in results.cases if case.name.startswith("tile") and case.ratio(EAGER, OURS)]
    return min(rows, key=lambda case: _ratio(case, EAGER, OURS), default=None)


def checkpoint(figures: dict[str, Any]) -> Iterator[Target]:
    """Of growth on disk against `cp`."""
    runs = figures["runs"]
    seconds = {name: median(run["seconds"] for run in rows) for name, rows in runs.items()}
    for name, limit in (("noise-free", 1.3), ("10 dB", 2.5)):
        yield Target(
            f"checkpoint to checkpoint x2, {name}, against `cp` (fsync both)", seconds[name] / seconds["cp"], limit
        )
