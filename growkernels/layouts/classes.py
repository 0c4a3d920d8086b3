"""A class of transformers, or of one's own, built on the meta device: its parameters and its file. Nothing is allocated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import torch
import transformers
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, WeightConverter, WeightTransform, rename_source_key
from transformers.modeling_utils import PreTrainedModel, local_torch_dtype

from growkernels.errors import GrowthError
from growkernels.layouts.base import Place
from growkernels.layouts.family import Family
from growkernels.layouts.knobs import config_object, quiet
from growkernels.layouts.parameters import read_parameters
from growkernels.layouts.places import file_places
from growkernels.layouts.running import check_runs

#: Keys of a `config.json` that say what it is, and are no keywords of a class of one's own.
NOT_OWN = frozenset(
    ("model_type", "architectures", "dtype", "torch_dtype", "transformers_version", "tie_word_embeddings")
)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Modules that are made here keep their buffers, and put their parameters on the meta device one by one."""
    register = nn.Module.register_parameter

    def on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(self, name, param)
        # One that is there already is tied to another name, and stays the same object.
        if param is not None and not param.is_meta:
            self._parameters[name] = nn.Parameter(param.to("meta"), param.requires_grad)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


class _Uninitialized(TorchFunctionMode):
    """Leaves out the initial values of parameters: half of the time that building on the meta device takes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if getattr(func, "__module__", "") == "torch.nn.init" else func(*args, **kwargs)


def build(
    architecture: str, config: PreTrainedConfig, dtype: torch.dtype = torch.float32, family: Family | None = None
) -> PreTrainedModel:
    """A class on the meta device, of transformers or of `family`, with parameters of `dtype`.

    Raises GrowthError where it refuses the config.
    """
    try:
        if family is not None and family.build is not None:
            with torch.device("meta"), _Uninitialized():
                return _as_model(family.build(_own_keys(config)).to(dtype))
        with quiet(), torch.device("meta"), _Uninitialized(), local_torch_dtype(dtype):
            return getattr(transformers, architecture)(config)
    except Exception as error:  # model classes raise many kinds
        reason = " ".join(str(error).split()).rstrip(".")
        source = "transformers" if family is None or family.build is None else "its own function"
        raise GrowthError(f"{source} cannot build {architecture}: {reason}. Fix config.json.") from error


def _as_model(module: nn.Module) -> PreTrainedModel:
    """A plain module under the type of the others: only what modules have is asked of it, as it is not `_stock`."""
    return cast(PreTrainedModel, module)


def _own_keys(config: object) -> dict[str, Any]:
    """The keys of a config that its class knows: not those that say what it is."""
    return {key: value for key, value in vars(config).items() if key not in NOT_OWN}


class ModelClass:
    """A class of transformers, built on the meta device from a config."""

    def __init__(
        self, family: Family, architecture: str, config: Mapping[str, Any], dtype: torch.dtype = torch.float32
    ) -> None:
        """`dtype` is that of the parameters. Raises GrowthError where the class refuses the config."""
        self._read(family, architecture, config_object(family, config), dtype)

    @classmethod
    def from_config(cls, family: Family, architecture: str, loaded: PreTrainedConfig) -> ModelClass:
        """The class of a config that has been read already."""
        made = cls.__new__(cls)
        made._read(family, architecture, loaded, torch.float32)
        return made

    def _read(self, family: Family, architecture: str, loaded: PreTrainedConfig, dtype: torch.dtype) -> None:
        self._family, self._loaded = family, loaded
        self._model = model = build(architecture, loaded, dtype, family)
        self.architecture = architecture
        self.parameters = read_parameters(model)

    @cached_property
    def _state(self) -> dict[str, torch.Tensor]:
        return self._model.state_dict()

    @cached_property
    def _transforms(self) -> list[WeightTransform]:
        return get_model_conversion_mapping(self._model) if self._stock else []

    @property
    def _stock(self) -> bool:
        """Whether this is a class of transformers."""
        return self._family.build is None

    @property
    def _prefix(self) -> str:
        return self._model.base_model_prefix if self._stock else ""

    @cached_property
    def _converters(self) -> list[WeightConverter]:
        return [t for t in self._transforms if isinstance(t, WeightConverter)]

    @cached_property
    def _renamings(self) -> list[WeightTransform]:
        return [t for t in self._transforms if not isinstance(t, WeightConverter)]

    @cached_property
    def _reverse(self) -> list[WeightTransform]:
        # Old names are read, and never written; prefixes are those of other classes' files.
        stored = get_model_conversion_mapping(self._model, add_legacy=False) if self._stock else []
        kept = [t for t in reversed(stored) if not isinstance(t, (WeightConverter, PrefixChange))]
        return [transform.reverse_transform() for transform in kept]

    @cached_property
    def _written(self) -> dict[str, tuple[tuple[int, ...], tuple[Place, ...]]]:
        """Shape and places of every tensor that the class writes, by file name; empty where it moves no values."""
        if not self._converters:
            return {}
        state = {name: self._state[name] for name, p in self.parameters.items() if p.shares == name}
        return file_places(self._model, state)

    @cached_property
    def files(self) -> dict[str, tuple[tuple[int, ...], tuple[Place, ...]]]:
        """Those of them that are no whole parameters."""
        return {
            name: (shape, places)
            for name, (shape, places) in self._written.items()
            if len(places) > 1 or places[0].index
        }

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that the config names; None if it names none."""
        return cast(torch.dtype | None, getattr(self._loaded, "dtype", None))

    def written(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that the class would write, by file name; a tied one once."""
        if self._written:
            return {name: shape for name, (shape, _) in self._written.items()}
        return {self.file_name(name): p.shape for name, p in self.parameters.items() if p.shares == name}

    def find(self, file_name: str) -> tuple[Place, ...]:
        """The places of a stored tensor in the state dict (its parameter may be none of this class)."""
        prefix = f"{self._prefix}."
        for name in (file_name, prefix + file_name, file_name.removeprefix(prefix)):
            if name in self._written:
                return self._written[name][1]
        return (Place(self.parameter_name(file_name)),)

    def cut_name(self, file_name: str) -> str:
        """The name in `files` of a stored tensor; its own name where it is a whole parameter."""
        prefix = f"{self._prefix}."
        names = (file_name, prefix + file_name, file_name.removeprefix(prefix))
        return next((name for name in names if name in self.files), file_name)

    @cached_property
    def unsaved(self) -> frozenset[str]:
        """Parameters that the class computes itself and never stores."""
        patterns = getattr(self._model, "_keys_to_ignore_on_save", None) or ()
        return frozenset(name for name in self.parameters if any(re.search(found, name) for found in patterns))

    @cached_property
    def integers(self) -> frozenset[str]:
        """Entries of the state dict that are whole numbers, such as tables of ids."""
        return frozenset(name for name, tensor in self._state.items() if not tensor.dtype.is_floating_point)

    @cached_property
    def head(self) -> str | None:
        """The parameter that puts out the logits of a language model; None for classes without one."""
        if not self._stock:
            return f"{self._family.head}.weight" if self._family.head else None
        try:
            module = self._model.get_output_embeddings()
        except (AttributeError, NotImplementedError):
            return None
        paths = (path for path, found in self._model.named_modules() if found is module)
        path = next(paths, None) if module is not None else None
        name = f"{path}.weight"
        return name if name in self.parameters else None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules by path."""
        return dict(self._model.named_modules())

    def check_runs(self, stacks: Sequence[str], kinds: Sequence[int]) -> None:
        """Raise GrowthError where sizes of the config contradict each other, so that the class cannot run."""
        if self._stock:
            check_runs(self._model, stacks, kinds)

    def empty_model(self) -> PreTrainedModel:
        """The model without its weights: buffers computed on the CPU, parameters still on the meta device, to be put in."""
        if not self._stock:
            assert self._family.build is not None
            with _parameters_on_meta(), _Uninitialized():
                return _as_model(self._family.build(_own_keys(self._loaded)))
        for module in self._model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = torch.empty_like(buffer, device="cpu")
        for parameter in self._model.parameters():
            # The mark of transformers for what has its values: left out, which takes longer than the rest together.
            parameter._is_hf_initialized = True  # type: ignore[attr-defined]
        # As from_pretrained does for what no file holds: here, the buffers.
        self._model.initialize_weights()
        return self._model

    def parameter_name(self, file_name: str) -> str:
        """The state-dict name under which transformers loads a stored tensor (it may be no parameter of this class)."""
        if not self._stock:
            return file_name
        prefix = self._prefix
        return rename_source_key(file_name, cast(list[Any], self._renamings), self._converters, prefix, self._state)[0]

    def file_name(self, parameter: str) -> str:
        """The name under which transformers would store a parameter."""
        return rename_source_key(parameter, cast(list[Any], self._reverse), [], reverse=True)[0]

    def knows(self, places: Mapping[str, tuple[Place, ...]]) -> bool:
        """Whether all places are in parameters of this class."""
        return all(place.parameter in self.parameters for found in places.values() for place in found)
