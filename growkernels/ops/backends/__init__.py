"""Backends of the ops: one record each, registered in the order in which they are chosen where none is asked for."""

import warnings

from growkernels.ops.backends.cpu import CPU
from growkernels.ops.backends.cuda import CUDA
from growkernels.ops.backends.eager import EAGER
from growkernels.ops.backends.extension import EXTENSION, MISSING, REMEDY
from growkernels.ops.backends.registry import Backend, ops_of, register_backend
from growkernels.ops.backends.triton import TRITON
from growkernels.ops.expand.cost import CPU_RATES, GPU_RATES, Rates

__all__ = ["CPU_RATES", "EAGER", "GPU_RATES", "Backend", "Rates", "ops_of", "register_backend"]

for _backend in (CPU, CUDA, TRITON, EAGER):
    register_backend(_backend)
if EXTENSION is None:
    warnings.warn(
        f"growkernels runs on its slow eager reference: {MISSING}. To use the compiled kernels, {REMEDY}; "
        f"`growkernels doctor` says what is missing.",
        stacklevel=2,
    )
