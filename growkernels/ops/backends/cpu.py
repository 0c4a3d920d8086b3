"""The compiled kernels for CPUs: the extension registers them in the default namespace when it is loaded."""

from __future__ import annotations

from torch import Tensor

from growkernels.ops.backends.extension import EXTENSION, MISSING, REMEDY
from growkernels.ops.backends.registry import DEFAULT, Backend
from growkernels.ops.expand.cost import CPU_RATES
from growkernels.ops.expand.products import products_


def _why_not() -> str:
    return f"{MISSING}; {REMEDY}" if EXTENSION is None else ""


def _on_huge_pages(tensor: Tensor) -> None:
    assert EXTENSION is not None
    EXTENSION.ask_for_huge_pages(tensor.data_ptr(), tensor.nbytes)


CPU = Backend(
    "cpu",
    devices=("cpu",),
    why_not=_why_not,
    implementations=lambda: {"products_": products_},
    rates=CPU_RATES,
    default_for=("cpu",),
    namespace=DEFAULT,
    fresh=_on_huge_pages,
)
