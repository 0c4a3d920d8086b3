"""Training what a growth added and nothing else: the parameters that the source had are frozen."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

from torch import nn

from growkernels.api import Report
from growkernels.errors import GrowthError
from growkernels.executors.files.manifest import MANIFEST, read_manifest
from growkernels.plans import Plan

#: The plans of the models that this process has grown in memory, without learned matrices.
_PLANS: WeakKeyDictionary[nn.Module, Plan] = WeakKeyDictionary()

#: A layer in a name: the module that holds the layers, and the number. What stands before and behind it may differ between a
#: file and the model, as the base model's prefix and stacks of experts do.
_LAYER = re.compile(r"(?:^|\.)([^.]+\.\d+)\.")


def freeze_old(model: nn.Module, new: Report | Plan | Iterable[str] | None = None) -> tuple[str, ...]:
    """Let only what is new in a grown model be trained: all other parameters get `requires_grad = False`, and no gradient.

    Call it before the optimizer is made.

    Args:
        model: a grown model, from `grow_model`, `load_grown` or the class in transformers.
        new: what is new: the report or the plan of the growth, or names of parameters or modules of the model. By default
            what `grow_model` made new in this process, or what the manifest beside the model's checkpoint says.

    Returns:
        The names of the parameters that are trained.

    Raises:
        GrowthError: nothing is new in the model, or nobody knows what. The model is untouched.

    Example:
        >>> model = growkernels.grow_model(model, depth=2, depth_operator="llama_pro")
        >>> growkernels.freeze_old(model)
        >>> optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=peak)
    """
    names = [name for name, _ in model.named_parameters()]
    if new is None or isinstance(new, Report | Plan):
        layers = _known(model) if new is None else _layers(new)
        trained = [name for name in names if (match := _LAYER.search(name)) and match[1] in layers]
    else:
        given = tuple(new)
        trained = [name for name in names if any(name == g or name.startswith(f"{g}.") for g in given)]
    if not trained:
        raise GrowthError(
            f"no parameter of {type(model).__name__} is new. Name what is to be trained, such as model.layers.3; freeze_old is "
            f"for growths that add layers."
        )
    kept = set(trained)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in kept and parameter.is_floating_point())
        if name not in kept:
            parameter.grad = None
    return tuple(trained)


def remember_plan(model: nn.Module, plan: Plan) -> None:
    """Let `freeze_old` and `GrowthMask` know what a growth in memory has made new."""
    _PLANS[model] = replace(plan, matrices=None)


def plan_of(model: nn.Module) -> Plan | None:
    """The plan by which this process, or the manifest beside its checkpoint, grew a model; None if neither did."""
    if model in _PLANS:
        return _PLANS[model]
    folder = Path(str(getattr(getattr(model, "config", None), "_name_or_path", "") or ""))
    return read_manifest(folder).plan if (folder / MANIFEST).is_file() else None


def _layers(grown: Report | Plan) -> frozenset[str]:
    return frozenset(match[1] for name in grown.new_parameters if (match := _LAYER.search(name)))


def _known(model: nn.Module) -> frozenset[str]:
    plan = plan_of(model)
    if plan is not None:
        return _layers(plan)
    raise GrowthError(
        f"nobody knows what is new in this {type(model).__name__}: it was not grown by this process, and no {MANIFEST} lies "
        f"beside its checkpoint. Give the report or the plan of the growth, or names."
    )
