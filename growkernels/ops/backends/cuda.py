"""The compiled kernels for CUDA: the extension registers them in the default namespace when it is loaded."""

from __future__ import annotations

from collections.abc import Callable

from growkernels.ops.backends.extension import CUDA_REMEDY, EXTENSION, MISSING, REMEDY
from growkernels.ops.backends.registry import DEFAULT, Backend
from growkernels.ops.backends.triton import TRITON
from growkernels.ops.expand.cost import GPU_RATES
from growkernels.ops.expand.products import products_
from growkernels.ops.expand.triton import fastest_products_


def _why_not() -> str:
    if EXTENSION is None:
        return f"{MISSING}; {REMEDY}"
    if not EXTENSION.build_info()["cuda"]:
        return f"the extension was built without CUDA; {CUDA_REMEDY} and choose backend 'triton'"
    return ""


def _implementations() -> dict[str, Callable[..., None]]:
    return {"products_": products_ if TRITON.why_not() else fastest_products_}


CUDA = Backend(
    "cuda",
    devices=("cuda",),
    why_not=_why_not,
    implementations=_implementations,
    rates=GPU_RATES,
    default_for=("cuda",),
    namespace=DEFAULT,
)
