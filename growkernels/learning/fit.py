"""From a text file to learned matrices, in one call: what the command line's fit does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from growkernels.executors.source import Source
from growkernels.learning.growth import LearnedGrowth
from growkernels.learning.text import TextBatches
from growkernels.operators import GrowthOptions
from growkernels.plan import Plan


@dataclass(frozen=True, slots=True)
class Fit:
    """How to train the matrices of learned growth on a text; see `LearnedGrowth.fit` and `TextBatches`.

    `batch`: windows a step; `length`: tokens a window. Batches follow from the growth's seed.
    """

    text: str | Path
    steps: int = 100
    lr: float = 1e-3
    warmup: int | None = None
    batch: int = 8
    length: int = 256


@dataclass(frozen=True, slots=True)
class FitReport:
    """A fit that was carried out: the loss of every step, in nats per token, before that step's update."""

    text: str
    losses: tuple[float, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"text": self.text, "steps": len(self.losses), "seconds": self.seconds, "losses": list(self.losses)}


def fit_plan(
    source: Source,
    options: GrowthOptions,
    fit: Fit,
    device: torch.device,
    on_step: Callable[[int, int], None],
) -> tuple[Plan, FitReport]:
    """The plan of a growth of an opened checkpoint with its matrices trained. on_step: (steps taken, steps in all).

    Raises GrowthError.
    """
    start = perf_counter()
    growth = LearnedGrowth(source, device=device, **asdict(options))
    batches = TextBatches(fit.text, source.path, source.config, fit.batch, fit.length, options.seed)
    on_step(0, fit.steps)
    growth.fit(batches.since(0), fit.steps, fit.lr, fit.warmup, lambda step, loss: on_step(step, fit.steps))
    return growth.materialise(), FitReport(str(fit.text), tuple(growth.losses), perf_counter() - start)
