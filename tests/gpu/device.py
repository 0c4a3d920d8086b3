"""Where GPU tests run, and with which kernels. Needs torch and nothing else."""

from __future__ import annotations

import os

import torch

CUDA = torch.cuda.is_available()
#: On a machine without a GPU, GROWKERNELS_REHEARSAL=1 runs what can run on the emulated kernels, a few examples of each.
REHEARSAL = not CUDA and os.environ.get("GROWKERNELS_REHEARSAL") == "1"
DEVICE = torch.device("cuda" if CUDA else "cpu")
#: All, or those that GROWKERNELS_GPU_BACKENDS names.
BACKENDS = tuple(os.environ.get("GROWKERNELS_GPU_BACKENDS", "emulated" if REHEARSAL else "cuda triton").split())
#: For how long one test draws seeded examples: Triton compiles for most of them, and a check on a GPU has its limits.
SECONDS = float(os.environ.get("GROWKERNELS_GPU_SECONDS", "inf"))
#: The libraries that stand behind the backends.
NAMESPACES = {"cuda": "growkernels", "triton": "growkernels_triton", "emulated": "growkernels_emulated"}


def examples(count: int) -> int:
    """How many examples a test draws: in a rehearsal a fiftieth, since one CPU thread plays every thread of a GPU."""
    return max(1, count // 50) if REHEARSAL else count
