"""What the project set out to reach on each kind of device, and whether a run reached it."""

from __future__ import annotations

from math import isnan
from typing import Any

from benchmarks.results import Results
from benchmarks.targets import cpu, cuda
from benchmarks.targets.target import Target

__all__ = ["Target", "targets"]


def targets(results: Results, checkpoint: dict[str, Any] | None) -> list[Target]:
    """Every target that this run, and the checkpoint run if there is one, has figures for."""
    ops = cuda.ops if "gpu" in results.machine else cpu.ops
    found = [*ops(results), *(cpu.checkpoint(checkpoint) if checkpoint else ())]
    return [target for target in found if not isnan(target.figure)]
