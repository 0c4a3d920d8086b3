"""Which implementation runs: compiled for CPUs, compiled for CUDA, Triton, or the eager reference."""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload

from growkernels.errors import GrowthError
from growkernels.ops import autograd
from growkernels.ops.backends import eager, triton
from growkernels.ops.expand import dense
from growkernels.ops.expand.products import products_
from growkernels.ops.schemas import EAGER, EMULATED, LIBRARY, TRITON

# Without build isolation: an isolated build has no torch to compile against.
REMEDY = "install a C++ compiler and torch, then run `pip install --no-build-isolation .` in the source tree"
CUDA_REMEDY = "build where nvcc is (`pip install --no-build-isolation .` in the source tree), or install triton"


class Ops(NamedTuple):
    """The ops of one library."""

    tile_: OpOverload
    tile: OpOverload
    tile_rules_: OpOverload
    replicate_: OpOverload
    replicate: OpOverload
    mean_square: OpOverload
    normal_: OpOverload
    expand_: OpOverload
    expand: OpOverload
    expand_backward: OpOverload


def _load_extension() -> tuple[ModuleType | None, str]:
    try:
        from growkernels import _C
    except (ImportError, OSError) as error:
        return None, str(error)
    return _C, ""


#: The compiled extension, or None, and why it could not be loaded.
EXTENSION, EXTENSION_ERROR = _load_extension()
TRITON_INSTALLED = find_spec("triton") is not None
_HAS_CUDA = EXTENSION is not None and EXTENSION.build_info()["cuda"]
#: What runs CUDA tensors, None if nothing does.
CUDA_BACKEND = "cuda" if _HAS_CUDA else "triton" if TRITON_INSTALLED else None
#: Under Triton's interpreter its kernels run on CPU tensors.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _on_huge_pages(tensor: Tensor) -> None:
    EXTENSION.ask_for_huge_pages(tensor.data_ptr(), tensor.nbytes)


autograd.register()
for _name, _implementation in eager.IMPLEMENTATIONS.items():
    EAGER.impl(_name, _implementation, "CompositeExplicitAutograd")
    if EXTENSION is None:
        LIBRARY.impl(_name, _implementation, "CPU")
for _name, _implementation in triton.IMPLEMENTATIONS.items():
    TRITON.impl(_name, _implementation, "CUDA")
    if INTERPRETED:
        TRITON.impl(_name, _implementation, "CPU")
    if CUDA_BACKEND == "triton":
        LIBRARY.impl(_name, _implementation, "CUDA")
if EXTENSION is not None:
    dense.register(LIBRARY, "CPU", gpu=False, fresh=_on_huge_pages, products_=products_)
    dense.register(EMULATED, "CPU", gpu=True, products_=products_)
for _device in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
    dense.register(TRITON, _device, gpu=True)
if CUDA_BACKEND == "triton":
    dense.register(LIBRARY, "CUDA", gpu=True)
elif TRITON_INSTALLED:
    dense.register(LIBRARY, "CUDA", gpu=True, products_=triton.fastest_products_)
else:
    dense.register(LIBRARY, "CUDA", gpu=True, products_=products_)
if EXTENSION is None:
    warnings.warn(
        f"growkernels runs on its slow eager reference: the compiled extension did not load ({EXTENSION_ERROR}). "
        f"To mend it, {REMEDY}.",
        stacklevel=2,
    )


def _ops(namespace: str) -> Ops:
    return Ops(*(getattr(getattr(torch.ops, namespace), name).default for name in Ops._fields))


_DEFAULT = _ops("growkernels")
_LIBRARIES = {
    "cpu": _DEFAULT,
    "cuda": _DEFAULT,
    "triton": _ops("growkernels_triton"),
    "eager": _ops("growkernels_eager"),
    # For tests: the CUDA kernels, every thread of a GPU played by the CPU.
    "emulated": _ops("growkernels_emulated"),
}
#: Types of devices whose tensors a forced backend takes; the reference takes any.
_DEVICES = {
    "cpu": ("cpu",),
    "cuda": ("cuda",),
    "triton": ("cuda", "cpu") if INTERPRETED else ("cuda",),
    "emulated": ("cpu",),
}
FORCED = os.environ.get("GROWKERNELS_BACKEND") or None


def ops_of(backend: str | None, tensor: Tensor) -> Ops:
    """The ops for a tensor like this: of `backend`, or of GROWKERNELS_BACKEND, or else of what its device has.

    backend: "cpu", "cuda", "triton" or "eager". Raises GrowthError for a forced backend that cannot run, and for a device
    that no backend serves.
    """
    backend = backend or FORCED
    if why := refusal(backend, tensor.device.type):
        raise GrowthError(why)
    return _LIBRARIES[backend] if backend else _DEFAULT


def refusal(backend: str | None, device: str) -> str:
    """Why a backend, or any if None, does not take tensors of a type of device, and what to do; empty if it does."""
    if backend is None:
        if device == "cuda" and CUDA_BACKEND is None:
            return f"no fused kernel for CUDA tensors in this installation; {CUDA_REMEDY}, or pass backend='eager'"
        if device not in ("cpu", "cuda", "meta"):
            return f"no fused kernel for {device} tensors; move them to the CPU or pass backend='eager'"
        return ""
    if backend not in _LIBRARIES:
        return (
            f"unknown backend {backend!r} (argument backend= or GROWKERNELS_BACKEND); choose 'cpu', 'cuda', 'triton' or "
            f"'eager'"
        )
    if why := why_not(backend):
        return f"backend {backend!r} was asked for, but {why}, or choose backend 'eager'"
    if device != "meta" and device not in _DEVICES.get(backend, (device,)):
        return (
            f"backend {backend!r} was asked for, but the tensors are on {device}; move them to "
            f"{' or '.join(_DEVICES[backend])}, or choose another backend"
        )
    return ""


def why_not(backend: str) -> str:
    """Why a backend cannot run in this installation, and the remedy; empty if it can."""
    if backend in ("cpu", "cuda", "emulated") and EXTENSION is None:
        return f"the compiled extension did not load ({EXTENSION_ERROR}); {REMEDY}"
    if backend == "cuda" and CUDA_BACKEND != "cuda":
        return f"the extension was built without CUDA; {CUDA_REMEDY} and choose backend 'triton'"
    if backend == "triton" and not TRITON_INSTALLED:
        return "triton is not installed; install it (`pip install triton`)"
    return ""
