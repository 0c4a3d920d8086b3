"""growkernels: grow trained models with fused kernels. Importing this package is light; each part loads on first use."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "GrowthError",
    "LearnedGrowth",
    "__version__",
    "grow_checkpoint",
    "grow_model",
    "load_grown",
    "ops",
    "plan",
    "verify",
]

_HOME = {
    "GrowthError": "growkernels.errors",
    "LearnedGrowth": "growkernels.learning",
    "grow_checkpoint": "growkernels.api",
    "grow_model": "growkernels.live",
    "load_grown": "growkernels.live",
}
_SUBMODULES = ("ops", "plan", "verify")


class _CallableModule(ModuleType):
    """A module that shares its name with the function of `growkernels.api` that is its main use."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module("growkernels.api"), name)(*args, **kwargs)


class _Package(ModuleType):
    # The import system sets a submodule as an attribute of its package: that is where `growkernels.plan` and
    # `growkernels.verify`, both modules and functions of the public interface, become both.
    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("plan", "verify") and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"growkernels.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'growkernels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
