"""Masks for random growth: what is new ramps in over the first training steps, and the mask is folded away at 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from growkernels.api import Report
from growkernels.errors import GrowthError
from growkernels.freezing import plan_of
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import FAMILIES
from growkernels.layouts.stored import lay_out_config
from growkernels.masked import Scale, masks_of, with_plain_names
from growkernels.operators.ramps import Ramp, find_ramps
from growkernels.options import GrowthOptions
from growkernels.plans import Plan


class GrowthMask:
    """Ramps in what a random growth made new: at 0 the grown model computes what the source computes, at 1 it has no mask.

    What new layers add to the residual stream, and the new weights that write the stream or read new features, are multiplied
    by `value`, which rises linearly from 0 to 1. The parameters stay the objects that optimizers know; until the mask is
    folded their names in the model end in `.parametrizations.<name>.original`. A state dict, and so `save_pretrained`,
    has the plain names and what the model computes with at that moment: loaded again, it has no mask.

    Args:
        model: a live model that was grown with depth_operator random, width_operator random or both.
        grown: the report or the plan of the growth. By default that of `grow_model` or `load_grown` in this process, or of
            the manifest beside the model's checkpoint.
        steps: how many calls of `step` it takes from 0 to 1.

    Raises:
        GrowthError: the model was not grown so, or it does not compute the source's function without what is new. It is
            untouched.

    Example:
        >>> model = growkernels.grow_model(model, depth=2, depth_operator="random")
        >>> mask = growkernels.GrowthMask(model, steps=1000)
        >>> for batch in batches:
        ...     model(**batch).loss.backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     mask.step()
    """

    def __init__(self, model: PreTrainedModel, grown: Report | Plan | None = None, *, steps: int = 1000) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise GrowthError(f"steps is {steps!r}; expected a whole number of at least 1.")
        self._steps, self._done = steps, 0
        plan = grown.plan if isinstance(grown, Report) else plan_of(model) if grown is None else grown
        if plan is None:
            raise GrowthError(
                f"nobody knows how this {type(model).__name__} was grown: not by this process, and no manifest lies beside its "
                f"checkpoint. Give the report or the plan of the growth."
            )
        ramps = find_ramps(lay_out_config(plan.source_config), GrowthOptions.from_keywords(plan.options))
        scales = _scales(model, plan, ramps)
        #: Where each parameter is, twice for an embedding and the head that is tied to it.
        self._places = [
            (module, name, scales[id(parameter)])
            for module in model.modules()
            for name, parameter in module._parameters.items()
            if id(parameter) in scales
        ]
        self._orders = {module: tuple(module._parameters) for module, *_ in self._places}
        for module, name, scale in self._places:
            parametrize.register_parametrization(module, name, scale)
        self._hooks = [module.register_state_dict_post_hook(with_plain_names) for module in self._orders]

    @property
    def value(self) -> float:
        """What the new entries are multiplied by, from 0 to 1."""
        return self._done / self._steps

    def step(self) -> None:
        """Raise the mask by one step, after one of the optimizer. At 1 it is folded; from then on nothing happens."""
        if self._done == self._steps:
            return
        self._done += 1
        for *_, scale in self._places:
            scale.value.fill_(self.value)
        if self._done == self._steps:
            self.fold()

    def fold(self) -> None:
        """Write the masked values into the parameters and take the mask off: what the model computes stays as it is."""
        if self._done < self._steps:
            originals = {scale: masks_of(module)[name].original for module, name, scale in self._places}
            with torch.no_grad():
                for scale, original in originals.items():
                    parameter = cast(nn.Parameter, original)
                    parameter.copy_(scale(parameter))
        for hook in self._hooks:
            hook.remove()
        for module, name, _ in self._places:
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        for module, order in self._orders.items():
            # In the order that the class has them in: optimizers and their files count parameters by it.
            module._parameters = {name: module._parameters[name] for name in order}
        self._places, self._hooks, self._orders, self._done = [], [], {}, self._steps

    def __repr__(self) -> str:
        return f"GrowthMask({len(self._places)} parameters, step {self._done} of {self._steps})"


def _scales(model: PreTrainedModel, plan: Plan, ramps: Mapping[str, Ramp]) -> dict[int, Scale]:
    """The parametrizations by the id of their parameter. Raises GrowthError where the plan is not of this model."""
    grown = ModelClass(FAMILIES[plan.config["model_type"]], plan.config["architectures"][0], plan.config)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found: dict[int, tuple[nn.Parameter, torch.Tensor, float]] = {}
    for target, ramp in ramps.items():
        entries, places = torch.from_numpy(ramp.entries), grown.find(target)
        for place in places:
            parameter = parameters.get(place.parameter)
            if parameter is None or parameter.shape != grown.parameters[place.parameter].shape:
                raise GrowthError(
                    f"{place.parameter} is not in this {type(model).__name__} as the growth made it; expected a bare "
                    f"{grown.architecture} as it was grown, without another mask."
                )
            fresh = parameter, torch.zeros(parameter.shape, dtype=torch.bool), ramp.silent
            whole = found.setdefault(id(parameter), fresh)[1]
            here = whole[place.index] if place.index else whole
            here = here.permute(place.order) if place.order else here
            size = whole.shape[place.axis]
            here |= entries if len(places) == 1 else entries.narrow(place.axis, place.start, size)
    if not found:
        raise GrowthError("nothing ramps in: this growth made nothing new that the function depends on.")
    return {key: Scale(entries.to(one.device), silent) for key, (one, entries, silent) in found.items()}
