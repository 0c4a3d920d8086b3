"""What the project set out to reach on each kind of device, and whether a run reached it."""

from __future__ import annotations

from math import isnan
from typing import Any

from benchmarks.results import Results
from benchmarks.targets import cpu, cuda, expand
from benchmarks.targets.target import Target

__all__ = ["Target", "targets"]


def targets(results: Results, checkpoint: dict[str, Any] | None) -> list[Target]:
    """Every target that this run, and the checkpoint run if there is one, has figures for."""
    parts = (cuda.ops, expand.matmul_rate) if "gpu" in results.machine else (cpu.ops, expand.against_the_paper)
    found = [target for part in (*parts, expand.against_rivals) for target in part(results)]
    found += cpu.checkpoint(checkpoint) if checkpoint else ()
    return [target for target in found if not isnan(target.figure)]
