"""From a text file to learned matrices, in one call: what the command line's fit does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from growkernels.executors.sources.checkpoint import Source
from growkernels.growth import Growth
from growkernels.learning.checkpoint import FitCheckpoint
from growkernels.learning.checks import file_path, schedule, whole_number
from growkernels.learning.growth import LearnedGrowth
from growkernels.learning.text import TextBatches
from growkernels.plans import Plan

#: Warn of overfitting above this many epochs.
_TIMES_SEEN = 10
#: Batches whose mean loss is compared with that of others.
_ENOUGH = 5


@dataclass(frozen=True, slots=True)
class Fit:
    """How to train the matrices of learned growth on a text.

    Args:
        text: file of plain text, UTF-8; up to 64 MiB are used.
        steps: training steps in all.
        lr: peak learning rate of AdamW, followed by a cosine down to a tenth of it.
        warmup: steps up to that peak; None: a tenth of all.
        batch: windows a step. Their positions follow from the growth's seed.
        length: tokens a window; fewer where the model or the text has fewer.
        checkpoint: file that keeps the state, written every half minute at most, at the end and at an interruption. A fit
            whose file exists continues from it, to the bits of one without a pause. The file stays.

    Raises:
        GrowthError: a setting is out of range.

    Example:
        >>> growkernels.grow_checkpoint("./small", "./big", depth=2, depth_operator="ligo", fit=Fit("text.txt"))
    """

    text: str | Path
    steps: int = 100
    lr: float = 1e-3
    warmup: int | None = None
    batch: int = 8
    length: int = 256
    checkpoint: str | Path | None = None

    def __post_init__(self) -> None:
        steps, lr, warmup = schedule(self.steps, self.lr, self.warmup)
        checked = {
            "text": file_path(self.text, "the text"),
            "steps": steps,
            "lr": lr,
            "warmup": warmup,
            "batch": whole_number(self.batch, "batch", 1),
            "length": whole_number(self.length, "length", 2),
            "checkpoint": None if self.checkpoint is None else file_path(self.checkpoint, "the fit's checkpoint"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, repr=False)
class FitReport:
    """A fit that was carried out: the loss of every step, in nats per token, before that step's update.

    `length`: tokens of a window, fewer than asked for where the model or the text has fewer; `tokens`: of the whole text;
    `text_digest`: their identity. `resumed_from`: how many of the steps are from the checkpoint; `seconds` is the time of
    the others.
    """

    text: str
    losses: tuple[float, ...]
    seconds: float
    lr: float
    warmup: int
    batch: int
    length: int
    tokens: int
    text_digest: str
    resumed_from: int = 0

    @property
    def times_seen(self) -> float:
        """How many times over the text was read, on average."""
        return len(self.losses) * self.batch * self.length / self.tokens

    def record(self) -> dict[str, Any]:
        """What made the matrices what they are, as a JSON object."""
        settings = {name: getattr(self, name) for name in ("lr", "warmup", "batch", "length", "tokens", "text_digest")}
        return {"steps": len(self.losses), **settings, "losses": list(self.losses)}

    def to_json(self) -> dict[str, Any]:
        """A JSON object: the record, and how this run went."""
        return {"text": self.text, "resumed_from": self.resumed_from, "seconds": self.seconds, **self.record()}

    def __repr__(self) -> str:
        losses = f"loss {self.losses[0]:.3f} to {self.losses[-1]:.3f}" if self.losses else "no loss"
        return f"FitReport({self.text!r}, {len(self.losses)} steps, {losses}, {self.seconds:.1f} s)"


def fit_plan(
    wanted: Growth[Source],
    fit: Fit,
    device: torch.device,
    on_step: Callable[[int, int], None],
) -> tuple[Plan, FitReport]:
    """The plan of an opened growth with its matrices trained. on_step: called with (steps taken, steps in all).

    Warns of a text that is read many times over, and of a loss that rose. Raises GrowthError.
    """
    start = perf_counter()
    growth = LearnedGrowth(wanted, device=device)
    source = wanted.source
    batches = TextBatches(fit.text, source.path, source.config, fit.batch, fit.length, wanted.plan.seed)
    checkpoint = None
    if fit.checkpoint is not None:
        settings = {name: getattr(fit, name) for name in ("steps", "lr", "warmup", "batch")}
        settings |= {"length": batches.length, "text": batches.digest()}
        checkpoint = FitCheckpoint(Path(fit.checkpoint), growth, settings)
    resumed_from = growth.step
    on_step(resumed_from, fit.steps)

    def after_step(step: int, loss: float) -> None:
        del loss
        if checkpoint is not None:
            checkpoint.after_step()
        on_step(step, fit.steps)

    with checkpoint or nullcontext():
        growth.fit(batches.since(resumed_from), fit.steps, fit.lr, fit.warmup, after_step)
    report = FitReport(
        text=str(fit.text),
        losses=tuple(growth.losses),
        seconds=perf_counter() - start,
        lr=fit.lr,
        warmup=schedule(fit.steps, fit.lr, fit.warmup)[2],
        batch=fit.batch,
        length=batches.length,
        tokens=batches.tokens,
        text_digest=batches.digest(),
        resumed_from=resumed_from,
    )
    _warn(report)
    return growth.materialise(), report


def _warn(report: FitReport) -> None:
    if report.times_seen > _TIMES_SEEN:
        warnings.warn(
            f"{report.text} has {report.tokens} tokens; {len(report.losses)} steps of {report.batch} x {report.length} read "
            f"them {report.times_seen:.0f} times over, and the loss tells how well they are known by heart. Give more text.",
            stacklevel=3,
        )
    tenth = len(report.losses) // 10
    # Means of fewer batches than these differ by chance.
    if tenth >= _ENOUGH and sum(report.losses[-tenth:]) > sum(report.losses[:tenth]):
        warnings.warn(
            f"the loss rose during the fit, from {report.losses[0]:.3f} to {report.losses[-1]:.3f}; a lower learning rate or "
            f"more steps may help, and no fit may be better.",
            stacklevel=3,
        )
