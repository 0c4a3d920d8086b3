"""Growing models in memory: a live one in place, or a checkpoint straight into a live one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.executors.device import CPU, Sent, open_device
from growkernels.executors.files.stopping import Stoppable
from growkernels.executors.fill import fill, most_alive, prepare, unchanged
from growkernels.executors.learned import open_matrices
from growkernels.executors.measure import check_duplicates
from growkernels.executors.memory import check_memory
from growkernels.executors.sinks.graft import Graft
from growkernels.executors.sinks.module import EmptyModel
from growkernels.executors.sources.checkpoint import open_source
from growkernels.executors.sources.generation import read_generation_config
from growkernels.executors.sources.model import of_a_model, open_model
from growkernels.layouts import ModelLayout, discover
from growkernels.layouts.classes import ModelClass, split_layer
from growkernels.layouts.families import FAMILIES
from growkernels.learning.start import start_matrices
from growkernels.operators import GrowthOptions, make_plan
from growkernels.plans import Plan, Rule

__all__ = ["grow_model", "load_grown"]

#: Called with the stage ("growing"), the bytes computed so far, and those in all.
OnProgress = Callable[[str, int, int], None]


def grow_model(
    model: PreTrainedModel,
    *,
    allow_nonfinite: bool = False,
    on_progress: OnProgress | None = None,
    plan: Plan | None = None,
    **options: Any,
) -> PreTrainedModel:
    """Grow a live model of transformers in place, on the devices it is on, and return it: the same object.

    options: the fields of `GrowthOptions` (depth, width, noise_snr_db, ...); or plan: one to carry out, such as
    `LearnedGrowth.materialise` gives. Weights and config come out as by `grow_checkpoint` from what
    `model.save_pretrained` would write. Parameters that change are new objects, and the old ones are left empty, whoever
    still holds them; gradients are dropped; make a new optimizer. In depth growth, layers keep their modules, parameters
    and memory in the first place where they stand. Memory at the peak: that of the grown model and 256 MiB. What the plan
    warns of is warned of before the work starts. Raises GrowthError, with the model untouched, for what cannot be grown
    or does not fit into memory.
    """
    source = open_model(model)
    with of_a_model():
        layout = discover(source.config, source.tensors, source.fresh)
    planned = _planned(layout, plan, options)
    check_duplicates(source, layout.duplicates)
    target = _empty_model(layout, planned)
    matrices = cache(partial(open_matrices, planned))
    rules = prepare(source, target.own(planned.rules), matrices, allow_nonfinite)
    graft = Graft(model, source.fresh.empty_model(), target.model, _origins(target.model, planned.layer_index))
    kept = unchanged(source, rules)
    changing = [rule for rule in rules if kept.get(rule.source) is not rule]
    for device, needed in most_alive(source, changing, lambda name: name not in kept).items():
        check_memory(device, needed)
    _warn(planned)

    def put(rule: Rule, value: torch.Tensor) -> None:
        trained = not rule.sources or source.parameters[rule.source].requires_grad
        target.put(rule.target, nn.Parameter(value, trained))

    progress = _Deferred(on_progress)
    with _undivided() as emptied, torch.inference_mode(False), torch.no_grad():

        def free(name: str) -> None:
            if name not in kept:
                emptied.append(name)
                parameter = source.parameters[name]
                parameter.grad, parameter.data = None, parameter.data.new_empty(0)

        for name, rule in kept.items():
            target.put(rule.target, source.parameters[name])
        fill(source, changing, matrices, put, free, progress)
        for name in kept:
            source.parameters[name].grad = None
        graft.apply()
    progress.raise_again()
    return model


def load_grown(
    src: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    allow_nonfinite: bool = False,
    on_progress: OnProgress | None = None,
    plan: Plan | None = None,
    strip_prefix: str = "",
    **options: Any,
) -> PreTrainedModel:
    """The grown model of the checkpoint `src` on a device, in eval mode: what stock transformers would load from
    `grow_checkpoint(src, ...)`, with no grown checkpoint written.

    src: folder or hub id; device: such as "cuda" or "cuda:1"; dtype: of the grown weights, None to keep the stored one;
    options: the other fields of `GrowthOptions`; or plan: one to carry out; strip_prefix: what a wrapper put before the
    names of the tensors of `src`. Only the small checkpoint's tensors are read and
    sent to the device, where the grown ones come into being. Warns of what the plan warns of. Raises GrowthError.
    """
    place = open_device(device)
    if dtype is not None:
        options["dtype"] = str(dtype).removeprefix("torch.")
    source = open_source(src, strip_prefix)
    layout = discover(source.config, source.tensors)
    generation = read_generation_config(source.path, layout.architecture)
    planned = _planned(layout, plan, options)
    check_duplicates(source, layout.duplicates)
    target = _empty_model(layout, planned)
    matrices = cache(partial(open_matrices, planned))
    rules = target.own(planned.rules)
    _warn(planned)
    with torch.inference_mode(False), torch.no_grad():
        sent = Sent(source, place, {name for rule in rules for name in rule.sources})
        rules = prepare(sent, rules, matrices, allow_nonfinite)
        # On the CPU, tensors are views of the file: they take no memory, and cannot be parameters.
        kept = unchanged(sent, rules) if place != CPU else {}
        changing = [rule for rule in rules if kept.get(rule.source) is not rule]
        for where, needed in most_alive(sent, changing, lambda name: place != CPU and name not in kept).items():
            check_memory(where, needed)

        def put(rule: Rule, value: torch.Tensor) -> None:
            # Stock transformers gives every parameter the model's dtype, also where the file mixes them.
            target.put(rule.target, nn.Parameter(value.to(target.dtype(rule.target))))

        for name, rule in kept.items():
            put(rule, sent.tensor(name))
        fill(sent, changing, matrices, put, sent.forget, partial(on_progress, "growing") if on_progress else _silent)
    source.check_unchanged()
    model = target.model
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(place)
    if generation is not None:
        model.generation_config = generation
    return model.eval()


def _planned(layout: ModelLayout, plan: Plan | None, options: Mapping[str, Any]) -> Plan:
    """The plan to carry out, its learned matrices as they start unless it brings its own."""
    if plan is not None:
        if options:
            raise GrowthError(f"plan and {', '.join(options)} both say what to grow; give one of the two.")
        return plan
    growth = GrowthOptions.from_keywords(options)
    planned = make_plan(layout, growth)
    return planned.with_matrices(start_matrices(layout, planned, growth)) if planned.is_learned else planned


def _empty_model(layout: ModelLayout, planned: Plan) -> EmptyModel:
    stored = planned.config.get("dtype") or planned.config.get("torch_dtype") or planned.rules[0].spec.dtype
    dtype = getattr(torch, stored)
    grown = ModelClass(FAMILIES[layout.model_type], layout.architecture, planned.config, dtype)
    model = grown.empty_model()
    model.config.dtype = dtype
    return EmptyModel(model, grown.parameter_name)


def _origins(model: nn.Module, layer_index: Sequence[int]) -> dict[str, str]:
    """The path of every module, and of the module of the source that it continues or copies."""
    origins = {}
    for path, _ in model.named_modules():
        group, layer = split_layer(f"{path}.")
        origin = group if layer is None else group.replace("{}", str(layer_index[layer]))
        origins[path] = origin.removesuffix(".")
    return origins


def _warn(planned: Plan) -> None:
    for text in planned.warnings:
        warnings.warn(text, stacklevel=3)


def _silent(done: int, total: int) -> None:
    pass


class _Deferred:
    """A progress callback that cannot stop a growth half-way: what it raises is kept for the end."""

    def __init__(self, callback: OnProgress | None) -> None:
        self._callback = callback
        self._error: BaseException | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._callback is not None and self._error is None:
            try:
                self._callback("growing", done, total)
            except BaseException as error:
                self._error = error

    def raise_again(self) -> None:
        if self._error is not None:
            raise self._error


@contextmanager
def _undivided() -> Iterator[list[str]]:
    """The part of a growth in place that must not stop half-way: signals are heard at its end.

    Gives a list for the names of parameters whose values are gone, for a failure to say what is lost.
    """
    emptied: list[str] = []
    with Stoppable() as run:
        run.deaf = True
        try:
            yield emptied
        except BaseException as error:
            if emptied:
                error.add_note(
                    f"The model was being grown in place and has lost {len(emptied)} weights: load it again."
                )
            raise
