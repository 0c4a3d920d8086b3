"""Learned growth as an object: the source frozen, the operator's matrices trained through the grown model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.executors.device import open_device
from growkernels.executors.learned import expand_rule, expand_rules, open_matrices, pull_back
from growkernels.executors.measure import Use, check_values
from growkernels.executors.modes import plain_tensors, recordable
from growkernels.executors.rules import check_fit
from growkernels.executors.sources.checkpoint import Source
from growkernels.executors.sources.model import LiveSource, open_model
from growkernels.growth import Growth
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import FAMILIES
from growkernels.learning.checks import described, is_out_of_memory, iterator, memory_for, schedule
from growkernels.learning.optimizer import OperatorOptimizer
from growkernels.learning.state import State, read_state, write_state
from growkernels.options import GrowthKeywords, spelled_out
from growkernels.plans import Learned, Matrices, Plan

#: What a model of transformers takes as keywords, and computes its loss from.
Batch = Mapping[str, Tensor]
_FILE = "operator.safetensors"
_LIGO: GrowthKeywords = {"depth_operator": "ligo", "width_operator": "ligo"}
_END: Any = object()


class _Grown(NamedTuple):
    """What a parameter of the target is made from, and how."""

    sources: tuple[str, ...]
    how: Learned


class LearnedGrowth:
    """LiGO: matrices that map the weights of a source to those of a bigger model, trained on that model's loss.

    A step holds the source's weights once, the matrices with their gradients and Adam's two moments, the grown weights
    once in float32, and the activations; the gradient of a grown weight lives until its own matrices have theirs.
    """

    @spelled_out(**_LIGO)
    def __init__(
        self,
        src: str | Path | PreTrainedModel | Source | Growth[Source],
        *,
        device: str | torch.device = "cpu",
        **options: Unpack[GrowthKeywords],
    ) -> None:
        """Open the source and start the matrices. What the plan warns of comes as Python warnings.

        Args:
            src: what to grow: a checkpoint's folder or hub id, a live model of transformers, an opened checkpoint; or a
                whole `Growth`, which its owner has checked and warned of. It is only read.
            device: where weights are held, such as "cuda".
            options: what to grow, by the names of `GrowthOptions`, with ligo as both operators unless others are given.

        Raises:
            GrowthError: the source cannot be grown, or nothing is learned.

        Example:
            >>> growth = growkernels.LearnedGrowth("./small", depth=2, width=2)
            >>> growth.fit(batches, steps=100)
            >>> growkernels.grow_checkpoint("./small", "./big", plan=growth.materialise())
        """
        growth = src if isinstance(src, Growth) else _open(src, {**_LIGO, **options})
        self.source, self.options, self._plan = growth.source, growth.options, growth.plan
        self.device = open_device(device)
        if not self._plan.is_learned:
            raise GrowthError(
                "nothing is learned by gstack, interpolate and hypercloning; give depth_operator or width_operator ligo."
            )
        if growth is not src:
            growth.check()
        self._weights: dict[str, Tensor] = {}
        with plain_tensors():
            self._model, self._learned = self._empty_target(growth.layout.model_type, growth.layout.architecture)
            start = growth.started().plan
            self.matrices = {
                name: matrix.requires_grad_() for name, matrix in open_matrices(start, self.device).items()
            }
            self._optimizer = OperatorOptimizer(self.matrices)
        #: Loss of every step so far.
        self.losses: list[float] = []
        self._updating = False
        if growth is not src:
            growth.warn()

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return len(self.losses)

    def fit(
        self,
        batches: Iterable[Batch],
        steps: int = 100,
        lr: float = 1e-3,
        warmup: int | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> list[float]:
        """Train the matrices until `steps` steps have been taken in all, or the batches end.

        AdamW without decay, gradients clipped at norm 1, no dropout. A later call continues where this one ended: with the
        same `steps`, `lr` and `warmup` and the batches that were left, it gives the bits of a single call. It trains whatever
        mode it is called in (`torch.no_grad`, `torch.inference_mode`, a default device). Products are cast as
        `torch.autocast` says, in the model and in its growth.

        Args:
            batches: one batch a step, a mapping of the model's keywords to tensors, labels among them.
            steps: steps in all, those of earlier calls among them.
            lr: peak learning rate, followed by a cosine down to a tenth of it.
            warmup: steps up to that peak; None: a tenth of all.
            on_step: called with the number of the step and its loss.

        Returns:
            The losses of the new steps, each before its update.

        Raises:
            GrowthError: settings or batches are not usable, or the loss is not finite.

        Example:
            >>> growth.fit([{"input_ids": ids, "labels": ids}], steps=1)
        """
        steps, lr, warmup = schedule(steps, lr, warmup)
        left = iterator(batches)
        if on_step is not None and not callable(on_step):
            raise GrowthError(f"on_step is {on_step!r}; expected a function of a step's number and loss, or None.")
        self._check_whole()
        before = self.step
        # Fetch a batch only if a step remains, so that the caller can keep using the iterator.
        while self.step < steps and (batch := next(left, _END)) is not _END:
            with plain_tensors():
                here = self._here(batch)
                self._load_weights()
                with memory_for(here):
                    loss = self._loss_and_gradients(here)
                self._updating = True
                self._optimizer.update(self.step, steps, lr, warmup)
                self.losses.append(loss)
                self._updating = False
            if on_step is not None:
                on_step(self.step, loss)
        if self.step == before < steps:
            raise GrowthError(
                f"there are no batches to fit on, with {before} of {steps} steps taken; give at least one."
            )
        return self.losses[before:]

    def loss(self, batch: Batch) -> float:
        """Loss of the grown model as it is now: of the weights, bit for bit, that executors give it in float32."""
        with plain_tensors(), torch.no_grad():
            self._load_weights()
            weights = {
                name: expand_rule(grown.how, self._sources(grown), self._fixed()).float()
                for name, grown in self._learned.items()
            }
            return float(self._run(weights, self._here(batch)))

    def materialise(self) -> Plan:
        """The plan with the matrices as they are now, for `grow_checkpoint(plan=...)` and every other executor."""
        self._check_whole()
        return self._plan.with_matrices(Matrices({n: m.detach().cpu().numpy() for n, m in self.matrices.items()}))

    def save(self, folder: str | Path) -> None:
        """Write matrices, moments and losses into a folder, made if need be, for `load`. Older ones are replaced at once."""
        write_state(Path(folder) / _FILE, self.state())

    @classmethod
    def load(
        cls, folder: str | Path, src: str | Path | PreTrainedModel | Source, *, device: str | torch.device = "cpu"
    ) -> LearnedGrowth:
        """What `save` wrote, to be trained on. Raises GrowthError if it is damaged or `src` is not the source it grew from."""
        path = Path(folder) / _FILE
        state = read_state(path)
        growth = cls(src, device=device, **state.options)
        growth.restore(state, path)
        return growth

    def state(self, fit: dict[str, Any] | None = None) -> State:
        """All that training goes on from; `fit`: see `State`. The tensors are those that training changes, not copies."""
        self._check_whole()
        matrices = {name: matrix.detach() for name, matrix in self.matrices.items()}
        return State(
            asdict(self.options),
            self._plan.digest(),
            self._source_digest(),
            list(self.losses),
            fit,
            matrices,
            *self._optimizer.moments(),
        )

    def restore(self, state: State, path: Path) -> None:
        """Take over what another growth of the same source left in a file. Raises GrowthError if it does not fit this one."""
        ours, theirs = self._source_digest(), state.source_digest
        if state.plan_digest != self._plan.digest() or (ours and theirs and ours != theirs):
            raise GrowthError(f"{path} was saved for another source than {self.source.name}, or by another version.")
        shapes = {name: matrix.shape for name, matrix in self.matrices.items()}
        moments = {name: value.shape for name, value in state.exp_avg.items()}
        if (
            {name: value.shape for name, value in state.matrices.items()} != shapes
            or {name: value.shape for name, value in state.exp_avg_sq.items()} != moments
            or not moments.items() <= shapes.items()
        ):
            raise GrowthError(f"{path} is damaged: its tensors are not those of this growth. Remove it and fit again.")
        with plain_tensors(), torch.no_grad():
            for name, matrix in self.matrices.items():
                matrix.copy_(state.matrices[name])
            self._optimizer.restore(state.exp_avg, state.exp_avg_sq, len(state.losses))
        self.losses = list(state.losses)

    def _source_digest(self) -> str | None:
        return self.source.digest() if isinstance(self.source, Source) else None

    def _check_whole(self) -> None:
        if self._updating:
            raise GrowthError(
                f"step {self.step + 1} was stopped while it changed the matrices; go on from what was saved before it, or anew."
            )

    def _empty_target(self, model_type: str, architecture: str) -> tuple[PreTrainedModel, dict[str, _Grown]]:
        """The target without weights, and the rule of each of its parameters. What else files hold is grown but not trained."""
        built = ModelClass(FAMILIES[model_type], architecture, self._plan.config)
        model = built.empty_model()
        learned = {}
        for rule in self._plan.rules:
            check_fit(self.source, rule)
            name = built.parameter_name(rule.target)
            if name in built.parameters and isinstance(rule.how, Learned):
                learned[name] = _Grown(rule.sources, rule.how)
        for buffer_owner in model.modules():
            for name, buffer in buffer_owner.named_buffers(recurse=False):
                buffer_owner._buffers[name] = buffer.to(self.device)
        return model.eval(), learned

    def _load_weights(self) -> None:
        """Read the source's weights, once and only where they are needed: a growth may be loaded just to be materialised."""
        if self._weights:
            return
        names = dict.fromkeys(name for grown in self._learned.values() for name in grown.sources)
        uses = [Use(name, self.source.tensor(name), torch.float32) for name in names]
        check_values(uses, otherwise="grow without a fit: nothing is learned from what is not finite")
        self._weights = {name: recordable(self.source.tensor(name).to(self.device)) for name in names}

    def _sources(self, grown: _Grown) -> list[Tensor]:
        return [self._weights[name] for name in grown.sources]

    def _fixed(self) -> dict[str, Tensor]:
        """The matrices as executors have them: torch multiplies what might need gradients in another order."""
        return {name: matrix.detach() for name, matrix in self.matrices.items()}

    def _grown(self) -> dict[str, Tensor]:
        """The target's parameters in float32. Those whose rules differ in their row of coefficients alone, a kind of tensor
        in all layers, are made by one call."""
        groups: dict[tuple[object, ...], list[str]] = {}
        for name, grown in self._learned.items():
            groups.setdefault((grown.sources, grown.how.mix, grown.how.axes), []).append(name)
        weights: dict[str, Tensor] = {}
        for names in groups.values():
            alike = [self._learned[name] for name in names]
            layers = expand_rules([grown.how for grown in alike], self._sources(alike[0]), self._fixed()).unbind()
            weights |= {name: layer.float() for name, layer in zip(names, layers, strict=True)}
        return weights

    def _here(self, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(batch, Mapping) or not all(isinstance(v, Tensor) and not v.is_meta for v in batch.values()):
            raise GrowthError(
                f"a batch is {type(batch).__name__}; expected a dictionary of tensors with values, the keywords of "
                f"{type(self._model).__name__}: input_ids and labels, say."
            )
        return {name: recordable(value.to(self.device)) for name, value in batch.items()}

    def _run(self, weights: dict[str, Tensor], batch: Batch) -> Tensor:
        device = self.device.type
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        model = type(self._model).__name__
        try:
            # Under autocast its cache would hold what it casts of the weights of every step, until the caller leaves it.
            with torch.autocast(device, dtype, enabled, cache_enabled=False):
                output = functional_call(self._model, weights, kwargs={**batch, "use_cache": False})
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise GrowthError(
                f"{model} fails on a batch of {described(batch)} ({type(error).__name__}: {error}); give it what {model} "
                f"takes, with token ids below its vocab_size."
            ) from error
        loss = getattr(output, "loss", None)
        if loss is None:
            raise GrowthError(
                f"{model} gives no loss for {', '.join(batch)}; batches need labels, and a class that learns from them."
            )
        return loss

    @torch.enable_grad()
    def _loss_and_gradients(self, batch: Batch) -> float:
        self._optimizer.forget_gradients()
        weights = self._grown()
        for name, weight in weights.items():
            weight.requires_grad_().register_post_accumulate_grad_hook(partial(self._pull_back, self._learned[name]))
        loss = self._run(weights, batch)
        value = float(loss.detach())
        if not isfinite(value):
            remedy = (
                "use a smaller learning rate, or more warm-up, and give every batch labels to learn from"
                if self.step
                else "give a batch with labels to learn from"
            )
            raise GrowthError(f"the loss is {value} at step {self.step + 1}; {remedy}.")
        loss.backward()
        return value

    def _pull_back(self, grown: _Grown, weight: Tensor) -> None:
        """From the gradient of a grown weight, which is dropped, to those of its matrices."""
        gradient, weight.grad = weight.grad, None
        assert gradient is not None
        pull_back(grown.how, self._sources(grown), self.matrices, gradient)


def _open(src: str | Path | PreTrainedModel | Source, options: GrowthKeywords) -> Growth[Source] | Growth[LiveSource]:
    if isinstance(src, torch.nn.Module):
        if not isinstance(src, PreTrainedModel):
            raise GrowthError(f"{type(src).__name__} is no model of transformers; give one, or a checkpoint.")
        return Growth.open(open_model(src), options)
    return Growth.open(src, options)
