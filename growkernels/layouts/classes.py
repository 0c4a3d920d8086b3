"""What the class in transformers says of its parameters: names, shapes, module types, ties. Nothing is allocated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, rename_source_key
from transformers.modeling_utils import PreTrainedModel, local_torch_dtype
from transformers.pytorch_utils import Conv1D

from growkernels.errors import GrowthError
from growkernels.layouts.families import Family
from growkernels.layouts.knobs import config_object, quiet

ModuleKind = Literal["linear", "conv1d", "embedding", "norm", "other"]

_LAYER = re.compile(r"(^|\.)(\d+)\.")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One entry of the state dict; `shares` names the parameter whose tensor it is (itself unless it is tied)."""

    name: str
    shape: tuple[int, ...]
    module: ModuleKind
    shares: str


def split_layer(name: str) -> tuple[str, int | None]:
    """The name with its layer number as `{}`, and that number; None where there is none."""
    match = _LAYER.search(name)
    if match is None:
        return name, None
    return f"{name[: match.start(2)]}{{}}{name[match.end(2) :]}", int(match.group(2))


class _Uninitialized(TorchFunctionMode):
    """Leaves out the initial values of parameters: half of the time that building on the meta device takes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if getattr(func, "__module__", "") == "torch.nn.init" else func(*args, **kwargs)


def build(architecture: str, config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A class of transformers on the meta device, with parameters of `dtype`. Raises GrowthError where it refuses."""
    try:
        with quiet(), torch.device("meta"), _Uninitialized(), local_torch_dtype(dtype):
            return getattr(transformers, architecture)(config)
    except Exception as error:  # model classes raise many kinds
        reason = " ".join(str(error).split()).rstrip(".")
        raise GrowthError(f"transformers cannot build {architecture}: {reason}. Mend config.json.") from error


def read_parameters(model: nn.Module) -> dict[str, Parameter]:
    """The parameters of a model by name; a tied one under each of its names."""
    kinds = {name: _module_kind(module) for name, module in model.named_modules()}
    first: dict[int, str] = {}
    found: dict[str, Parameter] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        module = kinds[name.rpartition(".")[0]]
        found[name] = Parameter(name, tuple(tensor.shape), module, first.setdefault(id(tensor), name))
    return found


class ModelClass:
    """A class of transformers, built on the meta device from a config."""

    def __init__(
        self, family: Family, architecture: str, config: Mapping[str, Any], dtype: torch.dtype = torch.float32
    ) -> None:
        """`dtype` is that of the parameters. Raises GrowthError where the class refuses the config."""
        self._model = build(architecture, config_object(family, config), dtype)
        self.architecture = architecture
        self.parameters = read_parameters(self._model)
        self._state = self._model.state_dict()
        transforms = get_model_conversion_mapping(self._model)
        self._converters = [t for t in transforms if isinstance(t, WeightConverter)]
        self._renamings = [t for t in transforms if not isinstance(t, WeightConverter)]
        # Old names are read, and never written.
        stored = get_model_conversion_mapping(self._model, add_legacy=False)
        self._reverse = [t.reverse_transform() for t in reversed(stored) if not isinstance(t, WeightConverter)]

    def empty_model(self) -> PreTrainedModel:
        """The model without its weights: buffers computed on the CPU, parameters still on the meta device, to be put in."""
        for module in self._model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = torch.empty_like(buffer, device="cpu")
        for parameter in self._model.parameters():
            # The mark of transformers for what has its values: left out, which takes longer than the rest together.
            parameter._is_hf_initialized = True
        # As from_pretrained does for what no file holds: here, the buffers.
        self._model.initialize_weights()
        return self._model

    def parameter_name(self, file_name: str) -> str:
        """The state-dict name under which transformers loads a stored tensor (it may be no parameter of this class)."""
        prefix = self._model.base_model_prefix
        return rename_source_key(file_name, self._renamings, self._converters, prefix, self._state)[0]

    def file_name(self, parameter: str) -> str:
        """The name under which transformers would store a parameter."""
        return rename_source_key(parameter, self._reverse, [], reverse=True)[0]

    def parameter_names(self, file_names: Iterable[str]) -> dict[str, str]:
        """`parameter_name` of each."""
        return {name: self.parameter_name(name) for name in file_names}

    def knows(self, names: Mapping[str, str]) -> bool:
        """Whether all `parameter_names` are parameters of this class."""
        return all(name in self.parameters for name in names.values())


def _module_kind(module: nn.Module) -> ModuleKind:
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, Conv1D):
        return "conv1d"
    if isinstance(module, nn.Embedding):
        return "embedding"
    # Norms have no common base class; by custom they carry the word in their name.
    return "norm" if type(module).__name__.lower().endswith("norm") else "other"
