"""Growth inside a Trainer of transformers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from growkernels.errors import GrowthError
from growkernels.optim.clip import clip_grad_norm_
from growkernels.optim.groups import Multipliers
from growkernels.optim.grown import State
from growkernels.optim.hooks import attach
from growkernels.optim.schedule import GrowthSchedule, Hop

#: How far up the Trainer's own calls are from the event that ends its initialization.
_DEPTH = 6


class GrowthCallback(TrainerCallback):
    """Grows the model of a Trainer, and its optimizer, after given steps.

    The scheduler, the scaler and the Trainer's state go on as they are. A checkpoint of a step has that step's growth; to
    resume, build the model from the checkpoint (`from_pretrained(checkpoint)`) and give `resume_from_checkpoint`: growths up
    to its step are done. Not under DistributedDataParallel, FSDP or DeepSpeed, whose wrappers hold the old parameters.

    Args:
        hops: for the number of a step, the options of `grow_model` that grow the model after it.
        state: as in `grow_model`.
        multipliers: as in `grow_model`.
        max_grad_norm: clip by the source's norm; the Trainer's own `max_grad_norm` must then be 0. None: the Trainer clips,
            by the norm of the grown gradients.
        on_hop: called with the `Hop`; print by default.

    Raises:
        GrowthError: a step or an option cannot be meant.

    Example:
        >>> callback = growkernels.GrowthCallback({4000: {"width": 2}})
        >>> trainer = Trainer(model, arguments, train_dataset=dataset, callbacks=[callback])
        >>> trainer.train()
    """

    def __init__(
        self,
        hops: Mapping[int, Mapping[str, Any]],
        *,
        state: State | None = None,
        multipliers: Multipliers = "step",
        max_grad_norm: float | None = None,
        on_hop: Callable[[Hop], object] = print,
    ) -> None:
        self._schedule = GrowthSchedule(hops, state=state, multipliers=multipliers, on_hop=on_hop)
        self._max_grad_norm = max_grad_norm
        self._batch: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._remove: Callable[[], object] = lambda: None

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let the Trainer's optimizer, once it is made, load what a grown one has saved: it loads before training begins."""
        trainer = _calling_trainer()
        if trainer is not None:
            self.attach(trainer)

    def attach(self, trainer: Trainer) -> None:
        """Attach to a Trainer that was made before the callback was added to it."""
        _refuse_wrappers(trainer.args)
        create = trainer.create_optimizer

        def create_and_attach(*arguments: Any, **keywords: Any) -> torch.optim.Optimizer:
            optimizer = create(*arguments, **keywords)
            attach(trainer.optimizer)
            return optimizer

        trainer.create_optimizer = create_and_attach  # type: ignore[method-assign]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check what the Trainer will do, and where it begins."""
        _refuse_wrappers(args)
        if self._max_grad_norm is not None and args.max_grad_norm:
            raise GrowthError(
                f"the Trainer clips at max_grad_norm {args.max_grad_norm} and the callback at {self._max_grad_norm}; set "
                f"TrainingArguments(max_grad_norm=0)."
            )
        attach(kwargs["optimizer"])
        self._schedule.start = state.global_step

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep a batch of the step after which the model grows: its loss is taken before and after."""
        if self._schedule.is_due(state.global_step + 1) and self._batch is None:
            handle = kwargs["model"].register_forward_pre_hook(self._keep, with_kwargs=True)
            self._remove = handle.remove

    def _keep(self, model: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self._batch = inputs, keywords

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Clip by the norm of the source."""
        if self._max_grad_norm is not None:
            clip_grad_norm_(kwargs["optimizer"], self._max_grad_norm)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Grow if it is time."""
        if not self._schedule.is_due(state.global_step):
            return
        model, batch = kwargs["model"], self._batch
        self._remove()
        self._batch = None

        def loss() -> torch.Tensor:
            assert batch is not None
            return model(*batch[0], **batch[1]).loss

        known = batch is not None and "labels" in batch[1]
        hop = self._schedule.after_step(state.global_step, model, kwargs["optimizer"], loss if known else None)
        if hop is not None:
            entry: dict[str, Any] = {
                "step": hop.step,
                "growth_parameters": hop.parameters[1],
                "growth_seconds": hop.seconds,
            }
            entry |= {"growth_memory": hop.memory[1]}
            if hop.loss[1] is not None:
                entry |= {"growth_loss_before": hop.loss[0], "growth_loss_after": hop.loss[1]}
            state.log_history.append(entry)


def _calling_trainer() -> Trainer | None:
    """The Trainer that is being made: the event does not name it, but it is what sends it."""
    frame = sys._getframe(1)
    for _ in range(_DEPTH):
        if frame is None:
            return None
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer):
            return found
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _refuse_wrappers(args: TrainingArguments) -> None:
    wrapper = next(
        (
            name
            for name, there in (
                ("FSDP", bool(args.fsdp)),
                ("DeepSpeed", bool(args.deepspeed)),
                ("DistributedDataParallel", args.world_size > 1),
            )
            if there
        ),
        None,
    )
    if wrapper is not None:
        raise GrowthError(
            f"the Trainer wraps its model in {wrapper}, which holds the parameters from before a growth: GrowthCallback "
            f"runs in one process for now. Stop at the step, grow the checkpoint (growkernels grow SRC DST --optimizer), "
            f"and resume from the grown one."
        )
