"""Live models against those that stock transformers loads, down to every attribute; and whether one was touched."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

#: Attributes that say how a model came about and not what it is.
HISTORY = {"_is_hf_initialized", "name_or_path", "_use_kernels", "_weight_conversions"}
PLAIN = (bool, int, float, str, type(None), tuple, list, dict, set)


def assert_same_bits(found: torch.Tensor, wanted: torch.Tensor, name: str) -> None:
    """Equal dtype, shape and bytes."""
    assert (found.dtype, found.shape, found.device) == (wanted.dtype, wanted.shape, wanted.device), name
    if found.ndim:
        assert torch.equal(found.detach().view(torch.uint8), wanted.detach().view(torch.uint8)), name
    else:
        assert torch.equal(found, wanted), name


def attributes(module: nn.Module) -> dict[str, Any]:
    """The plain attributes of one module."""
    state = {name: value for name, value in vars(module).items() if isinstance(value, PLAIN)}
    return {
        name: value
        for name, value in state.items()
        if name not in (*HISTORY, "_parameters", "_buffers", "_modules") and "hooks" not in name
    }


def ties(model: nn.Module) -> list[list[str]]:
    """Names of the parameters that are one object."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def assert_same_model(found: PreTrainedModel, wanted: PreTrainedModel) -> None:
    """The same tree of the same classes with equal attributes, tensors, ties and configs."""
    modules, others = dict(found.named_modules()), dict(wanted.named_modules())
    assert list(modules) == list(others)
    for path, module in modules.items():
        assert type(module) is type(others[path]), path
        assert attributes(module) == attributes(others[path]), path
        if hasattr(module, "config"):
            assert module.config is found.config, path
    for tensors in ("named_parameters", "named_buffers"):
        mine, theirs = (dict(getattr(model, tensors)(remove_duplicate=False)) for model in (found, wanted))
        assert list(mine) == list(theirs)
        for name, tensor in mine.items():
            assert_same_bits(tensor, theirs[name], name)
            assert tensor.requires_grad == theirs[name].requires_grad, name
    assert ties(found) == ties(wanted)
    configs = (found.config.to_dict(), wanted.config.to_dict())
    assert {**configs[0], "_name_or_path": ""} == {**configs[1], "_name_or_path": ""}
    if wanted.can_generate():
        assert found.generation_config.to_dict() == wanted.generation_config.to_dict()


class Untouched:
    """Remembers a model; `check` asserts that nothing of it has changed."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._tree = [(path, module, dict(vars(module))) for path, module in model.named_modules()]
        self._tensors = [(name, tensor, tensor.detach().clone(), tensor.grad) for name, tensor in self._all()]
        self._config = model.config.to_dict()

    def _all(self) -> list[tuple[str, torch.Tensor]]:
        return [*self._model.named_parameters(remove_duplicate=False), *self._model.named_buffers()]

    def check(self) -> None:
        assert [path for path, _ in self._model.named_modules()] == [path for path, *_ in self._tree]
        for (path, module, state), now in zip(self._tree, self._model.modules(), strict=True):
            assert now is module, path
            assert vars(module).keys() == state.keys(), path
            assert all(vars(module)[name] is value for name, value in state.items()), path
        for (name, tensor, values, grad), (now, current) in zip(self._tensors, self._all(), strict=True):
            assert now == name and current is tensor and current.grad is grad, name
            if tensor.layout is torch.strided and not tensor.is_meta:
                assert_same_bits(current, values, name)
        assert self._model.config.to_dict() == self._config
