"""A live model of transformers seen as the checkpoint that it would be saved as."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.executors.sources.changes import check_changes
from growkernels.layouts.checks import find_architecture
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.discover import find_row
from growkernels.layouts.families import family_of
from growkernels.rules.tensor import TensorSpec

#: Where wrappers keep the model itself.
_WRAPPERS = {"_orig_mod": "torch.compile", "module": "a wrapper such as DistributedDataParallel"}


#: Seeds that models were grown with.
_SEEDS: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@dataclass(eq=False, repr=False)
class LiveSource:
    """A live model: its config, its parameters and the buffers of its file, under the names that they have there, tied ones
    once. Stacks that a file would hold in parts are whole, under their own names.

    `fresh` is the same class built anew from the config. `kept` are parameters that the
    grown model goes on with, `emptied` those that were freed; `frees_early`: as soon as they are not needed any more, and not
    all at the end.
    """

    name: str
    config: dict[str, Any]
    parameters: dict[str, torch.Tensor]
    fresh: ModelClass
    kept: Collection[str] = ()
    frees_early: bool = False
    #: That of the growth that made the model what it is, if one did in this process; and the folder it was loaded from.
    last_seed: int | None = None
    origin: str = ""
    emptied: list[str] = field(default_factory=list)
    tensors: dict[str, TensorSpec] = field(init=False)

    def __post_init__(self) -> None:
        self.tensors = {
            name: TensorSpec(tuple(p.shape), str(p.dtype).removeprefix("torch.")) for name, p in self.parameters.items()
        }

    def tensor(self, name: str) -> torch.Tensor:
        """The values of a parameter, not recorded by autograd."""
        return self.parameters[name].detach()

    def device(self, name: str) -> torch.device:
        """The device of a parameter; of the name "", that of the first one."""
        return self.parameters[name].device if name else next(iter(self.parameters.values())).device

    def free(self, name: str) -> None:
        """Empty a parameter, whoever still holds it, unless it is one of the `kept` or is to be emptied at the end."""
        if self.frees_early and name not in self.kept:
            self._empty(name)

    def empty(self) -> None:
        """Empty all parameters that the grown model does not go on with; drop the gradients of the others."""
        for name, parameter in self.parameters.items():
            if name in self.kept:
                parameter.grad = None
            elif name not in self.emptied:
                self._empty(name)

    def _empty(self, name: str) -> None:
        self.emptied.append(name)
        parameter = self.parameters[name]
        parameter.grad, parameter.data = None, parameter.data.new_empty(0)

    def __repr__(self) -> str:
        return f"LiveSource({self.name!r}, {len(self.tensors)} tensors)"


#: What refusals say of a checkpoint, and what of a live model.
_WORDS = {
    "It is incomplete, or the config is not that of these weights: take both from the same checkpoint.": "Layers were added "
    "or removed since it was made: let its config say so.",
    "The config is not that of these weights: take both from the same checkpoint.": "It was changed since it was made: let its "
    "config say so, or grow it as it was.",
    "Quantized weights cannot be grown: start from the checkpoint before quantization.": "Quantized weights cannot be grown: "
    "load the model without quantization.",
    "the checkpoint is incomplete, or config.json names another architecture than it was saved from": "they were removed, "
    "shared or given other names since it was made",
    "name the class that has them in architectures, or remove them if nothing needs them": "take off what was added to it, "
    "and put it back afterwards",
    "start from the checkpoint before quantization, or dequantize it and save it again": "load it without quantization, or "
    "dequantize it",
    "choose a checkpoint without it": "choose a model without it",
    "remove it from the checkpoint": "delete it from the model, and put it back afterwards",
    "in the checkpoint": "in the model",
    "from the checkpoint": "from the model",
    "config.json": "the model's config",
}


@contextmanager
def of_a_model() -> Iterator[None]:
    """A block whose refusals speak of a live model, and of what can be done with one."""
    try:
        yield
    except GrowthError as error:
        text = str(error)
        for words, others in _WORDS.items():
            text = text.replace(words, others)
        raise GrowthError(text) from error


@of_a_model()
def open_model(model: nn.Module) -> LiveSource:
    """See a live model as a source. Raises GrowthError for what is no plain model of transformers with its weights here."""
    declared = family_of(model)
    if declared is not None and declared.config_of is not None:
        config = {
            "model_type": declared.model_type,
            "architectures": [type(model).__name__],
            **declared.config_of(model),
        }
        fresh = ModelClass(declared, type(model).__name__, config, next(model.parameters()).dtype)
    else:
        _check_kind(model)
        check_changes(model)
        assert isinstance(model, PreTrainedModel)
        config = _stored_config(model)
        family = find_row(config)
        fresh = ModelClass(family, find_architecture(family, config), config, model.dtype)
    parameters: dict[str, torch.Tensor] = {}
    buffers = [name for name, one in fresh.parameters.items() if one.module == "buffer"]
    for name, parameter in (*model.named_parameters(), *((name, model.get_buffer(name)) for name in buffers)):
        _check_parameter(name, parameter)
        parameters[fresh.file_name(name)] = parameter
    origin = getattr(model, "name_or_path", "")
    return LiveSource(type(model).__name__, config, parameters, fresh, last_seed=_SEEDS.get(model), origin=origin)


def remember_seed(model: nn.Module, seed: int) -> None:
    """Let the next growth of a model know the seed of its last one."""
    _SEEDS[model] = seed


def _check_kind(model: object) -> None:
    kind = type(model)
    if isinstance(model, PreTrainedModel) and getattr(transformers, kind.__name__, None) is kind:
        for name, module in model.named_modules():
            if "_orig_mod" in module._modules:
                raise GrowthError(
                    f"{name} of the model is wrapped by torch.compile: put its ._orig_mod in its place, grow the model, and "
                    f"compile again; or compile in place, by module.compile()."
                )
        return
    given = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(model, nn.Module) and not isinstance(model, PreTrainedModel):
        for attribute, wrapper in _WRAPPERS.items():
            if attribute in model._modules:
                raise GrowthError(f"{given} is not the model but {wrapper}: grow its .{attribute}, and wrap it again.")
    raise GrowthError(
        f"{given} cannot be grown: expected a model class of transformers itself, or a class of yours that was declared with "
        f"growkernels.declare_layout; unwrap the model, merge its adapters, and grow it before it is sharded."
    )


def _check_parameter(name: str, parameter: torch.Tensor) -> None:
    data = parameter.data
    if type(data) is not torch.Tensor or data.layout is not torch.strided:
        what = type(data).__name__ if type(data) is not torch.Tensor else f"{data.layout}"
        raise GrowthError(
            f"{name} is a {what}, not a plain dense tensor: grow the model before it is sharded, quantized or made sparse."
        )
    if parameter.is_meta:
        raise GrowthError(
            f"{name} has no values here (it is on the meta device, or offloaded): load the whole model first."
        )


def _stored_config(model: PreTrainedModel) -> dict[str, Any]:
    """The `config.json` that `save_pretrained` would write."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = model.dtype
    return json.loads(config.to_json_string())
