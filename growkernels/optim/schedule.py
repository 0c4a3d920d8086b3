"""Growths at given steps of a training run: what each did, and whether the loss is where the plan says it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from time import perf_counter
from typing import Any

import psutil
import torch
from torch import nn
from transformers import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.executors.sources.model import open_model
from growkernels.growth import Growth
from growkernels.live import grow_model
from growkernels.optim.groups import Multipliers
from growkernels.optim.grown import State
from growkernels.options import GrowthOptions
from growkernels.plans import Plan

#: By how much a loss may differ where the function is preserved: the roundings of a forward pass of many layers.
_BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-3}
_HALF_BOUND = 3e-2


@dataclass(frozen=True, slots=True)
class Hop:
    """One growth of a run: parameters, resident bytes of the process and losses before and after, and its seconds.

    Losses are of the same batch, in eval mode; None where none was given.
    """

    step: int
    options: Mapping[str, Any]
    parameters: tuple[int, int]
    memory: tuple[int, int]
    loss: tuple[float | None, float | None]
    seconds: float

    def __str__(self) -> str:
        wanted = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        losses = "" if None in self.loss else f", loss {self.loss[0]:.4f} -> {self.loss[1]:.4f}"
        return (
            f"step {self.step}: grown by {wanted}: {self.parameters[0]:,} -> {self.parameters[1]:,} parameters{losses}, "
            f"memory {self.memory[0] / 1e9:.2f} -> {self.memory[1] / 1e9:.2f} GB, {self.seconds:.2f} s"
        )


class GrowthSchedule:
    """Growths at given steps of a plain training loop.

    Call `after_step` at the end of every step, with gradients zeroed and before the step's checkpoint is saved: a checkpoint
    of a step then has that step's growth, and a run that resumes says where it resumes by `start`. Every growth has a seed of
    its own, so that a run that is resumed draws the noise of one that is not.

    Args:
        hops: for the number of a step, the options of `grow_model` that grow the model after it.
        start: the number of steps that the model has made: growths up to it are done.
        state: as in `grow_model`.
        multipliers: as in `grow_model`.
        on_hop: called with the `Hop`; print by default.

    Raises:
        GrowthError: a step is no positive whole number, or options are none.

    Example:
        >>> schedule = growkernels.GrowthSchedule({1000: {"width": 2}, 3000: {"depth": 2}})
        >>> for step in range(1, steps + 1):
        ...     loss = model(**batch).loss
        ...     loss.backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     schedule.after_step(step, model, optimizer)
    """

    def __init__(
        self,
        hops: Mapping[int, Mapping[str, Any]],
        *,
        start: int = 0,
        state: State | None = None,
        multipliers: Multipliers = "step",
        on_hop: Callable[[Hop], object] = print,
    ) -> None:
        for step in hops:
            if isinstance(step, bool) or not isinstance(step, int) or step < 1:
                raise GrowthError(
                    f"hops has the step {step!r}; expected whole numbers from 1, the steps to grow after."
                )
        self.hops = {step: {"seed": number, **options} for number, (step, options) in enumerate(sorted(hops.items()))}
        for options in self.hops.values():
            GrowthOptions.from_keywords(options)  # raises for what cannot be meant
        self.start = start
        self._state, self._multipliers, self._on_hop = state, multipliers, on_hop

    def is_due(self, step: int) -> bool:
        """Whether the model grows after a step."""
        return step > self.start and step in self.hops

    def after_step(
        self, step: int, model: PreTrainedModel, optimizer: Any, loss: Callable[[], Any] | None = None
    ) -> Hop | None:
        """Grow if a growth is due after this step.

        Args:
            step: how many steps the optimizer has made.
            model: the model, not wrapped.
            optimizer: one or a list, as in `grow_model`.
            loss: gives the loss of one batch, the same at each call; taken before and after the growth.

        Returns:
            What was done; None if nothing was due.

        Raises:
            GrowthError: the model or optimizer cannot be grown; both are untouched.
        """
        if not self.is_due(step):
            return None
        options = self.hops[step]
        plan = Growth.open(open_model(model), options).plan
        before, counts, memory, start = _loss(model, loss), _count(model), _resident(), perf_counter()
        grow_model(
            model,
            optimizer,
            plan=plan,
            state=self._state if optimizer is not None else None,
            multipliers=self._multipliers,
        )
        self.start = step
        seconds, after = perf_counter() - start, _loss(model, loss)
        given = {name: value for name, value in options.items() if name != "seed"}
        hop = Hop(step, given, (counts, _count(model)), (memory, _resident()), (before, after), seconds)
        self._on_hop(hop)
        _check_loss(hop, plan, model.dtype)
        return hop


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _loss(model: nn.Module, loss: Callable[[], Any] | None) -> float | None:
    if loss is None:
        return None
    with torch.no_grad(), _evaluating(model):
        return float(loss())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while: the mode of every module comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_loss(hop: Hop, plan: Plan, dtype: torch.dtype) -> None:
    before, after = hop.loss
    if before is None or after is None or not plan.preserves_function:
        return
    bound = _BOUNDS.get(dtype, _HALF_BOUND)
    if not isfinite(after) or abs(after - before) > bound * abs(before):
        warnings.warn(
            f"the loss went from {before:.6g} to {after:.6g} over a growth that preserves the function, more than the "
            f"rounding of {dtype} explains: something outside of the model's class depends on its size. Do not go on from "
            f"here before it is found.",
            stacklevel=3,
        )
