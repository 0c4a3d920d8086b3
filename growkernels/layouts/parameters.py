"""The parameters of a class: names, shapes, the kinds of their modules, ties."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

#: Router and experts are modules of the class's own with bare parameters; depthwise convolutions mix no channels.
ModuleKind = Literal[
    "linear", "conv1d", "embedding", "norm", "router", "experts", "conv", "depthwise", "buffer", "other"
]

_LAYER = re.compile(r"(^|\.)(\d+)\.")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One entry of the state dict; `shares` names the parameter whose tensor it is (itself unless it is tied)."""

    name: str
    shape: tuple[int, ...]
    module: ModuleKind
    shares: str


def split_layer(name: str) -> tuple[str, int | None]:
    """The name with its first number as `{}`, and that number; None where there is none."""
    match = _LAYER.search(name)
    if match is None:
        return name, None
    return f"{name[: match.start(2)]}{{}}{name[match.end(2) :]}", int(match.group(2))


def read_parameters(model: nn.Module) -> dict[str, Parameter]:
    """The parameters of a model by name, a tied one under each of its names; then the buffers that its file holds."""
    kinds = {name: _module_kind(module) for name, module in model.named_modules()}
    named = list(model.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    for name, tensor in named:
        # A tied tensor is the embedding, wherever the class has its head.
        held = first.setdefault(id(tensor), name)
        if kinds[name.rpartition(".")[0]] == "embedding" != kinds[held.rpartition(".")[0]]:
            first[id(tensor)] = name
    found: dict[str, Parameter] = {}
    for name, tensor in named:
        found[name] = Parameter(name, tuple(tensor.shape), kinds[name.rpartition(".")[0]], first[id(tensor)])
    for path, module in model.named_modules():
        for leaf, tensor in module._buffers.items():
            if tensor is not None and leaf not in module._non_persistent_buffers_set:
                name = f"{path}.{leaf}" if path else leaf
                found[name] = Parameter(name, tuple(tensor.shape), "buffer", name)
    return found


def _module_kind(module: nn.Module) -> ModuleKind:
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, Conv1D):
        return "conv1d"
    if isinstance(module, nn.Embedding):
        return "embedding"
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return "conv" if module.groups == 1 else "depthwise"
    # These have no common base class; by custom they carry the word in their name.
    name = type(module).__name__.lower()
    if "norm" in name and all(p.ndim <= 1 for p in module.parameters(recurse=False)):
        return "norm"
    if name.endswith("experts"):
        return "experts"
    return "router" if name.endswith(("router", "gate", "gating")) else "other"
