"""One run of a race: a model trained on batches that depend on the seed and the step alone, and its held-out loss."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from growkernels.errors import GrowthError
from growkernels.learning import TextBatches

#: Evaluations of a run, beside the one before its first step, and batches of each.
_EVALUATIONS, _HELD_OUT = 20, 8
#: Seconds after which the state is kept again.
_KEEP_EVERY = 30.0
_BETAS, _WEIGHT_DECAY, _CLIP = (0.9, 0.95), 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How every candidate is trained: AdamW (0.9, 0.95), weight decay 0.1 on matrices, gradients clipped at 1.

    Attributes:
        steps: Number of steps.
        warmup: Steps of linear warm-up; after them the learning rate stays.
        lr: That learning rate.
        batch: Windows of a step.
        length: Tokens of a window.
    """

    steps: int
    warmup: int
    lr: float
    batch: int
    length: int


#: Step and held-out loss.
Point = tuple[int, float]


def train(
    build: Callable[[], Module],
    batches: TextBatches,
    held_out: TextBatches,
    schedule: Schedule,
    seed: int,
    state: Path,
    on_step: Callable[[int], None],
) -> list[Point]:
    """Train one model, or go on with it where an earlier process stopped; the bits are the same.

    Args:
        build: Makes the model as it starts.
        batches: Text to train on.
        held_out: Text that the loss is taken on.
        schedule: How.
        seed: Of dropout.
        state: File that the state is kept in between.
        on_step: Called with the number of steps taken.

    Returns:
        The held-out loss before the first step and at regular steps, the last included.
    """
    model = build()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": _WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=schedule.lr, betas=_BETAS)
    points: list[Point] = []
    step = 0
    if state.exists():
        step, points = _restore(state, model, optimizer)
    else:
        points.append((0, held_out_loss(model, held_out)))
    every = max(1, schedule.steps // _EVALUATIONS)
    kept = time.monotonic()
    for batch in batches.since(step):
        if step >= schedule.steps:
            break
        _step(model, optimizer, batch, schedule, step, seed)
        step += 1
        if step % every == 0 or step == schedule.steps:
            points.append((step, held_out_loss(model, held_out)))
        if time.monotonic() - kept > _KEEP_EVERY:
            _keep(state, model, optimizer, step, points)
            kept = time.monotonic()
        on_step(step)
    return points


def _step(
    model: Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], schedule: Schedule, step: int, seed: int
) -> None:
    # Dropout is a function of seed and step, so that a run that goes on draws what one without a pause would.
    torch.manual_seed(seed * 1_000_003 + step)
    model.train()
    scale = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    for group in optimizer.param_groups:
        group["lr"] = schedule.lr * scale
    model(**batch).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def held_out_loss(model: Module, held_out: TextBatches) -> float:
    """Mean loss over eight batches, the same in every call."""
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for _, batch in zip(range(_HELD_OUT), held_out.since(0), strict=False):
            total += float(model(**batch).loss)
    return total / _HELD_OUT


def _keep(state: Path, model: Module, optimizer: torch.optim.Optimizer, step: int, points: Sequence[Point]) -> None:
    data = {"step": step, "points": list(points), "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    partial = state.with_suffix(".partial")
    torch.save(data, partial)
    os.replace(partial, state)


def _restore(state: Path, model: Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[Point]]:
    try:
        data: Any = torch.load(state, weights_only=True)
        model.load_state_dict(data["model"])
        optimizer.load_state_dict(data["optimizer"])
        return int(data["step"]), [(int(step), float(loss)) for step, loss in data["points"]]
    except Exception as error:  # a damaged file raises anything
        raise GrowthError(
            f"{state} is no state of this run ({type(error).__name__}); remove it to begin the run again."
        ) from error


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a file in one step."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(data, indent=2) + "\n")
    os.replace(partial, path)
