"""Which implementation runs: the compiled extension, or the eager reference in its place."""

from __future__ import annotations

import os
import warnings
from types import ModuleType
from typing import NamedTuple

import torch
from torch._ops import OpOverload

from growkernels.errors import GrowthError
from growkernels.ops import autograd, eager
from growkernels.ops.schemas import EAGER, LIBRARY

# Without build isolation: an isolated build has no torch to compile against.
REMEDY = "install a C++ compiler and torch, then run `pip install --no-build-isolation .` in the source tree"


class Ops(NamedTuple):
    """The ops of one library."""

    tile_: OpOverload
    tile: OpOverload
    tile_rules_: OpOverload
    replicate_: OpOverload
    replicate: OpOverload
    mean_square: OpOverload
    normal_: OpOverload


def _load_extension() -> tuple[ModuleType | None, str]:
    try:
        from growkernels import _C
    except (ImportError, OSError) as error:
        return None, str(error)
    return _C, ""


#: The compiled extension, or None, and why it could not be loaded.
EXTENSION, EXTENSION_ERROR = _load_extension()

autograd.register()
for _name, _implementation in eager.IMPLEMENTATIONS.items():
    EAGER.impl(_name, _implementation, "CompositeExplicitAutograd")
    if EXTENSION is None:
        LIBRARY.impl(_name, _implementation, "CPU")
if EXTENSION is None:
    warnings.warn(
        f"growkernels runs on its slow eager reference: the compiled extension did not load ({EXTENSION_ERROR}). "
        f"To mend it, {REMEDY}.",
        stacklevel=2,
    )

_CPU = Ops(*(getattr(torch.ops.growkernels, name).default for name in Ops._fields))
_EAGER = Ops(*(getattr(torch.ops.growkernels_eager, name).default for name in Ops._fields))
FORCED = os.environ.get("GROWKERNELS_BACKEND") or None


def ops_of(backend: str | None) -> Ops:
    """The ops of a backend: `"cpu"`, `"eager"`, or None for GROWKERNELS_BACKEND or else what the tensors' device has.

    A forced backend that cannot run raises GrowthError.
    """
    if backend is None:
        backend = FORCED
        if backend is None:
            return _CPU
    if backend == "eager":
        return _EAGER
    if backend == "cpu":
        if EXTENSION is None:
            raise GrowthError(
                f"backend 'cpu' was asked for, but the compiled extension did not load ({EXTENSION_ERROR}); {REMEDY}, "
                f"or choose backend 'eager'"
            )
        return _CPU
    raise GrowthError(
        f"unknown backend {backend!r} (argument backend= or GROWKERNELS_BACKEND); choose 'cpu' or 'eager'"
    )
