"""growkernels: grow trained models with fused kernels. Importing this package is light; each part loads on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from growkernels import ops, optim
    from growkernels.api import Report, grow_checkpoint, plan
    from growkernels.errors import GrowthError
    from growkernels.freezing import freeze_old
    from growkernels.integrations.trainer import GrowthCallback
    from growkernels.layouts import declare_layout, register_family
    from growkernels.learning import Fit, LearnedGrowth
    from growkernels.live import grow_model, load_grown
    from growkernels.masks import GrowthMask
    from growkernels.optim.schedule import GrowthSchedule
    from growkernels.options import GrowthOptions
    from growkernels.plans import Plan
    from growkernels.verification import Verification, verify

__version__ = "0.1.0"

__all__ = [
    "Fit",
    "GrowthCallback",
    "GrowthError",
    "GrowthMask",
    "GrowthOptions",
    "GrowthSchedule",
    "LearnedGrowth",
    "Plan",
    "Report",
    "Verification",
    "__version__",
    "declare_layout",
    "freeze_old",
    "grow_checkpoint",
    "grow_model",
    "load_grown",
    "ops",
    "optim",
    "plan",
    "register_family",
    "verify",
]

_HOME = {
    "Fit": "growkernels.learning",
    "GrowthCallback": "growkernels.integrations.trainer",
    "GrowthError": "growkernels.errors",
    "GrowthMask": "growkernels.masks",
    "GrowthOptions": "growkernels.options",
    "GrowthSchedule": "growkernels.optim.schedule",
    "LearnedGrowth": "growkernels.learning",
    "Plan": "growkernels.plans",
    "Report": "growkernels.api",
    "Verification": "growkernels.verification",
    "declare_layout": "growkernels.layouts",
    "freeze_old": "growkernels.freezing",
    "grow_checkpoint": "growkernels.api",
    "grow_model": "growkernels.live",
    "load_grown": "growkernels.live",
    "plan": "growkernels.api",
    "register_family": "growkernels.layouts",
    "verify": "growkernels.verification",
}


def __getattr__(name: str) -> Any:
    if name in ("ops", "optim"):
        return import_module(f"growkernels.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'growkernels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
