"""growkernels: grow trained models with fused kernels. Importing this package is light; each part loads on first use."""

from __future__ import annotations

from importlib import import_module
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
    "plan": "growkernels.api",
    "verify": "growkernels.api",
}


def __getattr__(name: str) -> Any:
    if name == "ops":
        return import_module("growkernels.ops")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'growkernels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
