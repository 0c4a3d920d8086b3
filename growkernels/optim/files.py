"""The training state beside a checkpoint, as the Trainer writes it: the optimizer's grows, everything else is carried."""

from __future__ import annotations

import shutil
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from growkernels.errors import GrowthError
from growkernels.executors.learned import open_matrices
from growkernels.executors.memory import check_memory
from growkernels.executors.preflight import prepare
from growkernels.executors.run import run
from growkernels.executors.sinks.module import ModuleSink
from growkernels.executors.sources.checkpoint import Source
from growkernels.executors.sources.model import LiveSource
from growkernels.layouts import discover
from growkernels.layouts.checks import find_architecture
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.discover import find_row
from growkernels.layouts.families import FAMILIES
from growkernels.operators import make_plan
from growkernels.optim.hooks import load
from growkernels.optim.run import TrainingSink, TrainingSource
from growkernels.optim.saved import rebuilt
from growkernels.optim.training import Training
from growkernels.options import GrowthOptions
from growkernels.plans import Plan

OPTIMIZER = "optimizer.pt"
#: What is carried as it is, where it is there.
_CARRIED = ("scheduler.pt", "scaler.pt", "rng_state*.pth", "trainer_state.json", "training_args.bin")
#: What `load` is called for, which puts back the groups of a step that raised: this one has made none.
_NONE = torch.optim.SGD([nn.Parameter(torch.empty(0))])


def grow_training_files(source: Source, plan: Plan, folder: Path) -> tuple[str, ...]:
    """Write the grown training state of a checkpoint into the folder of the grown one.

    `optimizer.pt` is read without running code from it (`weights_only=True`) and mapped, not loaded; the grown state is held
    in memory until it is written. Scheduler, scaler, states of random generators and the Trainer's state are copied.

    Args:
        source: the checkpoint.
        plan: by which its weights were grown.
        folder: of the grown checkpoint.

    Returns:
        The names of the files that were written.

    Raises:
        GrowthError: there is no `optimizer.pt`, its parameters cannot be named, or its state cannot be grown.
    """
    path = source.path / OPTIMIZER
    if plan.is_learned:
        raise GrowthError(
            "learned growth has no rule for the optimizer's state: grow without --optimizer, and start with a new optimizer."
        )
    if plan.config.get("architectures") != plan.source_config.get("architectures"):
        raise GrowthError(
            "the grown model is of another class, with other tensors than the optimizer has states of: grow without "
            "--optimizer, and start with a new optimizer."
        )
    saved = _read(path)
    live, own = _as_live(source, plan)
    optimizer = rebuilt(path, saved, live)
    training = Training(live, own, optimizer, "grow", "step", None)
    target = ModelClass(FAMILIES[find_row(own.config).model_type], live.fresh.architecture, own.config)
    sink = ModuleSink(target.empty_model(), target.find, lambda rule, value: nn.Parameter(value))
    tensors = TrainingSource(live, training)
    rules = [rule for rule in training.with_moments(own.rules) if training.is_moment(rule)]
    matrices = cache(partial(open_matrices, own))
    check_memory(torch.device("cpu"), sum(rule.spec.nbytes for rule in rules) + sink.bucket)
    with torch.no_grad():
        run(tensors, prepare(tensors, rules, matrices), TrainingSink(sink, training), matrices)
        training.prepared(sink, own.rules)()
    written = [OPTIMIZER]
    try:
        torch.save(optimizer.state_dict(), folder / OPTIMIZER)
        for found in (one for pattern in _CARRIED for one in sorted(source.path.glob(pattern))):
            shutil.copyfile(found, folder / found.name)
            written.append(found.name)
    except (OSError, RuntimeError) as error:
        raise GrowthError(f"the training state cannot be written to {folder}: {error}") from error
    return tuple(written)


def check_training_files(source: Source) -> None:
    """Raise GrowthError unless the checkpoint has an optimizer's state that can be read."""
    _read(source.path / OPTIMIZER)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GrowthError(
            f"{path} is not there: --optimizer grows the state that the Trainer saves as {OPTIMIZER}. Leave --optimizer out "
            f"to grow the weights alone."
        )
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # what torch raises for damaged files is of many kinds
        reason = " ".join(str(error).split())[:200]
        raise GrowthError(f"{path} cannot be read safely (weights_only=True): {reason}") from error
    if not isinstance(saved, dict) or not {"state", "param_groups"} <= saved.keys():
        raise GrowthError(f"{path} is not the state of an optimizer; expected a dict with state and param_groups.")
    found: dict[str, Any] = saved
    return load(_NONE, found) or found


def _as_live(source: Source, plan: Plan) -> tuple[LiveSource, Plan]:
    """The model of a checkpoint without values, by the names of its parameters; and the plan by these names."""
    family = find_row(source.config)
    fresh = ModelClass(family, find_architecture(family, source.config), source.config)
    model = fresh.modules[""]
    parameters: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        file = fresh.file_name(name)
        spec = source.tensors.get(file)
        if spec is None or spec.shape != tuple(parameter.shape):
            raise GrowthError(
                f"{name} is not one tensor of the checkpoint's files, so that the state of its optimizer cannot follow them: "
                f"load the model and its optimizer, and grow both by grow_model(model, optimizer)."
            )
        parameters[file] = nn.Parameter(parameter.to(getattr(torch, spec.dtype)), parameter.is_floating_point())
    live = LiveSource(source.name, dict(source.config), parameters, fresh)
    layout = discover(live.config, live.tensors, fresh)
    return live, make_plan(layout, GrowthOptions.from_keywords(plan.options))
