"""What the class in transformers says of its parameters: names, shapes, module types, ties. Nothing is allocated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import nn
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


class ModelClass:
    """A class of transformers, built on the meta device from a config."""

    def __init__(
        self, family: Family, architecture: str, config: Mapping[str, Any], dtype: torch.dtype = torch.float32
    ) -> None:
        """`dtype` is that of the parameters. Raises GrowthError where the class refuses the config."""
        try:
            with quiet(), torch.device("meta"), local_torch_dtype(dtype):
                self._model = getattr(transformers, architecture)(config_object(family, config))
        except GrowthError:
            raise
        except Exception as error:  # model classes raise many kinds
            reason = " ".join(str(error).split()).rstrip(".")
            raise GrowthError(f"transformers cannot build {architecture}: {reason}. Mend config.json.") from error
        self.architecture = architecture
        self.parameters = self._read_parameters()
        self._state = self._model.state_dict()
        transforms = get_model_conversion_mapping(self._model)
        self._converters = [t for t in transforms if isinstance(t, WeightConverter)]
        self._renamings = [t for t in transforms if not isinstance(t, WeightConverter)]
        # Old names are read, and never written.
        stored = get_model_conversion_mapping(self._model, add_legacy=False)
        self._reverse = [t.reverse_transform() for t in reversed(stored) if not isinstance(t, WeightConverter)]

    def _read_parameters(self) -> dict[str, Parameter]:
        kinds = {name: _module_kind(module) for name, module in self._model.named_modules()}
        first: dict[int, str] = {}
        found: dict[str, Parameter] = {}
        for name, tensor in self._model.named_parameters(remove_duplicate=False):
            module = kinds[name.rpartition(".")[0]]
            found[name] = Parameter(name, tuple(tensor.shape), module, first.setdefault(id(tensor), name))
        return found

    def empty_model(self) -> PreTrainedModel:
        """The model without its weights: buffers computed on the CPU, parameters still on the meta device, to be put in."""
        for module in self._model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = torch.empty_like(buffer, device="cpu")
        # As from_pretrained does for what no file holds. On the meta device, initial weights cost nothing.
        self._model.initialize_weights()
        return self._model

    def parameter_name(self, file_name: str) -> str:
        """The state-dict name under which transformers loads a stored tensor (it may be no parameter of this class)."""
        prefix = self._model.base_model_prefix
        return rename_source_key(file_name, self._renamings, self._converters, prefix, self._state)[0]

    def file_name(self, parameter: str) -> str:
        """The name under which transformers would store a parameter."""
        return rename_source_key(parameter, self._reverse, [], reverse=True)[0]

    def knows(self, file_names: Iterable[str]) -> bool:
        """Whether every stored tensor is a parameter of this class."""
        return all(self.parameter_name(name) in self.parameters for name in file_names)


def _module_kind(module: nn.Module) -> ModuleKind:
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, Conv1D):
        return "conv1d"
    if isinstance(module, nn.Embedding):
        return "embedding"
    # Norms have no common base class; by custom they carry the word in their name.
    return "norm" if type(module).__name__.lower().endswith("norm") else "other"
