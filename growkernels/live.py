"""Growing models in memory: a live one in place, or a checkpoint straight into a live one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.executors.device import CPU, open_device
from growkernels.executors.files.stopping import Stoppable
from growkernels.executors.learned import open_matrices
from growkernels.executors.memory import check_memory, free_memory
from growkernels.executors.modes import plain_tensors
from growkernels.executors.preflight import prepare
from growkernels.executors.run import peak_memory, run, unchanged
from growkernels.executors.sinks.graft import Graft
from growkernels.executors.sinks.module import ModuleSink
from growkernels.executors.sinks.training import watch_optimizers
from growkernels.executors.sinks.wrappers import close_wrappers
from growkernels.executors.sources.device import DeviceSource
from growkernels.executors.sources.generation import read_generation_config
from growkernels.executors.sources.model import open_model, remember_seed
from growkernels.freezing import remember_plan
from growkernels.growth import Growth, OnProgress
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import FAMILIES
from growkernels.layouts.quantized import refuse_live
from growkernels.layouts.stacks import Stacks
from growkernels.layouts.trial import refuse_derived
from growkernels.optim.groups import Multipliers
from growkernels.optim.grown import State
from growkernels.optim.run import TrainingSink, TrainingSource
from growkernels.optim.training import Masters, Training
from growkernels.options import GrowthKeywords, GrowthKeywordsButDtype, spelled_out
from growkernels.plans import Plan, Rule

__all__ = ["grow_model", "load_grown"]

_AT_RISK = (
    "the grown model does not fit into memory beside the old one, so old weights are freed as they are used: should the growth "
    "fail half-way, some are lost. Save the model first, or free memory (an optimizer's state, for one)."
)


@spelled_out()
def grow_model(
    model: PreTrainedModel,
    optimizer: Any = None,
    *,
    state: State | None = None,
    multipliers: Multipliers = "step",
    masters: Masters | None = None,
    allow_nonfinite: bool = False,
    on_progress: OnProgress | None = None,
    plan: Plan | None = None,
    **options: Unpack[GrowthKeywords],
) -> PreTrainedModel:
    """Grow a live model of transformers in place, on the devices it is on, and the optimizers that train it.

    Weights and config come out as by `grow_checkpoint` from what `model.save_pretrained` would write, but for noise in experts
    that the file holds one by one and the model in a stack: it is as strong, of other bits. Parameters that change
    are new objects, and the old ones are left empty, whoever still holds them; gradients are dropped. Optimizers that are given
    go on with the grown model: their moments grow by the rules of their weights, and every tensor has its factors of lr,
    weight decay and eps, so that noise-free growth in width trains on as the source would have (see docs/training.md). The
    next step of any other one warns that it does not train the new parameters.
    In depth growth, layers keep their modules, parameters and memory in the first place where they stand. Memory at the
    peak: that of both models where it can be had, so that a growth that fails leaves the model as it was; else that of the
    grown model and 256 MiB, which is warned of. What the plan warns of comes as Python warnings before the work starts.

    Args:
        model: a model class of transformers itself, neither wrapped, sharded nor quantized.
        optimizer: the optimizers that train it, one or a list; between `zero_grad()` and the next backward pass.
        state: "grow", the moments with their weights; "fresh", none, as after a restart; "asymmetric", the moments of the
            first copies alone, which breaks the symmetry of copies. None: "grow", and "fresh" for learned growth.
        multipliers: where the factors are: "step", applied while the optimizer steps; "groups", in groups of their own, for
            steps compiled as one graph and trainers that know `lr_mult`; None, nowhere.
        masters: where the optimizer trains copies of the parameters in another dtype, those copies and their parameters. The
            copies grow, and the model's weights are cast from them; the mapping is refilled in place.
        allow_nonfinite: let NaN and Inf in the weights pass.
        on_progress: called with the stage ("growing"), the bytes computed so far, and those in all. What it raises is raised
            at the end.
        plan: one to carry out in place of options, such as `LearnedGrowth.materialise` gives.
        options: what to grow, by the names of `GrowthOptions`.

    Returns:
        The model: the same object.

    Raises:
        GrowthError: the model or an optimizer cannot be grown, or the grown ones do not fit into memory. Both are untouched.

    Example:
        >>> optimizer.zero_grad()
        >>> growkernels.grow_model(model, optimizer, width=2)
    """
    with plain_tensors():
        growth = Growth.open(open_model(model), options, plan)
        growth.check()
        source, plan = growth.source, growth.started().plan
        if plan.config["architectures"] != plan.source_config["architectures"]:
            raise GrowthError(
                f"the grown model is a {plan.config['architectures'][0]}, and a live {type(model).__name__} cannot become one: "
                f"save it, and grow the checkpoint with load_grown or grow_checkpoint."
            )
        training = Training(source, plan, optimizer, state, multipliers, masters)

        def parameter(rule: Rule, value: torch.Tensor) -> nn.Parameter:
            trained = not rule.sources or source.parameters[rule.source].requires_grad
            return nn.Parameter(value, trained and value.is_floating_point())

        sink = _empty_model(growth, parameter)
        matrices = cache(partial(training.matrices, partial(open_matrices, plan)))
        rules = prepare(source, sink.rules(plan.rules), matrices, allow_nonfinite)
        graft = Graft(
            model,
            source.fresh.empty_model(),
            sink.model,
            _origins(sink.model, Stacks(growth.layout.stacks), plan.layer_index),
        )
        source.kept = kept = unchanged(source, rules)
        tensors = TrainingSource(source, training)
        changing = training.with_moments(rule for rule in rules if kept.get(rule.source) is not rule)
        prepare(tensors, [rule for rule in changing if training.is_moment(rule)], matrices, allow_nonfinite)
        source.frees_early = not _fits_beside(tensors, changing, sink.bucket, training.cast_bytes)
    growth.warn()
    if graft.uncompiled:
        warnings.warn(
            f"{', '.join(graft.uncompiled[:3])} and their like were compiled by themselves (module.compile()); copies of them "
            f"are not: compile the layers again.",
            stacklevel=2,
        )
    if source.frees_early:
        warnings.warn(_AT_RISK, stacklevel=2)
    progress = _Deferred(on_progress)
    with plain_tensors(), _critical(tensors), torch.no_grad():
        for name, rule in kept.items():
            sink.put(rule.target, source.parameters[name])
        run(tensors, changing, TrainingSink(sink, training), matrices, progress=progress)
        put = training.prepared(sink, rules)
        graft.apply()
        put()
        source.empty()
    emptied = [parameter for name, parameter in source.parameters.items() if name not in kept]
    watch_optimizers(model, emptied, [source.parameters[name] for name in kept])
    close_wrappers(model)
    remember_seed(model, plan.seed)
    remember_plan(model, plan)
    progress.raise_again()
    return model


@spelled_out()
def load_grown(
    src: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    allow_nonfinite: bool = False,
    on_progress: OnProgress | None = None,
    plan: Plan | None = None,
    strip_prefix: str = "",
    **options: Unpack[GrowthKeywordsButDtype],
) -> PreTrainedModel:
    """Load the grown model of a checkpoint: what stock transformers would load from `grow_checkpoint(src, ...)`.

    No grown checkpoint is written. Only the small checkpoint's tensors are read and sent to the device, where the grown ones
    are computed. What the plan warns of comes as Python warnings before the work starts.

    Args:
        src: checkpoint to grow, a folder or a hub id. It is only read.
        device: where the model will be, such as "cuda" or "cuda:1".
        dtype: of the grown weights, such as "bfloat16" or torch.bfloat16; None keeps the stored one.
        allow_nonfinite: let NaN and Inf in the weights pass.
        on_progress: called with the stage ("growing"), the bytes computed so far, and those in all.
        plan: one to carry out in place of options, such as `LearnedGrowth.materialise` gives.
        strip_prefix: what a wrapper put before the names of the tensors of `src`, such as "module.", to be left out.
        options: what to grow, by the other names of `GrowthOptions`.

    Returns:
        The grown model, in eval mode, on the device.

    Raises:
        GrowthError: the checkpoint cannot be grown, or the grown model does not fit into memory.

    Example:
        >>> model = growkernels.load_grown("./small", device="cuda", width=2)
    """
    place = open_device(device)
    keywords = GrowthKeywords(**options)
    if dtype is not None:
        keywords["dtype"] = str(dtype).removeprefix("torch.")
    with plain_tensors():
        growth = Growth.open(src, keywords, plan, strip_prefix)
        refuse_live(growth.layout)
        refuse_derived(growth.layout)
        growth.check()
        plan = growth.started().plan

    def parameter(rule: Rule, value: torch.Tensor) -> nn.Parameter:
        # Stock transformers gives every parameter the model's dtype, also where the file mixes them.
        dtype = sink.dtype(rule.target)
        return nn.Parameter(value.to(dtype), dtype.is_floating_point)

    growth.warn()
    with plain_tensors(), torch.no_grad():
        sink = _empty_model(growth, parameter)
        matrices = cache(partial(open_matrices, plan))
        rules = sink.rules(plan.rules)
        source = DeviceSource(growth.source, place)
        if place != CPU:
            names = {name for rule in rules for name in rule.sources}
            check_memory(place, sum(growth.source.tensors[name].nbytes for name in names))
        rules = prepare(source, rules, matrices, allow_nonfinite)
        # On the CPU, tensors are views of the file: they take no memory, and cannot be parameters.
        kept = unchanged(source, rules) if place != CPU else {}
        changing = [rule for rule in rules if kept.get(rule.source) is not rule]
        freed = {name for name in source.tensors if place != CPU and name not in kept}
        for where, needed in peak_memory(source, changing, sink.bucket, freed.__contains__).items():
            check_memory(where, needed)
        for name, rule in kept.items():
            sink.done(rule, source.tensor(name))
        run(source, changing, sink, matrices, progress=partial(on_progress, "growing") if on_progress else None)
    growth.source.check_unchanged()
    model = sink.model
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(place)
    if isinstance(model, PreTrainedModel):
        generation = read_generation_config(growth.source.path, growth.layout.architecture)
        if generation is not None:
            model.generation_config = generation
    remember_seed(model, plan.seed)
    remember_plan(model, plan)
    return cast(PreTrainedModel, model.eval())  # of a declared class: that class's own module


def _empty_model(growth: Growth, parameter: Callable[[Rule, torch.Tensor], nn.Parameter]) -> ModuleSink:
    plan = growth.plan
    stored = plan.config.get("dtype") or plan.config.get("torch_dtype") or plan.rules[0].spec.dtype
    dtype = getattr(torch, stored)
    model_type, architecture = plan.config["model_type"], plan.config["architectures"][0]
    grown = ModelClass(FAMILIES[model_type], architecture, plan.config, dtype)
    model = grown.empty_model()
    if isinstance(model, PreTrainedModel):
        model.config.dtype = dtype
    return ModuleSink(model, grown.find, parameter)


def _origins(model: nn.Module, stacks: Stacks, layer_index: Sequence[int]) -> dict[str, str]:
    """The path of every module, and of the module of the source that it continues or copies."""
    origins = {}
    for path, _ in model.named_modules():
        group, layer = stacks.split(f"{path}.")
        origin = group if layer is None else group.replace("{}", str(layer_index[layer]))
        origins[path] = origin.removesuffix(".")
    return origins


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


def _fits_beside(tensors: TrainingSource, rules: Sequence[Rule], bucket: int, more: int) -> bool:
    """Whether the grown weights fit into memory beside the old ones; else whether they do where old ones are freed.

    more: bytes that no rule counts. Raises GrowthError where they do not fit either way.
    """
    fits = True
    for device, needed in peak_memory(tensors, rules, bucket, lambda name: name not in tensors.model.kept).items():
        check_memory(device, needed + more)
        whole = more + sum(rule.spec.nbytes for rule in rules if tensors.device(rule.source) == device)
        fits = fits and whole + bucket <= free_memory(device)
    return fits


@contextmanager
def _critical(tensors: TrainingSource) -> Iterator[None]:
    """Critical section of a growth in place: signals are deferred until it completes. A failure says what is lost."""
    with Stoppable() as stopping:
        stopping.deaf = True
        try:
            yield
        except BaseException as error:
            source = tensors.model
            if source.emptied:
                first, origin = source.emptied[0], source.origin
                moments = len(tensors.emptied)
                error.add_note(
                    f"The model was being grown in place and has lost {len(source.emptied)} of {len(source.parameters)} "
                    f"weights"
                    + (f" and {moments} entries of its optimizer's state" if moments else "")
                    + f", {first} first: load it again"
                    + (f", {source.name}.from_pretrained({origin!r})" if origin else " from where it was saved")
                    + (", and the optimizer's state from the last checkpoint." if moments else ".")
                )
            raise
